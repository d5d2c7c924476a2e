"""Why a document was or was not found: the types of an explanation, and the decision from what was read.

The decision goes from the index to the answer, and the first that holds is the reason: not in the index, left out by a condition,
in the answer, ranked below it, passed over by the approximate index, or not among the chunks that either side lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, TypeAdapter

from twinline.contract.documents.records import MAX_NAME_CHARS, Version
from twinline.search.results import Mode, Question, Side

State = Literal["absent", "deleted", "incomplete", "stored"]
Why = Literal[
    "absent", "deleted", "incomplete", "filtered", "hit", "copy", "below", "no_word", "passed_over", "not_listed"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """A document by its key; the source may be left out where one source alone has such a key."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    key: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS, description="Key of the document.")]
    source: Annotated[str | None, Field(min_length=1, max_length=MAX_NAME_CHARS, description="Its source.")] = None


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """A question as it is searched with, and the document that is asked after."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    question: Question
    document: Wanted


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """A chunk of the document, and its place among all chunks that the question's conditions leave.

    `rank` counts the chunks that score higher, plus one. It is None where more score higher than were counted, or where the chunk
    shares no word.
    """

    point: UUID
    index: int
    start: int
    end: int
    text: str
    dense: Side | None = None
    words: Side | None = None


@dataclass(frozen=True, slots=True)
class Term:
    """A term of the query: its rarity, a rare name's 1,024 higher, and what it adds to the best chunk's score by words, or 0."""

    term: str
    rarity: int
    adds: int


@dataclass(frozen=True, slots=True)
class Last:
    """The last hit of the answer, which a document must outrank to be found."""

    rank: int
    source: str
    key: str
    score: float
    dense: Side | None
    words: Side | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The messages of the log that the release's consumer has not committed.

    Attributes:
        messages: of all documents.
        newest: partition and offset of the last one of this document; None where none waits.
        complete: whether all of them were looked at.
    """

    messages: int
    newest: tuple[int, int] | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a document was or was not found by a question.

    Attributes:
        why: the reason as a word; `reason` says it in a sentence, `remedy` what to do, empty where nothing is wrong.
        rank: the place of its hit in the answer, or of the hit that it is listed under.
        conditions: those of the question that leave it out.
        score: its score under the release's fusion, had its best chunk been listed; as `Hit.score`.
        best: the chunk that ranks first under the fusion.
        nearest: the chunk that is nearest by the cosine; None in mode `words`.
        terms: of the query, the rarest first; none in a release without words.
        last: the last hit of the answer.
        waiting: what the log holds beyond the index; None where it was not asked, and `log` says why.
    """

    query: str
    release: str
    collection: str
    mode: Mode
    note: str
    source: str | None
    key: str
    state: State
    why: Why
    reason: str
    remedy: str
    title: str = ""
    version: Version | None = None
    chunks: int = 0
    rank: int | None = None
    conditions: Sequence[str] = ()
    score: float | None = None
    best: ChunkPlace | None = None
    nearest: ChunkPlace | None = None
    terms: Sequence[Term] = ()
    last: Last | None = None
    waiting: Waiting | None = None
    log: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read about a document and an answer.

    Attributes:
        expected: its chunks by its head; `chunks` are stored.
        conditions: those that leave it out, as they are said.
        hit: the rank of its hit; `under`: the rank of the hit that lists it as a copy.
        listed: whether a side listed one of its chunks; `listed_exactly`: whether one would, compared with every chunk.
        shares_words: whether one of its chunks has a word of the question.
        score: under the fusion; `last_score`: of the last hit.
        reach: the chunks that each side lists.
    """

    state: State
    mode: Mode
    limit: int
    reach: int
    name: str
    collection: str
    expected: int = 0
    chunks: int = 0
    conditions: Sequence[str] = ()
    hit: int | None = None
    under: int | None = None
    listed: bool = False
    listed_exactly: bool = False
    shares_words: bool = False
    score: float | None = None
    last_score: float | None = None


def decide(facts: Facts) -> tuple[Why, str, str]:
    """Return the reason as a word, as a sentence, and what to do; empty where nothing is wrong."""
    name = facts.name
    if facts.state == "absent":
        return (
            "absent",
            f"{name} is not in {facts.collection}: it was never published, it was erased, or its message was set aside",
            "See `twinline dead-letters list`, or publish it: `twinline publish`.",
        )
    if facts.state == "deleted":
        return "deleted", f"{name} was deleted", "Publish it again, with a later version, if it should be found."
    if not facts.chunks:
        return (
            "incomplete",
            f"of {name} none of {facts.expected} chunks is stored",
            "It is being indexed: ask again. If that lasts: `twinline reconcile --repair`.",
        )
    if facts.conditions:
        return "filtered", f"{name} is left out by {' and '.join(facts.conditions)}", "Ask without that condition."
    if facts.hit is not None:
        return "hit", f"{name} is hit no. {facts.hit}", ""
    if facts.under is not None:
        return (
            "copy",
            f"{name} says what hit no. {facts.under} says, and is listed under it",
            "Ask with `group` false to see both.",
        )
    return _not_in_the_answer(facts)


def _not_in_the_answer(facts: Facts) -> tuple[Why, str, str]:
    name = facts.name
    if facts.listed:
        lacks = "" if facts.score is None or facts.last_score is None else f", it lacks {facts.last_score - facts.score:.4g}"
        return (
            "below",
            f"{name} ranks below the last of {facts.limit} hits{lacks}",
            "Raise `limit`, or ask with words that it has.",
        )
    if facts.mode == "words" and not facts.shares_words:
        return (
            "no_word",
            f"{name} has no word of the question",
            "Ask with a word that it has, or by meaning: mode `hybrid` or `dense`.",
        )
    if facts.listed_exactly:
        return (
            "passed_over",
            f"{name} is among the first {facts.reach} chunks of a side, and the approximate index passed over it",
            "Ask with `exact`; raise `ef_search` (`python -m bench index` shows what that costs).",
        )
    return (
        "not_listed",
        f"{name} is not among the first {facts.reach} chunks that either side lists",
        "Ask with words that it has; compare its words and its nearest chunk below.",
    )


# One adapter writes and reads the JSON, so service and command line agree.
EXPLANATION: Final = TypeAdapter(Explanation)
