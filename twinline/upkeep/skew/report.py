"""The results of a measurement of skew: plain values, for a table, for JSON and for tests."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal, TypeAlias

from twinline.contract.canonical import JSON
from twinline.contract.errors import TwinlineError
from twinline.upkeep.skew.drift import DriftReport

State: TypeAlias = Literal["ok", "broken", "not run"]
LIVE_SAMPLE: Final = "live sample"


class CannotRunError(TwinlineError):
    """A hop's dependency is not on this machine; the hop is neither right nor wrong."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop, and its results for the golden texts.

    Attributes:
        detail: the fault, or why the hop was not run.
        texts: how many golden texts went through.
        other_ids: how many of them have other token ids, another token count or another flag of truncation.
        worst, median, limit: cosine distances to the training framework's vectors; None where a hop gives none.
        worst_text: the golden text with the worst distance, or the first with other token ids.
    """

    name: str
    state: State
    detail: str = ""
    texts: int = 0
    other_ids: int = 0
    worst: float | None = None
    median: float | None = None
    limit: float | None = None
    worst_text: str = ""


@dataclass(frozen=True, slots=True)
class SampleReport:
    """Stored documents against the offline path, from the raw message of the log to the vector.

    Attributes:
        documents: how many were chosen; `compared` of them, and those left out: `expired` from the log, `moved` on meanwhile.
        chunks: of the compared documents.
        spans, tokens, vectors: how many of these chunks agree in span and clean text, in token count and content hash, in vector.
        worst, median, limit: cosine distances; None without a chunk.
        worst_document: the document with the worst distance.
        faults: the first documents that do not agree, with the differences.
        words: how many of the chunks agree in terms and weights; None in a release without words.
    """

    documents: int
    compared: int
    expired: int
    moved: int
    chunks: int
    spans: int
    tokens: int
    vectors: int
    worst: float | None
    median: float | None
    limit: float
    worst_document: str
    faults: tuple[str, ...]
    words: int | None = None

    @property
    def agreeing(self) -> Mapping[str, int]:
        """Return how many of the compared chunks agree, by property."""
        found = {"spans": self.spans, "tokens": self.tokens, "vectors": self.vectors}
        return found if self.words is None else {**found, "words": self.words}

    @property
    def ok(self) -> bool:
        """Return whether every compared chunk agrees in everything."""
        return not self.faults and all(number == self.chunks for number in self.agreeing.values())

    def share(self, agreeing: int) -> float:
        """Return the share of the compared chunks; 1 where there are none."""
        return agreeing / self.chunks if self.chunks else 1.0

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form, shares included."""
        shares = {f"{name}_share": self.share(number) for name, number in self.agreeing.items()}
        return {**_finite(asdict(self)), **shares, "ok": self.ok}


@dataclass(frozen=True, slots=True)
class SkewReport:
    """One measurement. `sample` is None when it was not possible, for the reason `sample_reason`; drift is no skew."""

    release: str
    space: str
    contract: str
    hops: tuple[Hop, ...]
    sample: SampleReport | None = None
    sample_reason: str = ""
    drift: DriftReport | None = None
    # Where training differed from serving by a person's choice: no fault, and never left unsaid.
    deviations: tuple[str, ...] = ()

    @property
    def broken_hop(self) -> str | None:
        """Return the first broken hop, where the fault enters; the sample comes after all hops."""
        first = next((hop.name for hop in self.hops if hop.state == "broken"), None)
        return first or (LIVE_SAMPLE if self.sample is not None and not self.sample.ok else None)

    @property
    def ok(self) -> bool:
        """Return whether no hop broke."""
        return self.broken_hop is None

    def sentence(self) -> str:
        """Return the result in one sentence."""
        if self.broken_hop is not None:
            return f"skew in release {self.release}, first at hop `{self.broken_hop}`: {self._first_fault()}"
        ran = sum(hop.state == "ok" for hop in self.hops)
        left_out = [hop.name for hop in self.hops if hop.state == "not run"]
        also = f"; not run: {', '.join(left_out)}" if left_out else ""
        compared = (
            f", and {self.sample.compared} of {self.sample.documents} sampled documents with the offline path"
            if self.sample
            else ""
        )
        deviating = f"; named deviation: {'; '.join(self.deviations)}" if self.deviations else ""
        return f"no skew in release {self.release}: {ran} hops agree with its golden texts{compared}{also}{deviating}"

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form; a distance that is no finite number is null."""
        return {
            "release": self.release,
            "space": self.space,
            "contract": self.contract,
            "ok": self.ok,
            "broken_hop": self.broken_hop,
            "sentence": self.sentence(),
            "deviations": list(self.deviations),
            "hops": [_finite(asdict(hop)) for hop in self.hops],
            "sample": self.sample.to_json() if self.sample else {"reason": self.sample_reason},
            "drift": dict(self.drift.to_json()) if self.drift else None,
        }

    def _first_fault(self) -> str:
        broken = next((hop for hop in self.hops if hop.state == "broken"), None)
        if broken is not None:
            return broken.detail
        return "; ".join(self.sample.faults) if self.sample else ""


def _finite(value: Mapping[str, JSON]) -> dict[str, JSON]:
    # JSON has no infinity, which stands for a NaN or a vector of another shape; the detail says which.
    return {name: None if isinstance(field, float) and not math.isfinite(field) else field for name, field in value.items()}
