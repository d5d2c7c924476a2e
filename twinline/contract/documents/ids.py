"""Ids that every path computes alike, so that a redelivery is an overwrite rather than a duplicate."""

import json
from uuid import UUID, uuid5

# A constant of the platform: changing it would orphan every stored point.
_NAMESPACE = UUID("5f0c2b1e-8f6d-5d0a-9b1c-7a1f3a6f2e10")


def point_id(source: str, key: str, chunk_index: int) -> UUID:
    """Return the vector-store id of one chunk."""
    # JSON, not "_".join: ("a_b", "c") and ("a", "b_c") must stay different.
    return uuid5(_NAMESPACE, json.dumps([source, key, chunk_index]))


def head_id(source: str, key: str) -> UUID:
    """Return the id of a document's head point."""
    # Two elements, where a chunk has three: no head can collide with a chunk.
    return uuid5(_NAMESPACE, json.dumps([source, key]))


def golden_id(name: str) -> UUID:
    """Return the id of the point that holds the vector of one golden text."""
    # One element: neither a head nor a chunk can have this id.
    return uuid5(_NAMESPACE, json.dumps([name]))


def build_id() -> UUID:
    """Return the id of the point in which a build notes how far it has come."""
    # No element at all: no head, chunk or golden text can have this id.
    return uuid5(_NAMESPACE, json.dumps([]))
