"""The baseline of one's own questions: a file that a project commits, and the comparison of a later run with it.

too few comparable questions       undecided
difference surely above -margin    not worse
else                               worse
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from twinline.contract.canonical import JSON, canonical_json
from twinline.contract.errors import ContractError, SettingsError
from twinline.scoring.first_ten import METRICS
from twinline.scoring.intervals import Interval, paired_bootstrap
from twinline.upkeep.questions.measure import FEWEST_QUESTIONS, METRIC, Asked, Measured

SCHEMA: Final = 1
Outcome = Literal["not worse", "worse", "undecided"]

GONE: Final = "a judged document is gone"
CHANGED: Final = "a judged document has changed"
JUDGED_OTHERWISE: Final = "judged otherwise than in the baseline"
NEW: Final = "not in the baseline"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a run has measured, as it is kept: the settings, a value a question, and digests of the judged documents."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    schema: Literal[1]
    release: str
    mode: str
    settings: dict[str, Any]
    questions: dict[str, Asked]
    values: dict[str, dict[str, Annotated[float, Field(ge=0, le=1)]]]
    documents: dict[str, str] | None


_FILE: Final = TypeAdapter(Baseline)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run beside a baseline.

    Args:
        outcome: what the nDCG@10 says.
        compared: how many questions both have, under the same judgements of unchanged documents.
        left_out: question id -> why it was not compared.
        dropped: questions of the baseline that are not asked any more.
        intervals: metric -> this run minus the baseline, over the compared questions; empty where there are none.
    """

    outcome: Outcome
    baseline_release: str
    margin: float
    compared: int
    left_out: Mapping[str, str]
    dropped: tuple[str, ...]
    intervals: Mapping[str, Interval]
    means: Mapping[str, float]
    baseline_means: Mapping[str, float]

    def sentence(self) -> str:
        """Return the outcome in words, with its numbers."""
        if self.outcome == "undecided":
            return f"{self.compared} questions can be compared, at least {FEWEST_QUESTIONS} are needed: undecided"
        found = self.intervals[METRIC]
        said = "not worse" if self.outcome == "not worse" else "may be worse"
        return (
            f"{METRIC} {self.means[METRIC]:.4f}, {self.baseline_means[METRIC]:.4f} in the baseline of release "
            f"{self.baseline_release}: difference {found.mean:+.4f}, 95% interval {found.low:+.4f} to {found.high:+.4f} on "
            f"{self.compared} questions; {said} by more than {self.margin}"
        )


def write_baseline(path: Path, run: Measured) -> None:
    """Write a run as the baseline of later ones: canonical JSON, so that equal runs are equal bytes."""
    value: dict[str, JSON] = {
        "schema": SCHEMA,
        "release": run.release,
        "mode": run.mode,
        "settings": dict(run.settings),
        "questions": {question: {"text": one.text, "grades": dict(one.grades)} for question, one in run.asked.items()},
        "values": {question: dict(values) for question, values in run.values.items()},
        "documents": None if run.documents is None else dict(run.documents),
    }
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(canonical_json(value) + b"\n")
        beside.replace(path)
    except OSError as exc:
        raise SettingsError(f"the baseline cannot be written to {path} ({exc.strerror}): name another file") from exc


def read_baseline(path: Path) -> Baseline:
    """Read the file from `write_baseline`.

    Raises:
        SettingsError: there is no such file.
        ContractError: it is no baseline.
    """
    try:
        baseline = _FILE.validate_json(path.read_bytes())
    except OSError as exc:
        raise SettingsError(f"the baseline {path} cannot be read ({exc.strerror}): write one with --write-baseline") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ContractError(f"{path} is no baseline of this version ({place}: {first['msg']}): write it again") from exc
    lacking = [question for question in baseline.questions if set(baseline.values.get(question, ())) != set(METRICS)]
    if lacking or set(baseline.values) != set(baseline.questions):
        raise ContractError(f"{path} does not hold {', '.join(METRICS)} of each of its questions: write it again")
    return baseline


def misfits(run: Measured, baseline: Baseline | None = None) -> dict[str, str]:
    """Return why judged documents no longer fit: gone from the index, or with another text than in the baseline."""
    if run.documents is None:
        return {}
    known = (baseline and baseline.documents) or {}
    gone = {document: GONE for document, digest in run.documents.items() if not digest}
    return gone | {
        document: CHANGED for document, digest in run.documents.items() if digest and known.get(document, digest) != digest
    }


def compare(run: Measured, baseline: Baseline, margin: float) -> Comparison:
    """Compare a run with a baseline, question by question.

    A question whose documents are gone or changed says nothing about settings: it is left out, and named.
    """
    unfit = misfits(run, baseline)
    left_out: dict[str, str] = {}
    for question, asked in run.asked.items():
        known = baseline.questions.get(question)
        reasons = sorted({unfit[document] for document in asked.grades if document in unfit}, reverse=True)
        if known is None:
            left_out[question] = NEW
        elif dict(known.grades) != dict(asked.grades):
            left_out[question] = JUDGED_OTHERWISE
        elif reasons:
            left_out[question] = reasons[0]
    both = [question for question in run.asked if question not in left_out]
    intervals = {
        metric: paired_bootstrap(run.of(metric, both), {question: baseline.values[question][metric] for question in both})
        for metric in (METRICS if both else ())
    }
    enough = len(both) >= FEWEST_QUESTIONS
    return Comparison(
        "undecided" if not enough else "not worse" if intervals[METRIC].is_within(margin) else "worse",
        baseline.release,
        margin,
        len(both),
        left_out,
        tuple(sorted(baseline.questions.keys() - run.asked.keys())),
        intervals,
        {metric: _mean([run.values[question][metric] for question in both]) for metric in intervals},
        {metric: _mean([baseline.values[question][metric] for question in both]) for metric in intervals},
    )


def to_json(run: Measured, compared: Comparison | None, unfit: Mapping[str, str]) -> dict[str, JSON]:
    """Return a run and its comparison for a program."""
    return {
        "release": run.release,
        "mode": run.mode,
        "settings": dict(run.settings),
        "questions": len(run.asked),
        "means": run.means(),
        "outcome": compared.outcome if compared else "not compared",
        "labels": {"checked": run.documents is not None, "unfit": dict(unfit)},
        "comparison": asdict(compared) if compared else None,
        "values": {question: dict(values) for question, values in run.values.items()},
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
