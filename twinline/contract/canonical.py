"""Canonical JSON (RFC 8785) and hashes over it: the same bytes from any language, for any key order and white space."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import rfc8785

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


def canonical_json(value: JSON) -> bytes:
    """Return the RFC 8785 form of a JSON value.

    Raises:
        ValueError: JSON cannot hold the value exactly, as with NaN or an integer above 2**53.
    """
    return rfc8785.dumps(value)


def fingerprint(value: JSON) -> str:
    """Return the SHA-256 of the canonical form, as 64 hexadecimal digits."""
    return sha256_hex(canonical_json(value))


def sha256_hex(content: bytes) -> str:
    """Return the SHA-256 of some bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def is_text(given: str) -> bool:
    """Return whether an argument or a file's name came as valid text; Python hands other bytes over as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in given)
