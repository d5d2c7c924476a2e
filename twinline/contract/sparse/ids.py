"""Ids of terms: 32 bits, all that the engines have for one."""

from hashlib import blake2b


def term_id(term: str) -> int:
    """Return the id of a term: the first 32 bits of its BLAKE2b hash.

    Among a million terms some 120 pairs share an id (n^2 / 2^33). They are counted when the statistics are made.
    """
    return int.from_bytes(blake2b(term.encode(), digest_size=4).digest(), "big")
