"""The split of every query: training or held out. Pure.

Queries that share a cluster of near-duplicate documents, or a text, go to one split. The hash of the shared cluster or text
decides, so a query stays in its split when other documents come and go.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from etl.clusters import Groups
from etl.natural import normal_text


@dataclass(frozen=True, slots=True)
class Asked:
    """A query and the clusters of its relevant documents."""

    query_id: str
    text: str
    clusters: Sequence[str]


def assign_splits(queries: Iterable[Asked], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Return the split of every query: one of the names in `shares`, `train` for the rest.

    A split whose share is above 0 gets at least one group of queries as long as there are more groups than splits.
    """
    groups = _groups(list(queries))
    points = {name: _point(name, seed) for name in groups}
    in_order = sorted(groups, key=lambda name: (points[name], name))
    chosen: dict[str, str] = {}
    low = 0.0
    for split, share in shares.items():
        chosen |= {name: split for name in in_order if low <= points[name] < low + share}
        low += share
    for split, share in shares.items():
        free = [name for name in in_order if name not in chosen]
        if share > 0 and split not in chosen.values() and len(free) > 1:
            chosen[free[0]] = split
    return {query: chosen.get(name, "train") for name, members in groups.items() for query in members}


def _groups(queries: Sequence[Asked]) -> dict[str, list[str]]:
    """Return the queries that belong together, under the name of the first cluster or text that they share."""
    # A cluster and a text stay different even where they are spelt alike.
    links = [[("cluster", c) for c in sorted(set(q.clusters))] + [("text", normal_text(q.text))] for q in queries]
    numbers = {link: number for number, link in enumerate(sorted({link for own in links for link in own}))}
    names = {number: link for link, number in numbers.items()}
    joined = Groups(len(numbers))
    for own in links:
        for link in own[1:]:
            joined.join(numbers[own[0]], numbers[link])
    members: defaultdict[str, list[str]] = defaultdict(list)
    for query, own in zip(queries, links, strict=True):
        members["\0".join(names[joined.find(numbers[own[0]])])].append(query.query_id)
    return dict(members)


def _point(name: str, seed: int) -> float:
    """Return the place of a name between 0 and 1: fixed by the seed, evenly spread."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
