"""Golden texts: inputs whose tokens and vectors are stored with each release and run through every hop.

At release time they are a gate, on a schedule a monitor. The texts are a constant of the platform; the tokens and vectors in
`golden.json` are facts of one release, written by the training framework.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from twinline.contract.encoder.golden_texts import GOLDEN_TEXTS, GoldenText, golden_texts
from twinline.contract.encoder.pooling import cosine_distance
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import MismatchError

if TYPE_CHECKING:
    # The model server reads golden texts and cuts none: it does not have the chunker's library.
    from twinline.contract.encoder.preprocess import Preprocessor
    from twinline.contract.encoder.tokens import TokenEncoder

__all__ = [
    "GOLDEN_TEXTS",
    "PARITY_LIMITS",
    "GoldenSet",
    "GoldenText",
    "GoldenVector",
    "check_tokens",
    "golden_texts",
    "read_golden",
    "write_golden",
]

GOLDEN_SCHEMA: Final = 1
GOLDEN_FILE: Final = "golden.json"

# Largest cosine distance to the training framework's float32 vectors. Beyond it a format is another encoder, not a faster one.
PARITY_LIMITS: Final[Mapping[str, float]] = {"fp32": 1e-6, "bf16": 1e-3, "fp16": 1e-3, "int8": 1e-2}


@dataclass(frozen=True, slots=True)
class GoldenVector:
    """The expected result of one golden text: token ids after truncation, special tokens included, and vector `(dim,)`."""

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


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """A release's golden texts, and its served format's largest cosine distance from the training framework."""

    entries: tuple[GoldenVector, ...]
    limit: float

    @property
    def stored_limit(self) -> float:
        """Return the largest distance of two vectors of the served format, a stored one and a new one.

        Each may be `limit` away from the training framework: twice the angle is four times the distance.
        """
        return 4 * self.limit

    def worst_stored(self, found: Mapping[str, NDArray[np.float32]]) -> tuple[GoldenVector, float]:
        """Return the golden text with the worst found vector `(dim,)`, and its distance; infinite for a missing vector."""
        distances = [entry.distance(found[entry.name]) if entry.name in found else float("inf") for entry in self.entries]
        worst = int(np.argmax(distances))
        return self.entries[worst], distances[worst]


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


def check_tokens(entries: Sequence[GoldenVector], preprocessor: "Preprocessor | TokenEncoder", place: str) -> None:
    """Tokenise every golden text again and compare with the release's tokens.

    Raises:
        MismatchError: this process gives other tokens for a golden text.
    """
    for entry in entries:
        found = tuple(preprocessor.encode([entry.text], entry.role).token_ids[0])
        if found != entry.token_ids:
            raise MismatchError(
                f"{place}: golden text {entry.name!r} has {len(found)} tokens {found[:8]}..., the release says "
                f"{len(entry.token_ids)} {entry.token_ids[:8]}...: install the tokenizers version that the release was made "
                "with, or build a new release"
            )


def encode_vector(vector: NDArray[np.float32]) -> str:
    """Return a vector `(dim,)` as base64 of little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def decode_vector(text: str) -> NDArray[np.float32]:
    """Return the vector from `encode_vector`."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32)
