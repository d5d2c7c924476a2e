"""The steps of an erasure, each safe to repeat."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from etl.published import load_published
from streaming.decode import Message
from twinline.clients.erasure_list import Erasures, make_secret, save_list
from twinline.clients.kafka.connect import end_offsets, kafka_errors, make_producer
from twinline.clients.kafka.erasures import current_erasures, write_again, write_event
from twinline.clients.settings import Settings
from twinline.clients.store.audit import PointFacts
from twinline.contract.canonical import JSON
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import MAX_VERSION, Deletion, Version, encode_key, version_header
from twinline.contract.errors import SettingsError
from twinline.contract.principal import Principal
from twinline.upkeep.erase.holders import Logged
from twinline.upkeep.reconcile.target import Target

_CONFIRM_SECONDS: Final = 30.0


def open_list(settings: Settings) -> Erasures:
    """Return the list, with a new secret where there is none; entries that its topic lost are written again."""
    known = current_erasures(settings)
    known = replace(known, secret=make_secret(settings))
    if known.entries and write_again(settings, known):
        known = current_erasures(settings)
    return known


def mark(settings: Settings, erasures: Erasures, principal: Principal, source: str, key: str, reason: str) -> Erasures:
    """Put a document on the list, unless it is there; from then on every path refuses it."""
    entry = erasures.find(source, key)
    if entry is not None and entry.lifted_ms is None:
        return erasures
    _write(settings, erasures, "erase", principal, source, key, reason)
    return _refreshed(settings, erasures)


def lift(settings: Settings, erasures: Erasures, principal: Principal, source: str, key: str, reason: str) -> Erasures:
    """Let a document come back. Its messages in the log until now stay out.

    Raises:
        SettingsError: it is not on the list.
    """
    entry = erasures.find(source, key)
    if entry is None or entry.lifted_ms is not None:
        raise SettingsError(
            f"document [{source!r}, {key!r}] is not erased{' any more' if entry else ''}: there is nothing to lift"
        )
    _write(settings, erasures, "lift", principal, source, key, reason)
    return _refreshed(settings, erasures)


def send_tombstone(settings: Settings, source: str, key: str, logged: Sequence[Logged], stored: Sequence[Version]) -> Message:
    """Append a deletion newer than every state of a document; return it as a message of the log.

    Args:
        logged: its messages in the log.
        stored: the versions of its heads in the indexes, which determine the kind of its versions.
    """
    versions = [*stored, *(message.version for message in logged if message.version)]
    explicit = [version.number for version in versions if version.kind == "explicit"]
    is_explicit = bool(versions) and versions[0].kind == "explicit"
    deletion = Deletion(source, key, min(max(explicit) + 1, MAX_VERSION) if is_explicit else None).validate()
    partitions = end_offsets(settings, settings.topic)
    # The partition of its messages: a producer in another language may spread keys differently.
    partition = logged[-1].partition if logged and logged[-1].partition in partitions else None
    headers = [*version_header(deletion), ("run_id", b"erase")]
    producer = make_producer(settings)
    try:
        with kafka_errors(settings):
            sent = producer.send(settings.topic, key=encode_key(source, key), value=None, headers=headers, partition=partition)
            at = sent.get(timeout=_CONFIRM_SECONDS)
    finally:
        producer.close(timeout=_CONFIRM_SECONDS)
    return Message(at.partition, at.offset, at.timestamp, encode_key(source, key), None, headers)


def points_of(target: Target, source: str, key: str) -> list[PointFacts]:
    """Return the facts of every point that names a document, its head too."""
    return [facts for page in target.facts(source, key) for facts in page]


def remove_points(target: Target, tombstone: Message, source: str, key: str) -> dict[str, JSON]:
    """Delete a document in one collection by the consumer's law, then any other point that names it; count the rest."""
    before = [facts for facts in points_of(target, source, key) if facts.kind != "head"]
    target.index.apply([tombstone])
    left = [facts for facts in points_of(target, source, key) if facts.kind != "head"]
    if left:
        # Not by the law: damaged points, for example with an impossible version.
        target.index.remove(left)
        left = [facts for facts in points_of(target, source, key) if facts.kind != "head"]
    return {"collection": target.release, "removed": len(before) - len(left), "left": len(left)}


def forget_published(settings: Settings, source: str, key: str) -> dict[str, JSON]:
    """Remove a document from the source state: its hash, and its text in rejects."""
    folder = settings.snapshots / "published"
    ends = end_offsets(settings, settings.topic)
    published = load_published(folder, settings.kafka_address, settings.topic, source, ends)
    was_known = published.states.pop(key, None) is not None
    if was_known:
        published.save(ends)
    return {
        "published_state": int(was_known),
        "rejects": sum(_clean_rejects(path, key) for path in folder.glob("rejects-*.jsonl")),
    }


def forget_made(settings: Settings) -> dict[str, JSON]:
    """Remove the stage cache; return the number of files. The cost is time only.

    It holds clean texts by content hash, and vectors, from which a text can be guessed. All of it is removed, not only the
    document's part: near-duplicates of its chunks would have other hashes.
    """
    folders = (settings.kept, settings.home / "cache" / "vectors")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    for folder in folders:
        if folder.is_dir():
            shutil.rmtree(folder)
    return {"kept_files": len(files)}


def _clean_rejects(path: Path, key: str) -> int:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line).get("key") != key]
    if len(kept) < len(lines):
        beside = path.with_name(f".{path.name}.new")
        beside.write_text("".join(kept), encoding="utf-8")
        beside.replace(path)
    return len(lines) - len(kept)


def stored_versions(targets: Sequence[Target], source: str, key: str) -> list[Version]:
    """Return the versions of a document's head in the indexes."""
    id_: UUID = head_id(source, key)
    found = [facts.stored_version for target in targets for facts in points_of(target, source, key) if facts.id == id_]
    return [version for version in found if version is not None]


def _write(settings: Settings, erasures: Erasures, act: str, principal: Principal, source: str, key: str, reason: str) -> None:
    said: Mapping[str, str] = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "by": principal.name, "reason": reason}
    write_event(settings, erasures, act, erasures.token(source, key), **said)


def _refreshed(settings: Settings, erasures: Erasures) -> Erasures:
    now = current_erasures(settings)
    save_list(settings, now)
    return replace(now, secret=erasures.secret)
