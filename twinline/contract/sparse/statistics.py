"""Corpus statistics: in how many chunks of the release's snapshot each term occurs, and how long a chunk is.

They are a file of the release, made once from its snapshot, and never what the store happens to hold: a score is the same today
and next year, live and offline.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from twinline.contract.canonical import sha256_hex
from twinline.contract.errors import MismatchError
from twinline.contract.sparse.ids import term_id

STATISTICS_FILE: Final = "words.safetensors"
STATISTICS_SCHEMA: Final = 1
# A chunk's mean length is kept in hundredths of a term.
LENGTH_UNIT: Final = 100
# A term of one chunk alone is as rare as an unknown one, and needs no entry.
_LEAST_CHUNKS: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What is known of a corpus; `chunks` is 0 where there was none, and all terms then weigh alike.

    Attributes:
        ids: of terms in two chunks or more, ascending, uint32.
        frequencies: the chunks of each, uint32.
        chunks: in the corpus.
        mean_length: terms of a chunk, in hundredths.
        collisions: pairs of terms that share an id.
    """

    ids: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    frequencies: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    chunks: int = 0
    mean_length: int = 0
    collisions: int = 0

    @classmethod
    def count(cls, texts: Iterable[Iterable[str]]) -> Self:
        """Count the terms of a corpus.

        Args:
            texts: the terms of each chunk, repeated ones too.
        """
        frequencies: Counter[str] = Counter()
        chunks, length = 0, 0
        for terms in texts:
            listed = list(terms)
            frequencies.update(set(listed))
            chunks, length = chunks + 1, length + len(listed)
        by_id: dict[int, int] = defaultdict(int)
        for term, number in frequencies.items():
            by_id[term_id(term)] += number
        kept = sorted((identity, number) for identity, number in by_id.items() if number >= _LEAST_CHUNKS)
        return cls(
            np.array([identity for identity, _ in kept], np.uint32),
            # Two terms of one id may be in the same chunk.
            np.minimum(np.array([number for _, number in kept], np.uint32), np.uint32(chunks)),
            chunks,
            length * LENGTH_UNIT // chunks if chunks else 0,
            len(frequencies) - len(by_id),
        )

    def to_bytes(self) -> bytes:
        """Return the file's bytes: the same for the same statistics."""
        facts = {
            "schema": STATISTICS_SCHEMA,
            "chunks": self.chunks,
            "mean_length": self.mean_length,
            "collisions": self.collisions,
        }
        tensors = {"ids": self.ids, "frequencies": self.frequencies}
        return bytes(save(tensors, metadata={"twinline": json.dumps(facts, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path, sha256: str) -> Self:
        """Read the file of a release.

        Raises:
            MismatchError: it is missing, damaged, or not what the contract names.
        """
        try:
            content = path.read_bytes()
        except FileNotFoundError as exc:
            raise MismatchError(f"{path} is missing: the contract names corpus statistics; fetch the release again") from exc
        if (found := sha256_hex(content)) != sha256:
            raise MismatchError(
                f"{path} has SHA-256 {found[:12]}, the contract says {sha256[:12]}: words would weigh otherwise than when the "
                "index was built; fetch the release again"
            )
        try:
            tensors, facts = load(content), _facts(content)
            if facts["schema"] != STATISTICS_SCHEMA:
                raise MismatchError(f"{path}: schema is {facts['schema']!r}, this code reads {STATISTICS_SCHEMA}")
            return cls(tensors["ids"], tensors["frequencies"], facts["chunks"], facts["mean_length"], facts["collisions"])
        except (SafetensorError, ValueError, KeyError, TypeError) as exc:
            raise MismatchError(f"{path}: no corpus statistics of schema {STATISTICS_SCHEMA}: {exc}") from exc


def _facts(content: bytes) -> Mapping[str, int]:
    # The library gives the metadata of files alone, not of bytes: eight bytes of length, then the header as JSON.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    facts: dict[str, int] = json.loads(header["__metadata__"]["twinline"])
    return facts
