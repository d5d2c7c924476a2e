"""The drift reference of a release: profiles and sample vectors of its training texts.

Two files of the release, `profile.json` and `profile.safetensors`. A release of an untrained base model has neither.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from twinline.contract.encoder.specification import Role
from twinline.contract.encoder.tokens import Encoded
from twinline.contract.errors import MismatchError
from twinline.contract.monitor.drift import Features, Profile, Values

PROFILE_SCHEMA: Final = 1
PROFILE_FILE: Final = "profile.json"
PROFILE_VECTORS_FILE: Final = "profile.safetensors"


@dataclass(frozen=True, slots=True)
class DriftReference:
    """Profiles by role, and the training sample.

    Attributes:
        profiles: one a role; a role without training texts is absent.
        vectors: `(n, dimension)`, of unit length.
        documents: the head id of the document of each vector, as text.
        space: of the vectors.
    """

    profiles: Mapping[Role, Profile]
    vectors: NDArray[np.float32]
    documents: Sequence[str]
    space: str

    def nearest(self, vectors: NDArray[np.float32], documents: Sequence[str] | None = None) -> Values:
        """Return the cosine of each of `vectors` `(n, dimension)` to the nearest of the sample, `(n,)`.

        With `documents`, vectors of the text's own document do not count: the training corpus may be the published one, and a
        document is no neighbour of itself.
        """
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return nearest(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), documents, self.vectors, self.documents)

    def save(self, folder: Path) -> None:
        """Write both files."""
        arrays: dict[str, NDArray[np.generic]] = {"vectors": self.vectors}
        for role, profile in self.profiles.items():
            arrays |= {f"{role}.{name}": known.values for name, known in profile.distributions.items()}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(arrays, folder / PROFILE_VECTORS_FILE)
        value = {
            "schema": PROFILE_SCHEMA,
            "space": self.space,
            "profiles": {role: profile.to_json() for role, profile in self.profiles.items()},
            "documents": list(self.documents),
        }
        (folder / PROFILE_FILE).write_text(json.dumps(value, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, space: str) -> Self | None:
        """Read both files; None when the folder has no profile.

        Raises:
            MismatchError: they are broken, or of another space than `space`.
        """
        place = folder / PROFILE_FILE
        if not place.is_file():
            return None
        try:
            value = json.loads(place.read_bytes())
            if value["schema"] != PROFILE_SCHEMA:
                raise MismatchError(f"{place}: schema {value['schema']}, not {PROFILE_SCHEMA}: make the release again")
            arrays = load_file(folder / PROFILE_VECTORS_FILE)
            profiles = {
                role: Profile.from_json(entry, {name: arrays[f"{role}.{name}"] for name in entry["distributions"]})
                for role, entry in value["profiles"].items()
            }
            reference = cls(profiles, arrays["vectors"], value["documents"], value["space"])
        except (KeyError, TypeError, ValueError, OSError, SafetensorError) as exc:
            raise MismatchError(f"{place}: not a profile of schema {PROFILE_SCHEMA} ({exc!r}): fetch the release again") from exc
        if reference.space != space:
            raise MismatchError(f"{place} is of space {reference.space}, the release of {space}: run `dvc repro profile package`")
        return reference


def nearest(
    vectors: NDArray[np.float32], documents: Sequence[str] | None, among: NDArray[np.float32], owners: Sequence[str]
) -> Values:
    """Return the cosine of each vector `(n, dim)` to the nearest of `among` `(m, dim)` outside its own document, `(n,)`.

    All are unit vectors, so the cosine is their product. It is -1 where no vector is left to compare.
    """
    cosines = vectors @ among.T
    if documents is not None:
        cosines[np.asarray(documents)[:, None] == np.asarray(owners)[None, :]] = -1.0
    found: Values = cosines.max(axis=1, initial=-1.0).astype(np.float64)
    return found


def unknown_id(tokenizer_json: bytes) -> int | None:
    """Return the id of a tokenizer's unknown token; None for a byte-level tokenizer without one."""
    model = json.loads(tokenizer_json)["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token, vocabulary = model.get("unk_token"), model.get("vocab")
    if not token or not isinstance(vocabulary, dict) or model.get("byte_fallback"):
        return None
    return vocabulary.get(token)


def features_of(encoded: Encoded, similarity: Values, unknown: int | None, independent: int) -> Features:
    """Return the features of n texts from their tokens, and their similarities `(n,)`."""
    shares = None
    if unknown is not None:
        shares = np.array([ids.count(unknown) / max(1, len(ids)) for ids in encoded.token_ids], dtype=np.float64)
    return Features(
        token_count=encoded.token_counts.astype(np.float64),
        truncated=encoded.truncated.astype(np.float64),
        similarity=similarity,
        unknown_share=shares,
        independent=independent,
    )
