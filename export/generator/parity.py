"""Parity: a format's greedy answers against the training framework's. fp32 gives the same ids, a lower precision nearly so.

A lower precision may take another token where two are nearly equal. After that the two answers have nothing more to compare. Up
to there each log-probability must be near, and the reference's own margin between the two tokens must be small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from export.generator.reference import Decode, Decoded, Prompt
from triton_models.generator.engine.model import Precision
from twinline.contract.errors import SettingsError

# The largest difference of a log-probability up to the first divergence; twice what SmolLM2-135M shows.
TOLERANCES: Final[Mapping[Precision, float]] = {"fp32": 1e-3, "bf16": 0.25, "int8": 0.5}


class Reference(Protocol):
    """The model that a format is compared with."""

    def decode(self, prompts: Sequence[Prompt], max_tokens: int, stop_ids: frozenset[int]) -> Sequence[Decoded]:
        """Return the greedy answer of each prompt."""

    def margin(self, before: Prompt, chosen: int, other: int) -> float:
        """Return by how much the log-probability of `chosen` exceeds that of `other` after the ids `before`."""


@dataclass(frozen=True, slots=True)
class FormatParity:
    """One format's greedy answers beside the reference's.

    Args:
        name: of the format.
        precision: of the format; it decides what is demanded.
        prompts: how many were decoded.
        equal: how many answers have the reference's ids.
        tokens: compared, up to the first divergence of each answer and with it.
        worst: largest difference of a log-probability up to the first divergence.
        widest_margin: largest margin of the reference at a first divergence.
        first_divergence: the earliest token, counted from 0, at which an answer differs; None: none does.
        worst_prompt: number of the prompt that is furthest off.
    """

    name: str
    precision: Precision
    prompts: int
    equal: int
    tokens: int
    worst: float
    widest_margin: float
    first_divergence: int | None
    worst_prompt: int

    @property
    def tolerance(self) -> float:
        """Return the largest difference of a log-probability that this precision allows."""
        return TOLERANCES[self.precision]

    @property
    def flips_per_1000(self) -> float:
        """Return the rate at which a token differs from the reference's after the same beginning."""
        return 1000 * (self.prompts - self.equal) / self.tokens

    @property
    def passed(self) -> bool:
        """Return whether the format may be served; in fp32 no id may differ. NaN never passes."""
        if self.precision == "fp32" and self.equal < self.prompts:
            return False
        # Two log-probabilities may each be off by the tolerance, in opposite directions.
        return self.worst <= self.tolerance and self.widest_margin <= 2 * self.tolerance

    def summary(self) -> str:
        """Return the result in one line."""
        first = "" if self.first_divergence is None else f", the first at token {self.first_divergence}"
        return (
            f"{self.name}: {self.equal} of {self.prompts} answers equal{first}; {self.flips_per_1000:.1f} flips in 1,000 of "
            f"{self.tokens} tokens; log-probabilities at most {self.worst:.2e} off, margin of a flip at most "
            f"{self.widest_margin:.2e}, {'within' if self.passed else 'OVER'} the tolerance {self.tolerance:.0e} of "
            f"{self.precision}; worst is prompt {self.worst_prompt}"
        )


def measure_parity(
    name: str,
    precision: Precision,
    prompts: Sequence[Prompt],
    reference: Reference,
    decode: Decode,
    max_tokens: int,
    stop_ids: frozenset[int],
) -> FormatParity:
    """Decode every prompt in both, and compare.

    Raises:
        SettingsError: there are no prompts.
    """
    if not prompts:
        raise SettingsError("parity has no prompts: give it the golden prompts of the release")
    expected = reference.decode(prompts, max_tokens, stop_ids)
    found = decode(prompts, max_tokens, stop_ids)
    equal = tokens = worst_prompt = 0
    worst = widest = 0.0
    divergences = []
    for number, (prompt, one, other) in enumerate(zip(prompts, expected, found, strict=True)):
        same = _common(one.ids, other.ids)
        pairs = zip(one.log_probabilities[:same], other.log_probabilities[:same], strict=True)
        off = [_difference(here, there) for here, there in pairs]
        margin = 0.0
        if one.ids == other.ids:
            equal += 1
        else:
            divergences.append(same)
            margin = _margin(reference, prompt, one, other, same)
        tokens += same + (one.ids != other.ids)
        if max(off, default=0.0) > worst or margin / 2 > max(worst, widest / 2):
            worst_prompt = number
        worst, widest = max(worst, *off, 0.0), max(widest, margin)
    return FormatParity(name, precision, len(prompts), equal, tokens, worst, widest, min(divergences, default=None), worst_prompt)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _margin(reference: Reference, prompt: Prompt, one: Decoded, other: Decoded, same: int) -> float:
    if same in (len(one.ids), len(other.ids)):
        # The same tokens, and one of the two goes on: no nearness explains that.
        return float("inf")
    return _difference(reference.margin([*prompt, *one.ids[:same]], one.ids[same], other.ids[same]), 0.0)


def _difference(one: float, other: float) -> float:
    # NaN is neither larger nor smaller than anything; infinity is the worst value.
    off = abs(one - other)
    return off if off == off else float("inf")
