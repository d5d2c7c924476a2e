"""The types of the search API, questions and results, light enough for any program to import.

`Question` is the one list of search fields: the API's body and address, the admin API, both clients and `twinline search`
derive from it or are tested against it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, TypeAdapter

from twinline.contract.documents.records import MAX_NAME_CHARS, Version
from twinline.contract.encoder.limits import MAX_QUERY_CHARS
from twinline.search.filters import Filters

MAX_HITS: Final = 100
Mode = Literal["hybrid", "dense", "words"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and where to look for its answer. Limits hold where it comes from outside; an unknown field is refused."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS, description="In your own words.")]
    limit: Annotated[int, Field(ge=1, le=MAX_HITS, description="How many documents at most.")] = 10
    tenant: Annotated[str | None, Field(max_length=MAX_NAME_CHARS, description="Only documents of this tenant.")] = None
    source: Annotated[str | None, Field(max_length=MAX_NAME_CHARS, description="Only documents of this source.")] = None
    exact: Annotated[bool, Field(description="Compare with every vector instead of using the index: slow, for checks.")] = False
    mode: Annotated[
        Mode,
        Field(description="Search by vectors and words, as the release was made to; by vectors alone; or by words alone."),
    ] = "hybrid"
    group: Annotated[
        bool,
        Field(description="Documents that say the same are one hit, the others listed under it; false: each is a hit."),
    ] = True
    where: Annotated[
        Filters | None,
        Field(description='Only documents that meet all of these: {"metadata.team": "red", "metadata.year": {"gte": 2020}}.'),
    ] = None


@dataclass(frozen=True, slots=True)
class HitChunk:
    """The chunk that made its document a hit; `start` and `end` are code points into the document's raw text."""

    index: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class KafkaPlace:
    """The place in the log of the indexed version of the document, and when the log received it."""

    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Lineage:
    """The lineage of a hit: the document's way into the index, and the encoder's way into service.

    `ingest` comes from the producer (source hash, run, Git revision), `training` from the release's manifest.
    """

    release: str
    space: str
    contract: str
    kafka: KafkaPlace
    content_hash: str
    ingest: Mapping[str, Any]
    training: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Side:
    """The place of a chunk by one side: its rank among the candidates, from 1, and its score.

    By vectors the score is the cosine; by words, the sum over common terms of rarity times saturation, a whole number.
    """

    rank: int | None
    score: float


@dataclass(frozen=True, slots=True)
class Copy:
    """A document whose best chunk says what its hit's chunk says: equal, or near it by `contract.documents.sameness`."""

    source: str
    key: str
    title: str
    version: Version
    point: UUID
    place: KafkaPlace


@dataclass(frozen=True, slots=True)
class Hit:
    """One document, shown by its best chunk; `highlights` are code point ranges of `chunk.text`.

    `score` orders the hits of one answer: the cosine in mode `dense`, the words' sum in mode `words`, the fused score in mode
    `hybrid` (0 to 1 by the rule `scores`). `dense` and `words` are the chunk's places by either side, None where it has none.
    `point` is the id that `twinline trace` takes. `copies` are the documents that say the same and were ranked below this one,
    newest first by the log's time.
    """

    point: UUID
    source: str
    key: str
    title: str
    score: float
    chunk: HitChunk
    highlights: Sequence[tuple[int, int]]
    version: Version
    metadata: Mapping[str, Any]
    tenant: str | None
    lineage: Lineage
    dense: Side | None = None
    words: Side | None = None
    copies: Sequence[Copy] = ()


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds spent on one question."""

    embed_ms: float
    search_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of one question, best first, and the release that found them.

    `mode` is how they were found, which may be less than what was asked for: `note` then says why.
    """

    query: str
    release: str
    space: str
    collection: str
    hits: Sequence[Hit]
    timings: Timings
    mode: Mode = "dense"
    note: str = ""


# One adapter writes and reads the JSON, so service and client agree.
RESULT: Final = TypeAdapter(SearchResult)
