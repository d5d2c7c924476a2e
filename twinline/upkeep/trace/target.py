"""The target of a trace: a point id, `SOURCE/KEY#CHUNK`, or a hit from the search API."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from twinline.clients.store.protocol import Payload
from twinline.contract.documents.ids import point_id
from twinline.contract.errors import SettingsError

_USE = "give a point id, SOURCE/KEY or SOURCE/KEY#CHUNK, `-` for a hit as JSON on standard input, or --source, --key and --chunk"


@dataclass(frozen=True, slots=True)
class Target:
    """The candidate points, likeliest first; `hit` has the answer's fields of its hit, under a payload's names."""

    ids: tuple[UUID, ...]
    said: str
    hit: Payload = field(default_factory=dict)


def target_of(text: str, source: str | None, key: str | None, chunk: int | None) -> Target:
    """Return the target that a text names.

    Raises:
        SettingsError: it names nothing.
    """
    if source is not None and key is not None and not text:
        return Target((point_id(source, key, chunk or 0),), f"chunk {chunk or 0} of [{source}, {key}]")
    if not text or source is not None or key is not None or chunk is not None:
        raise SettingsError(_USE)
    try:
        return Target((UUID(text),), f"point {UUID(text)}")
    except ValueError:
        pass  # not an id, so a document
    source, slash, key = text.partition("/")
    if not (source and slash and key):
        raise SettingsError(f"{text!r} is no point: {_USE}")
    ids = [point_id(source, key, 0)]
    before, hash_sign, number = key.rpartition("#")
    if before and hash_sign and number.isdecimal() and len(number) < 10:
        # Keys of tables may end like this too: the whole text as a key comes first.
        ids.append(point_id(source, before, int(number)))
    return Target(tuple(ids), text)


def target_of_hit(content: str) -> Target:
    """Return the hit in the search API's JSON; for a whole answer, its first one.

    Raises:
        SettingsError: it is no hit.
    """
    try:
        value = json.loads(content)
        hit = value["hits"][0] if "hits" in value else value
        payload = _payload(hit)
        return Target((UUID(hit["point"]),), f"hit [{hit['source']}, {hit['key']}] chunk {hit['chunk']['index']}", payload)
    except IndexError:
        raise SettingsError("the answer has no hit to trace: ask another question") from None
    except (ValueError, KeyError, TypeError) as exc:
        raise SettingsError(f"standard input holds no hit ({exc!r}): pipe `twinline search --json` into it") from exc


def _payload(hit: Mapping[str, Any]) -> Payload:
    lineage, chunk, version = hit["lineage"], hit["chunk"], hit["version"]
    return {
        **{name: hit[name] for name in ("source", "key", "title", "metadata", "tenant")},
        "chunk_index": chunk["index"],
        "start": chunk["start"],
        "end": chunk["end"],
        "text": chunk["text"],
        "version": version["number"],
        "version_kind": version["kind"],
        "version_offset": version["offset"],
        **{name: lineage[name] for name in ("release", "space", "contract", "content_hash")},
        **{name: lineage["kafka"][name] for name in ("partition", "offset", "timestamp_ms")},
        "headers": lineage["ingest"],
    }
