"""Drift beside skew: how live queries and new documents differ from the encoder's training data."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from twinline.clients.online import AdminClient
from twinline.clients.settings import Settings
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import Role
from twinline.contract.monitor.drift import DriftFigure, Features, Profile, compare
from twinline.contract.monitor.drift_reference import DriftReference
from twinline.contract.release.manifest import collection_name
from twinline.upkeep.skew.new_documents import document_features, read_newest
from twinline.upkeep.skew.pieces import Subject

NEWEST_DOCUMENTS = 500
NO_REFERENCE = "no reference: this release was not trained here"
HEADINGS = ("texts", "feature", "statistic", "value", "by chance below", "verdict")


@dataclass(frozen=True, slots=True)
class RoleDrift:
    """One kind of text against its reference; counts are of independent texts. `note` says why figures are missing."""

    role: Role
    reference_count: int
    sample_count: int
    figures: tuple[DriftFigure, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The drift of one release. Without a reference `note` says so, and there is nothing else."""

    release: str
    roles: tuple[RoleDrift, ...] = field(default=())
    unindexed_chunks: int = 0
    note: str = ""

    @property
    def is_drifted(self) -> bool:
        """Say whether any figure is `drifted`. That is news, not a fault, and blocks nothing."""
        return any(figure.verdict == "drifted" for role in self.roles for figure in role.figures)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "is_drifted": self.is_drifted}

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the rows of a table with `HEADINGS`."""
        if self.note:
            yield ("", self.note, "", "", "", "")
        for role in self.roles:
            name = f"{role.role} ({role.sample_count} against {role.reference_count})"
            if role.note:
                yield (name, role.note, "", "", "", "")
            for figure in role.figures:
                yield (
                    name, figure.feature, figure.statistic, f"{figure.value:.3f}", f"{figure.noise:.3f}", figure.verdict
                )  # fmt: skip


def measure_drift(
    settings: Settings, admin: AdminClient, subject: Subject, preprocessor: Preprocessor, newest: int = NEWEST_DOCUMENTS
) -> DriftReport:
    """Compare the recent queries and the newest documents of a served release with its reference.

    Raises:
        SettingsError: there is no topic.
        MismatchError: the release's profile is broken or of another space.
        TransientError: the online process or Kafka is away.
    """
    release = subject.manifest.release
    collection = collection_name(release)
    reference = DriftReference.load(subject.folder, subject.manifest.space)
    if reference is None:
        return DriftReport(release, note=NO_REFERENCE)
    found = document_features(read_newest(settings, newest), preprocessor, reference, admin, collection)
    roles = (
        _against(reference, "query", admin.query_features(collection)),
        _against(reference, "document", found.features),
    )
    return DriftReport(release, roles, found.unindexed)


def _against(reference: DriftReference, role: Role, sample: Features | None) -> RoleDrift:
    profile: Profile | None = reference.profiles.get(role)
    known, seen = profile.independent if profile else 0, sample.independent if sample else 0
    if profile is None:
        return RoleDrift(role, known, seen, (), "no reference: there were no training texts of this kind")
    if sample is None or seen == 0:
        return RoleDrift(role, known, seen, (), "none seen yet")
    return RoleDrift(role, known, seen, tuple(compare(profile, sample)))
