"""A cache of vectors by space and text: a second evaluation of an encoder embeds nothing."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.specification import Role

# SQLite's default limit of variables in one statement is at least this.
_LOOKUP_BLOCK = 500


class Encoder(Protocol):
    """An encoder in this process, whatever runs it."""

    @property
    def space(self) -> str:
        """Return its identity."""

    def embed(self, texts: Sequence[str], role: Role, *, progress: str = "") -> Embeddings:
        """Return one vector a text."""


def cached_vectors(encoder: Encoder, texts: Sequence[str], role: Role, folder: Path, *, progress: str) -> NDArray[np.float32]:
    """Return vectors `(n, dim)` of the texts; only texts outside the cache are embedded.

    The key is space, role and text; the space covers weights, tokenizer, prefixes, limit and pooling. They decide a vector
    completely, so an entry is never stale and may be deleted at any time.
    """
    keys = [_key(text, role) for text in texts]
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / f"{encoder.space}.sqlite", timeout=60)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID")
        known = _read(database, keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            fresh = encoder.embed(list(missing.values()), role, progress=progress).vectors
            rows = [(key, vector.astype("<f4").tobytes()) for key, vector in zip(missing, fresh, strict=True)]
            with database:
                database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
            known.update(rows)
    return np.stack([np.frombuffer(known[key], dtype="<f4") for key in keys]).astype(np.float32)


def _key(text: str, role: Role) -> bytes:
    return hashlib.sha256(f"{role}\n{text}".encode()).digest()


def _read(database: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for start in range(0, len(keys), _LOOKUP_BLOCK):
        block = keys[start : start + _LOOKUP_BLOCK]
        marks = ",".join("?" * len(block))
        found.update(database.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", block))  # noqa: S608
    return found
