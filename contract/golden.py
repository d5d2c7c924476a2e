"""Golden texts: a few inputs whose tokens and vectors are stored with each release and run through every hop.

At release time they are a gate, on a schedule a monitor. The texts are a constant of the platform; the tokens and vectors in
`golden.json` are facts of one release, written by the training framework.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.errors import MismatchError
from contract.pooling import cosine_distance
from contract.specification import Role

GOLDEN_SCHEMA: Final = 1
GOLDEN_FILE: Final = "golden.json"

# Worst cosine distance to the float32 vectors of the training framework. Beyond it a format is another encoder, not a faster one.
PARITY_LIMITS: Final[Mapping[str, float]] = {"fp32": 1e-6, "bf16": 1e-3, "fp16": 1e-3, "int8": 1e-2}


@dataclass(frozen=True, slots=True)
class GoldenText:
    """One input. The name says what it would catch."""

    name: str
    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class GoldenVector:
    """What one golden text must become: token ids after truncation, special tokens included, and the vector `(dim,)`."""

    name: str
    role: Role
    text: str
    token_ids: tuple[int, ...]
    truncated: bool
    vector: NDArray[np.float32]

    def distance(self, vector: NDArray[np.float32]) -> float:
        """Return the cosine distance of a found vector `(dim,)`; infinite for another shape or a NaN."""
        if vector.shape != self.vector.shape:
            return float("inf")
        found = float(cosine_distance(vector[None, :], self.vector[None, :])[0])
        return found if np.isfinite(found) else float("inf")


_SENTENCE = "A lease that is not renewed in time lets another process take over the work. "

GOLDEN_TEXTS: Final[tuple[GoldenText, ...]] = (
    GoldenText("short query", "query", "how do I renew a lease"),
    GoldenText("one word", "query", "timeout"),
    # the same text under the other role: prefixes that are swapped or lost
    GoldenText("short document", "document", "how do I renew a lease"),
    GoldenText("sentence", "document", _SENTENCE.strip()),
    # accents composed and not, letter case, full-width letters: a normaliser that was lost or added
    GoldenText("accents and case", "document", "Caf\u00e9 na\u00efve, cafe\u0301 NAI\u0308VE, \uff26\uff35\uff2c\uff2c"),
    GoldenText("other scripts", "document", "\u0130stanbul, \u041c\u043e\u0441\u043a\u0432\u0430, \u6771\u4eac, \uc11c\uc6b8, \u0639\u0631\u0628\u064a"),
    GoldenText("code", "document", 'def renew(lease: Lease, *, ttl_seconds: float = 30.0) -> None:\n    """Renew."""'),
    GoldenText("emoji and symbols", "document", "\U0001f680 100% \u20ac5 \u2013 \u201cquoted\u201d \u2026"),
    # special tokens written by an author must stay what the tokenizer says they are
    GoldenText("special tokens in text", "document", "the [MASK] of [SEP] and </s>"),
    # about half of a usual limit, and far beyond any: a token limit that did not travel
    GoldenText("long", "document", _SENTENCE * 7),
    GoldenText("too long", "document", _SENTENCE * 700),
)


def write_golden(folder: Path, entries: Sequence[GoldenVector]) -> None:
    """Write `golden.json`; vectors as base64 of little-endian float32, which loses no digit."""
    content = {
        "schema": GOLDEN_SCHEMA,
        "entries": [
            {
                "name": entry.name,
                "role": entry.role,
                "text": entry.text,
                "token_ids": list(entry.token_ids),
                "truncated": entry.truncated,
                "vector": encode_vector(entry.vector),
            }
            for entry in entries
        ],
    }
    (folder / GOLDEN_FILE).write_text(json.dumps(content, indent=1) + "\n")


def read_golden(folder: Path) -> tuple[GoldenVector, ...]:
    """Read `golden.json` of a release.

    Raises:
        MismatchError: it is missing or of another schema.
    """
    place = folder / GOLDEN_FILE
    try:
        value = json.loads(place.read_bytes())
        if value["schema"] != GOLDEN_SCHEMA:
            raise MismatchError(f"{place}: schema is {value['schema']!r}, this code reads {GOLDEN_SCHEMA}")
        return tuple(
            GoldenVector(
                name=entry["name"],
                role=entry["role"],
                text=entry["text"],
                token_ids=tuple(entry["token_ids"]),
                truncated=entry["truncated"],
                vector=decode_vector(entry["vector"]),
            )
            for entry in value["entries"]
        )
    except FileNotFoundError as exc:
        raise MismatchError(f"{place} is missing: {folder} is no release") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise MismatchError(f"{place}: no golden file of schema {GOLDEN_SCHEMA}: {exc!r}") from exc


def encode_vector(vector: NDArray[np.float32]) -> str:
    """Return a vector `(dim,)` as base64 of little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def decode_vector(text: str) -> NDArray[np.float32]:
    """Return what `encode_vector` wrote."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32)
