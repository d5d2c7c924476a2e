"""Golden prompts with their ids, stored with each release and compared at every hop; later with what its generator answers.

Ids must be equal everywhere. Greedy ids and log-probabilities are those of the training framework in float32.
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from twinline.contract.answers.golden_prompts import Conversation, golden_prompts
from twinline.contract.answers.messages import Message
from twinline.contract.answers.packaged_model import PACKAGED_FOLDER
from twinline.contract.answers.passages import Passage
from twinline.contract.answers.prompt import build_prompt
from twinline.contract.answers.specification import AnswerContract
from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.canonical import JSON
from twinline.contract.errors import DocumentError, MismatchError

GOLDEN_PROMPTS_SCHEMA: Final = 1
GOLDEN_PROMPTS_FILE: Final = "golden_prompts.json"
PACKAGED_PROMPTS: Final = PACKAGED_FOLDER / "golden_prompts.json.gz"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A greedy answer under the mask, in float32.

    Attributes:
        ids: the stop id included, if one was reached.
        log_probabilities: of each id among all ids.
        masked_log_probabilities: of each id among those that the mask allows.
        margins: log-probability of each id minus that of the next best allowed one; None where only one was allowed.
        refusal: log-probability of the refusal's first id among all ids, at the first step.
    """

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    masked_log_probabilities: tuple[float, ...]
    margins: tuple[float | None, ...]
    refusal: float


@dataclass(frozen=True, slots=True)
class GoldenPrompt:
    """One conversation, and its ids; `refused` is the reason where there is no prompt. `decoded` is None until it is computed."""

    conversation: Conversation
    ids: tuple[int, ...]
    refused: str = ""
    decoded: Decoded | None = None


@dataclass(frozen=True, slots=True)
class GoldenPrompts:
    """The golden prompts of one prompt contract, named by its fingerprint."""

    contract: str
    entries: tuple[GoldenPrompt, ...]

    def to_bytes(self) -> bytes:
        """Return the JSON form, the same bytes for the same prompts."""
        entries: list[JSON] = [
            {
                "name": entry.conversation.name,
                "question": entry.conversation.question,
                "history": [asdict(message) for message in entry.conversation.history],
                "passages": [each.to_json() for each in entry.conversation.passages],
                "ids": list(entry.ids),
                "refused": entry.refused,
                "decoded": None if entry.decoded is None else asdict(entry.decoded),
            }
            for entry in self.entries
        ]
        value = {"schema": GOLDEN_PROMPTS_SCHEMA, "contract": self.contract, "prompts": entries}
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes, place: str) -> "GoldenPrompts":
        """Read the form of `to_bytes`.

        Raises:
            MismatchError: another schema, or no golden prompts.
        """
        try:
            value: dict[str, Any] = json.loads(content)
            if value["schema"] != GOLDEN_PROMPTS_SCHEMA:
                raise MismatchError(f"{place}: schema is {value['schema']!r}, this code reads {GOLDEN_PROMPTS_SCHEMA}")
            return cls(value["contract"], tuple(_entry(entry, place) for entry in value["prompts"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise MismatchError(f"{place}: no golden prompts of schema {GOLDEN_PROMPTS_SCHEMA}: {exc!r}") from exc


def make_golden_prompts(
    contract: AnswerContract, tokenizer: AnswerTokenizer, conversations: Iterable[Conversation] | None = None
) -> GoldenPrompts:
    """Return the golden prompts of a contract, not decoded yet."""
    given = golden_prompts() if conversations is None else conversations
    entries = (GoldenPrompt(each, *_made(contract, tokenizer, each)) for each in given)
    return GoldenPrompts(contract.fingerprint, tuple(entries))


def read_golden_prompts(folder: Path) -> GoldenPrompts:
    """Read `golden_prompts.json` of a release.

    Raises:
        MismatchError: it is missing or of another schema.
    """
    place = folder / GOLDEN_PROMPTS_FILE
    try:
        return GoldenPrompts.from_bytes(place.read_bytes(), str(place))
    except FileNotFoundError as exc:
        raise MismatchError(f"{place} is missing: {folder} is no release of a generator; fetch it again") from exc


@lru_cache(maxsize=1)
def packaged_golden_prompts() -> GoldenPrompts:
    """Return the golden prompts of the packaged generator, which lie in this package."""
    return GoldenPrompts.from_bytes(gzip.decompress(PACKAGED_PROMPTS.read_bytes()), str(PACKAGED_PROMPTS))


def check_golden_prompts(golden: GoldenPrompts, contract: AnswerContract, tokenizer: AnswerTokenizer, place: str) -> None:
    """Make every golden prompt again and compare it with the stored ids.

    Raises:
        MismatchError: this process makes other ids, or the prompts are of another contract.
    """
    if golden.contract != contract.fingerprint:
        raise MismatchError(
            f"{place}: the golden prompts are of the prompt contract {golden.contract[:12]}, the contract is "
            f"{contract.fingerprint[:12]}: make them again"
        )
    for entry in golden.entries:
        ids, refused = _made(contract, tokenizer, entry.conversation)
        if (ids, refused) != (entry.ids, entry.refused):
            at = _first_difference(ids, entry.ids)
            raise MismatchError(
                f"{place}: golden prompt {entry.conversation.name!r} has {len(ids)} ids here ({refused or 'not refused'}), "
                f"{len(entry.ids)} in the release ({entry.refused or 'not refused'}); they part at {at}: "
                f"{list(ids[at : at + 6])} against {list(entry.ids[at : at + 6])}. Install the versions that constraints.txt "
                "names, or build a new release"
            )


def _made(contract: AnswerContract, tokenizer: AnswerTokenizer, conversation: Conversation) -> tuple[tuple[int, ...], str]:
    try:
        prompt = build_prompt(contract, tokenizer, conversation.question, conversation.history, conversation.passages)
    except DocumentError as exc:
        return (), exc.reason
    return prompt.ids, ""


def _entry(value: dict[str, Any], place: str) -> GoldenPrompt:
    decoded = value["decoded"]
    return GoldenPrompt(
        Conversation(
            value["name"],
            value["question"],
            tuple(Message(**message) for message in value["history"]),
            tuple(Passage.from_json(each, place) for each in value["passages"]),
        ),
        tuple(value["ids"]),
        value["refused"],
        None if decoded is None else _decoded(decoded),
    )


def _decoded(value: dict[str, Any]) -> Decoded:
    lists = ("ids", "log_probabilities", "masked_log_probabilities", "margins")
    return Decoded(**{**value, **{name: tuple(value[name]) for name in lists}})


def _first_difference(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
