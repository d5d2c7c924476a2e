"""From a document to everything made from it: points in every collection, their message, the releases."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.snapshots import document_files
from twinline.clients.online import CollectionStatus
from twinline.clients.store.protocol import Head, StoredPoint, stored_version
from twinline.contract.artefacts import ENCODER, PAIRS, SNAPSHOT
from twinline.contract.canonical import sha256_hex
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import encode_key
from twinline.contract.errors import TransientError
from twinline.contract.release.manifest import MANIFEST_FILE
from twinline.registry.fetch import fetched_releases
from twinline.registry.revisions import GitRevision, NotHereError
from twinline.registry.versions import Registered, Registry
from twinline.upkeep.trace.reach import Reach
from twinline.upkeep.trace.steps import Section, Trace
from twinline.upkeep.trace.training import find_experiment, is_trained, read_json, training_record

Place = tuple[int, int]
_TRAIN: Final = "train"


@dataclass(slots=True)
class Use:
    """The use of a document in one release's training.

    Args:
        trained: whether any step was trained; an untuned base model has used no document of ours.
        pairs: the number of training pairs with it.
        held_out: the judgements with it, by split.
        set_aside: the omitted pairs of it, by reason; a near-duplicate's text may have been trained on in its place.
        in_corpus: whether the snapshot holds it.
    """

    release: str
    trained: bool
    snapshot: str = ""
    pairs: int = 0
    held_out: Mapping[str, int] = field(default_factory=dict)
    set_aside: Mapping[str, int] = field(default_factory=dict)
    in_corpus: bool = False

    def summary(self) -> str:
        """Return the use in words."""
        if not self.trained:
            return "not trained here: a base model as it is"
        parts = [f"in {self.pairs} training pairs"] if self.pairs else []
        parts += [f"held out in {split} ({count})" for split, count in self.held_out.items()]
        parts += [f"set aside: {reason} ({count})" for reason, count in self.set_aside.items()]
        return "; ".join(parts) or ("only in the corpus" if self.in_corpus else "not in its data")


def trace_document(reach: Reach, source: str | None, key: str) -> Trace:
    """Trace a document forward to its points in every collection, and to the releases that used it.

    Args:
        source: of the document; None searches the key in every source.
    """
    sections: list[Section] = []
    places: dict[Place, tuple[str, str]] = {}
    online = Section("collections")
    try:
        for entry in reach.online.status().collections:
            sections.append(_collection_section(reach, entry, source, key, places))
    except TransientError as exc:
        online.absent("points", None, str(exc))
    sections += [online, _log_section(reach, places), training_uses_section(reach, source, key)]
    subject = f"document [{source or '*'}, {key}]"
    return Trace(subject, [step for section in sections for step in section.steps])


def training_uses_section(reach: Reach, source: str | None, key: str) -> Section:
    """Return a step for each release: trained on the document, held out, or only in its corpus."""
    section = Section("releases")
    for release, entry in _known_releases(section, reach).items():
        with section.looking(release):
            use = find_use(reach, release, entry, source, key)
            where = f"snapshot {use.snapshot}" if use.snapshot else ""
            section.record(release, use.summary(), ", ".join(filter(None, [entry.version if entry else "", where])))
    return section


def find_use(reach: Reach, release: str, entry: Registered | None, source: str | None, key: str) -> Use:
    """Return the use of a document in a release's training.

    Raises:
        NotHereError: its training data are neither in the snapshot store, nor in DVC's cache or remote.
    """
    folder = reach.settings.releases / release
    if folder.is_dir():
        manifest, record = read_json(folder / MANIFEST_FILE), training_record(folder)
    elif entry is not None:
        made_in = GitRevision(reach.repository, entry.revision)
        manifest = made_in.json(f"{ENCODER.release}/{MANIFEST_FILE}")
        record = made_in.json(f"{ENCODER.release}/encoder/training.json")
    else:
        raise NotHereError(f"not in {reach.settings.releases} nor in the registry")
    if not is_trained(record):
        return Use(release, trained=False)
    use = Use(release, trained=True, snapshot=str(manifest["lineage"].get("snapshot") or ""))
    experiment = find_experiment(reach, manifest["lineage"], entry)

    def rows(name: str, *columns: str) -> list[dict[str, Any]]:
        with experiment.open(f"{PAIRS}/{name}.parquet") as stream:
            return _rows(stream, source, key, columns)

    use.pairs = len(rows(_TRAIN))
    use.held_out = dict(sorted(Counter(row["split"] for row in rows("judgements", "split")).items()))
    use.set_aside = dict(sorted(Counter(row["reason"] for row in rows("rejects", "reason")).items()))
    use.in_corpus = any(_rows(stream, source, key) for stream in _corpus(reach, use.snapshot, experiment))
    return use


def _collection_section(
    reach: Reach, entry: CollectionStatus, source: str | None, key: str, places: dict[Place, tuple[str, str]]
) -> Section:
    section = Section(entry.name)
    section.record("release", entry.release, "active" if entry.active else "")
    points = reach.all_points(entry.name, source, key)
    heads = [Head.from_payload(point.payload) for point in points if point.payload["kind"] == "head"]
    if not heads:
        section.record("document", "never seen")
    for head in sorted(heads, key=lambda head: head.source):
        chunks = [p for p in points if p.payload["kind"] == "chunk" and p.payload["source"] == head.source]
        number = f"{head.version.kind} version {head.version.number}"
        section.record(f"[{head.source}, {head.key}]", "deleted" if head.deleted else "stored", number)
        section.compare("head", str(_id_of_head(points, head)), str(head_id(head.source, head.key)))
        section.compare("chunks", head.chunk_count, len(chunks))
        for point in sorted(chunks, key=lambda point: int(point.payload["chunk_index"])):
            _add_chunk(section, point, places)
    return section


def _add_chunk(section: Section, point: StoredPoint, places: dict[Place, tuple[str, str]]) -> None:
    payload = point.payload
    name = (payload["source"], payload["key"])
    version = stored_version(payload)
    note = f"characters {payload['start']} to {payload['end']}, {version.kind} version {version.number}, {payload['release']}"
    what = f"chunk {payload['chunk_index']}"
    section.compare(what, str(point.id), str(point_id(*name, payload["chunk_index"])), note)
    places[payload["partition"], payload["offset"]] = name


def _id_of_head(points: list[StoredPoint], head: Head) -> object:
    return next(p.id for p in points if p.payload["kind"] == "head" and p.payload["source"] == head.source)


def _log_section(reach: Reach, places: Mapping[Place, tuple[str, str]]) -> Section:
    """Read the messages of the stored chunks. Older messages of the key are not found: the log has no index by key."""
    section = Section("log")
    for (partition, offset), name in sorted(places.items()):
        place = f"{reach.settings.topic}[{partition}] offset {offset}"
        with section.looking("message", place):
            message = reach.read_message(partition, offset)
            section.compare(place, encode_key(*name).decode(), (message.key or b"").decode(errors="replace"))
            section.record("value SHA-256", sha256_hex(message.value or b""), f"of its {len(message.value or b'')} bytes")
    return section


def _known_releases(section: Section, reach: Reach) -> dict[str, Registered | None]:
    """Return the releases of the registry, newest first, then those only in the folder of releases."""
    known: dict[str, Registered | None] = {}
    with section.looking("registry"):
        versions = reach.versions()
        registry = Registry(reach.repository, ENCODER)
        known = {registry.release_of(entry): entry for entry in versions}
    return known | {release: None for release in fetched_releases(reach.settings.releases) if release not in known}


def _corpus(reach: Reach, snapshot: str, experiment: GitRevision) -> Iterator[IO[bytes]]:
    folder = reach.settings.snapshots / snapshot
    if snapshot and folder.is_dir():
        yield from _opened(document_files(folder))
        return
    for name in experiment.held(SNAPSHOT):
        if name.startswith("documents-"):
            with experiment.open(f"{SNAPSHOT}/{name}") as stream:
                yield stream


def _opened(paths: list[Path]) -> Iterator[IO[bytes]]:
    for path in paths:
        with path.open("rb") as stream:
            yield stream


def _rows(stream: IO[bytes], source: str | None, key: str, columns: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    wanted = pc.field("key") == key
    if source is not None:
        wanted &= pc.field("source") == source
    found: list[dict[str, Any]] = pq.read_table(stream, columns=["source", "key", *columns], filters=wanted).to_pylist()
    return found
