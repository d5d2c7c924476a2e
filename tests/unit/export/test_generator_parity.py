"""Parity of a generator's formats, on answers made by hand: what passes, what does not, and what is told."""

import math
from collections.abc import Sequence

import pytest

from export.generator.parity import TOLERANCES, FormatParity, measure_parity
from export.generator.reference import Decoded, Prompt
from triton_models.generator.engine.model import Precision
from twinline.contract.errors import SettingsError

PROMPTS = [(1, 2), (3,)]
EXPECTED = [Decoded((5, 6, 7), (-0.5, -0.25, -1.0)), Decoded((8, 2), (-0.125, -0.0625))]


class Written:
    """A reference whose answers and margins are written down."""

    def __init__(self, margin: float) -> None:
        self._margin, self.asked = margin, list[tuple[list[int], int, int]]()

    def decode(self, prompts: Sequence[Prompt], max_tokens: int, stop_ids: frozenset[int]) -> list[Decoded]:
        return EXPECTED[: len(prompts)]

    def margin(self, before: Prompt, chosen: int, other: int) -> float:
        self.asked.append((list(before), chosen, other))
        return self._margin


def measured(found: list[Decoded], precision: Precision = "bf16", margin: float = 0.1) -> tuple[FormatParity, Written]:
    reference = Written(margin)
    return measure_parity("it", precision, PROMPTS, reference, lambda *_: found, 3, frozenset({2})), reference


def test_equal_answers_pass_in_every_precision() -> None:
    for precision in TOLERANCES:
        figure, _ = measured(EXPECTED, precision)
        assert figure.passed
        assert (figure.equal, figure.tokens, figure.flips_per_1000, figure.first_divergence) == (2, 5, 0.0, None)


def test_another_id_is_a_flip_whose_margin_the_reference_tells() -> None:
    figure, reference = measured([Decoded((5, 9, 9), (-0.5, -0.3, -9.0)), EXPECTED[1]])
    assert reference.asked == [([1, 2, 5], 6, 9)]
    assert (figure.equal, figure.tokens, figure.first_divergence, figure.worst_prompt) == (1, 4, 1, 0)
    assert figure.flips_per_1000 == 250
    # after the divergence nothing is compared
    assert figure.worst == 0
    assert figure.passed
    assert "1 of 2 answers equal, the first at token 1; 250.0 flips in 1,000" in figure.summary()


@pytest.mark.parametrize(
    ("found", "precision", "margin"),
    [
        # a flip in fp32
        ([Decoded((5, 9), (-0.5, -0.3)), EXPECTED[1]], "fp32", 1e-6),
        # a flip against a clear preference
        ([Decoded((5, 9), (-0.5, -0.3)), EXPECTED[1]], "bf16", 1.1),
        ([Decoded((5, 9), (-0.5, -0.3)), EXPECTED[1]], "bf16", math.nan),
        ([Decoded((5, 9), (-0.5, -0.3)), EXPECTED[1]], "bf16", -0.6),
        # the same ids by another probability
        ([Decoded((5, 6, 7), (-0.5, -0.25, -1.6)), EXPECTED[1]], "bf16", 0),
        ([Decoded((5, 6, 7), (-0.5, -0.25, -1.002)), EXPECTED[1]], "fp32", 0),
        ([Decoded((5, 6, 7), (-0.5, math.nan, -1.0)), EXPECTED[1]], "int8", 0),
        ([Decoded((5, 6, 7), (-0.5, -math.inf, -1.0)), EXPECTED[1]], "int8", 0),
        # one answer stops where the other goes on
        ([Decoded((5, 6), (-0.5, -0.25)), EXPECTED[1]], "bf16", 0),
        ([Decoded((5, 6, 7, 8), (-0.5, -0.25, -1.0, -1.0)), EXPECTED[1]], "bf16", 0),
        ([Decoded((), ()), EXPECTED[1]], "int8", 0),
    ],
)
def test_what_no_tolerance_covers_does_not_pass(found: list[Decoded], precision: Precision, margin: float) -> None:
    figure, _ = measured(found, precision, margin)
    assert not figure.passed
    assert "OVER the tolerance" in figure.summary()
    assert figure.worst_prompt == 0


def test_parity_without_prompts_is_refused() -> None:
    with pytest.raises(SettingsError, match="no prompts"):
        measure_parity("it", "fp32", [], Written(0), lambda *_: [], 3, frozenset())
