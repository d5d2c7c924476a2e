"""`manifest.json`: the record of a release; written once, never edited.

The release's id comes from its content: packaging the same encoder, contract and formats again gives the same id.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from twinline.contract.canonical import JSON, fingerprint
from twinline.contract.encoder.runtime import Backend, Precision
from twinline.contract.encoder.specification import Contract
from twinline.contract.errors import MismatchError, SettingsError
from twinline.contract.release.index_settings import IndexSettings
from twinline.contract.sparse.fusion import Fusion

MANIFEST_SCHEMA = 2
# The additions of schema 2 may be absent, so older releases stay readable.
READABLE_SCHEMAS = (1, 2)
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class Parity:
    """A format's cosine distances from the training framework over the parity texts, and the worst text."""

    worst: float
    median: float
    worst_text: str
    limit: float


@dataclass(frozen=True, slots=True)
class Quality:
    """A format's quality on the held-out queries, and its cost.

    `lost` is nDCG@10 of the fp32 format minus its own, paired, with its interval; `budget` is the limit for the interval's upper
    end. `bytes` is the size of its files, `query_ms` the median of one short query, `texts_per_second` documents in batches. The
    times come from the exporting machine: compare them only with each other.
    """

    ndcg_at_10: float
    lost: float
    lost_low: float
    lost_high: float
    budget: float
    worst_slice: str
    worst_slice_lost: float
    bytes: int
    query_ms: float
    texts_per_second: float


@dataclass(frozen=True, slots=True)
class Format:
    """One exported format of the encoder that passed its gates. `file` is relative to the release folder.

    `quality` is None in a release without evaluation, such as that of an untuned base model.
    """

    name: str
    backend: Backend
    precision: Precision
    file: str
    parity: Parity
    quality: Quality | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the form from `asdict`."""
        quality = value.get("quality")
        return cls(**{**value, "parity": Parity(**value["parity"]), "quality": Quality(**quality) if quality else None})


@dataclass(frozen=True, slots=True)
class DroppedFormat:
    """A format that was refused, or could not be built here."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Serving:
    """Settings of the release that change speed, never vectors."""

    format: str
    length_buckets: tuple[int, ...]
    max_batch_size: int


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The contract's three."""

    vector: str
    index: str
    contract: str

    @classmethod
    def of(cls, contract: Contract) -> Self:
        """Return the fingerprints of a contract."""
        return cls(contract.vector_fingerprint, contract.index_fingerprint, contract.fingerprint)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A release's identity, lineage and measurements. `files` maps relative paths to SHA-256.

    `fusion` is None in a release without words, such as one made before there were any.
    """

    release: str
    space: str
    fingerprints: Fingerprints
    weights_sha256: str
    dimension: int
    base_model: str
    formats: tuple[Format, ...]
    dropped_formats: tuple[DroppedFormat, ...]
    serving: Serving
    files: Mapping[str, str]
    metrics: Mapping[str, JSON] = field(default_factory=dict)
    lineage: Mapping[str, JSON] = field(default_factory=dict)
    index: IndexSettings = field(default_factory=IndexSettings)
    fusion: Fusion | None = None

    @property
    def content_id(self) -> str:
        """Return the id that the content makes; `release` in a manifest that nobody edited."""
        return release_id(self.space, self.fingerprints.contract, self.serving, self.files, self.index, self.fusion)

    def serving_format(self) -> Format:
        """Return the format that Triton serves."""
        for candidate in self.formats:
            if candidate.name == self.serving.format:
                return candidate
        raise MismatchError(
            f"release {self.release}: serving.format is {self.serving.format!r}, its formats are {[f.name for f in self.formats]}"
        )

    def save(self, folder: Path) -> None:
        """Write `manifest.json`."""
        # Releases without words or filters keep the form that older versions read.
        content = {"schema": MANIFEST_SCHEMA, **asdict(self), "index": self.index.to_json()}
        if self.fusion is None:
            del content["fusion"]
        (folder / MANIFEST_FILE).write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `manifest.json`.

        Raises:
            MismatchError: it is missing, of another schema, or its id does not follow from its content.
        """
        place = folder / MANIFEST_FILE
        try:
            value: dict[str, Any] = json.loads(place.read_bytes())
            if (schema := value.pop("schema")) not in READABLE_SCHEMAS:
                raise MismatchError(f"{place}: schema {schema!r}, this version reads {READABLE_SCHEMAS}: fetch the release again")
            manifest = cls(
                **{
                    **value,
                    "fingerprints": Fingerprints(**value["fingerprints"]),
                    "formats": tuple(Format.from_json(f) for f in value["formats"]),
                    "dropped_formats": tuple(DroppedFormat(**f) for f in value["dropped_formats"]),
                    "serving": Serving(**{**value["serving"], "length_buckets": tuple(value["serving"]["length_buckets"])}),
                    "index": IndexSettings.from_json(value.get("index", {})),
                    "fusion": Fusion.from_json(value["fusion"]) if value.get("fusion") else None,
                }
            )
        except FileNotFoundError as exc:
            raise MismatchError(f"{place} is missing: {folder} is no release") from exc
        except (KeyError, TypeError, ValueError, SettingsError) as exc:
            raise MismatchError(f"{place}: not a manifest of schema {MANIFEST_SCHEMA}: {exc}") from exc
        if manifest.release != manifest.content_id:
            raise MismatchError(
                f"{place} says release {manifest.release}, its content makes {manifest.content_id}: it was edited"
            )
        return manifest

    def verify_files(self, folder: Path) -> None:
        """Hash every file of the release.

        Raises:
            MismatchError: a file is missing, changed, or not in the manifest.
        """
        found = hash_files(folder)
        changed = sorted(name for name, digest in self.files.items() if found.get(name) != digest)
        unknown = sorted(set(found) - set(self.files))
        if changed or unknown:
            raise MismatchError(
                f"release {self.release} in {folder}: changed or missing {changed[:5]}, not in the manifest {unknown[:5]}: "
                "fetch the release again"
            )


def release_id(
    space: str,
    contract_fingerprint: str,
    serving: Serving,
    files: Mapping[str, str],
    index: IndexSettings | None = None,
    fusion: Fusion | None = None,
) -> str:
    """Return `r` and twelve hexadecimal digits, a valid name for Triton models and collections.

    Only served content counts, not reports with measurements and times.
    """
    served = {name: digest for name, digest in files.items() if name not in REPORT_FILES}
    identity: dict[str, JSON] = {
        "space": space,
        "contract": contract_fingerprint,
        "serving": {**asdict(serving), "length_buckets": list(serving.length_buckets)},
        "files": served,
    }
    # Default index settings do not count, so releases from before there were any keep their ids.
    if index is not None and index != IndexSettings():
        identity["index"] = index.to_json()
    if fusion is not None:
        identity["fusion"] = fusion.to_json()
    return "r" + fingerprint(identity)[:12]


# Files that describe a release and are not served.
REPORT_FILES = frozenset(
    {
        "evaluation.json",
        "parity.json",
        "quality.json",
        "verdict.json",
        "training.json",
        "encoder/training.json",
        "profile.json",
        "profile.safetensors",
    }
)


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder except the manifest, by relative path."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST_FILE:
            with path.open("rb") as file:
                hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def collection_name(release: str) -> str:
    """Return the name of a release's collection."""
    return f"documents_{release}"


def consumer_group(release: str) -> str:
    """Return the Kafka consumer group that fills a release's collection."""
    return f"twinline.{release}"
