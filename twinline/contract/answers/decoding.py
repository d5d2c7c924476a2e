"""Decoding settings of one request: the contract's, and the parameters that it lets a request choose."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from twinline.contract.answers.specification import AnswerContract
from twinline.contract.documents.strict_json import short
from twinline.contract.errors import DocumentError

_WHOLE = ("max_tokens", "top_k", "seed")


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """Settings of one answer; `temperature` 0 is greedy, `top_k` 0 and `top_p` 1 leave nothing out."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int


def decoding_settings(contract: AnswerContract, request: Mapping[str, object]) -> DecodingSettings:
    """Return the settings of a request; one without parameters gets the contract's.

    Raises:
        DocumentError: a parameter that the contract does not allow, or a value out of its range (`wrong_parameter`).
    """
    decoding = contract.decoding
    chosen: dict[str, float] = {
        "max_tokens": contract.budgets.answer,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": decoding.top_k,
        "seed": 0,
    }
    ranges = {each.name: each for each in decoding.request}
    for name, value in request.items():
        if name not in ranges:
            raise DocumentError(
                "wrong_parameter", f"the release lets a request choose {', '.join(sorted(ranges))}, not {name!r}: leave it out"
            )
        least, most = ranges[name].least, ranges[name].most
        wanted = "a whole number" if name in _WHOLE else "a number"
        is_number = isinstance(value, int) or (isinstance(value, float) and name not in _WHOLE and math.isfinite(value))
        if isinstance(value, bool) or not is_number or not least <= value <= most:  # type: ignore[operator]  # a number
            raise DocumentError("wrong_parameter", f"{name} is {short(value)}, must be {wanted} from {least} to {most}")
        chosen[name] = value  # type: ignore[assignment]  # a number
    return DecodingSettings(
        max_tokens=int(chosen["max_tokens"]),
        temperature=float(chosen["temperature"]),
        top_p=float(chosen["top_p"]),
        top_k=int(chosen["top_k"]),
        seed=int(chosen["seed"]),
    )
