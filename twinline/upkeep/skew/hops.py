"""The hops of golden texts: each is a function of its pieces, and judges by the release's golden file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from export.encoder.formats import ExportedFormat
from export.encoder.parity import Sample, measure_parity, mixed_batches
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.encoder.encoder_record import check_encoder
from twinline.contract.encoder.golden import PARITY_LIMITS, GoldenSet, GoldenVector
from twinline.contract.encoder.pooling import cosine_distance
from twinline.contract.encoder.runtime import Runtime
from twinline.contract.encoder.space import hash_safetensors
from twinline.contract.encoder.specification import ROLES, Contract, Role
from twinline.contract.errors import MismatchError
from twinline.contract.release.manifest import Fingerprints, Format
from twinline.upkeep.skew.pieces import Offline, Scored, Subject, Vector
from twinline.upkeep.skew.report import CannotRunError, Hop

# The texts of one request: in a larger batch a client would separate long from short.
BATCH_TEXTS: Final = 8
_NAMED: Final = 3
_WEIGHTS: Final = "encoder/model.safetensors"

Batch: TypeAlias = tuple[Role, list[int]]


def rules_hop(check: Callable[[], None]) -> Hop:
    """Run the golden cases of the rules that are code."""
    check()
    return Hop("rules", "ok")


def files_hop(subject: Subject) -> Hop:
    """Hash every file of the release folder, and compute fingerprints and space again from the files."""
    folder, manifest = subject.folder, subject.manifest
    manifest.verify_files(folder)
    contract, _ = Contract.load(folder)
    found = Fingerprints.of(contract)
    if found != manifest.fingerprints:
        raise MismatchError(
            f"{folder}: the contract has fingerprint {found.contract}, the manifest says {manifest.fingerprints.contract}: "
            "fetch the release again"
        )
    space = check_encoder(folder / "encoder", contract, hash_safetensors(folder / _WEIGHTS))
    if space != manifest.space:
        raise MismatchError(
            f"{folder}: contract and weights make the space {space}, the manifest says {manifest.space}: fetch the release again"
        )
    return Hop("release files", "ok")


def tokens_hop(
    name: str,
    golden: GoldenSet,
    token_ids: Callable[[Sequence[str], Role], Sequence[Sequence[int]]],
    batch_texts: int = BATCH_TEXTS,
) -> Hop:
    """Compare token ids, each text alone and in mixed batches, exactly."""
    entries = golden.entries
    other: set[int] = set()
    for role, rows in _batches(entries, batch_texts):
        found = token_ids([entries[row].text for row in rows], role)
        other |= {row for row, ids in zip(rows, found, strict=True) if tuple(ids) != entries[row].token_ids}
    return _judged(name, entries, other)


def framework_hop(golden: GoldenSet, vectors: Callable[[Sequence[Sequence[int]]], Vector]) -> Hop:
    """Compute the stored vectors again in the training framework, from the release's own weights and token ids."""
    entries = golden.entries
    found = vectors([entry.token_ids for entry in entries])
    distances = np.array([[entry.distance(vector) for entry, vector in zip(entries, found, strict=True)]])
    return _judged("training framework", entries, set(), distances, PARITY_LIMITS["fp32"])


def format_hop(subject: Subject, entry: Format, open_format: Callable[[Format], Runtime], pad_id: int) -> Hop:
    """Run an exported format alone and in mixed padded batches, as the parity stage does."""
    entries = subject.golden.entries
    exported = ExportedFormat(entry.name, entry.backend, entry.precision, entry.file)
    sample = Sample(
        [golden.name for golden in entries],
        [golden.token_ids for golden in entries],
        np.stack([golden.vector for golden in entries]),
    )
    run, buckets = open_format(entry), subject.manifest.serving.length_buckets
    figure = measure_parity(entry.name, exported.precision, sample, run, buckets, pad_id, BATCH_TEXTS)
    return Hop(
        entry.name,
        "ok" if figure.passed else "broken",
        "" if figure.passed else figure.summary(),
        texts=figure.texts,
        worst=figure.worst,
        median=figure.median,
        limit=figure.limit,
        worst_text=figure.worst_text,
    )


def embedder_hop(name: str, golden: GoldenSet, embedder: Embedder, space: str) -> Hop:
    """Send the golden texts through a live encoder: vectors, token counts, flags of truncation, and the space of each answer."""
    entries = golden.entries
    other: set[int] = set()
    distances = np.zeros((1, len(entries)))
    for role, rows in _batches(entries, BATCH_TEXTS):
        answer = embedder.embed([entries[row].text for row in rows], role)
        if answer.space != space:
            raise MismatchError(f"{name} answers from space {answer.space}, the release has {space}: publish the release again")
        for at, row in enumerate(rows):
            entry = entries[row]
            # the worse of alone and in a batch
            distances[0, row] = max(distances[0, row], entry.distance(answer.vectors[at]))
            if answer.token_counts[at] != len(entry.token_ids) or bool(answer.truncated[at]) != entry.truncated:
                other.add(row)
    return _judged(name, entries, other, distances, golden.limit)


def stored_hop(golden: GoldenSet, read: Callable[[], Mapping[str, Vector]]) -> Hop:
    """Compare the collection's golden vectors."""
    name, entries, found = "stored golden", golden.entries, read()
    absent = [entry.name for entry in entries if entry.name not in found]
    if absent:
        return Hop(
            name,
            "broken",
            f"the collection does not hold {len(absent)} of {len(entries)} golden texts ({_few(absent)}): build it again",
            texts=len(entries) - len(absent),
            worst_text=absent[0],
        )
    distances = np.array([[entry.distance(found[entry.name]) for entry in entries]])
    return _judged(name, entries, set(), distances, golden.stored_limit)


def search_hop(golden: GoldenSet, offline: Offline, search: Callable[[str], Sequence[Scored]]) -> Hop:
    """Search with golden queries, and compare the hits' scores with those of the training framework's query vectors.

    Between unit vectors, a score that is d off was made with a query at least d away, at a cosine distance of d**2 / 2 or more.

    Raises:
        CannotRunError: there are no hits.
    """
    entries = [entry for entry in golden.entries if entry.role == "query"]
    texts = [offline.query_text(entry.text) for entry in entries]
    vectors = offline.vectors(offline.encode(texts, "query").token_ids)
    distances = np.zeros((1, len(entries)))
    for row, (entry, vector) in enumerate(zip(entries, vectors, strict=True)):
        distances[0, row] = _score_distance(vector, search(entry.text))
        if distances[0, row] > golden.limit:
            # A point may be written between the reads of its score and its vector: one look is not enough for a fault.
            distances[0, row] = min(distances[0, row], _score_distance(vector, search(entry.text)))
    return _judged("search", entries, set(), distances, golden.limit)


def _score_distance(query: Vector, hits: Sequence[Scored]) -> float:
    if not hits:
        raise CannotRunError("nothing is found: the collection holds no document")
    stored = np.stack([vector for _, vector in hits])
    expected = 1 - cosine_distance(np.broadcast_to(query, stored.shape), stored)
    return float(np.max((np.array([score for score, _ in hits]) - expected) ** 2) / 2)


def offline_hops(subject: Subject, offline: Offline) -> list[tuple[str, Callable[[], Hop]]]:
    """Return the hops that run the release's own model files, by name."""
    formats = subject.manifest.formats
    return [
        ("training framework", partial(framework_hop, subject.golden, offline.vectors)),
        *((entry.name, partial(format_hop, subject, entry, offline.open_format, offline.pad_id)) for entry in formats),
    ]


def _batches(entries: Sequence[GoldenVector], size: int) -> Iterator[Batch]:
    """Yield each text alone, then batches of one role that hold short and long texts."""
    yield from ((entry.role, [row]) for row, entry in enumerate(entries))
    for role in ROLES:
        rows = [row for row, entry in enumerate(entries) if entry.role == role]
        for batch in mixed_batches([len(entries[row].token_ids) for row in rows], size) if rows else []:
            yield role, [rows[at] for at in batch]


def _judged(
    name: str,
    entries: Sequence[GoldenVector],
    other: set[int],
    distances: NDArray[np.float64] | None = None,
    limit: float | None = None,
) -> Hop:
    faults = []
    others = [entries[row].name for row in sorted(other)]
    if others:
        faults.append(f"{len(others)} of {len(entries)} golden texts with other tokens ({_few(others)})")
    if distances is None or limit is None:
        state = "broken" if faults else "ok"
        return Hop(name, state, "; ".join(faults), len(entries), len(others), worst_text=others[0] if others else "")  # type: ignore[arg-type]
    by_text = distances.max(axis=0)
    row = int(by_text.argmax())
    worst = float(by_text[row])
    if not worst <= limit:
        faults.append(f"golden text {entries[row].name} is {worst:.2e} away, the limit is {limit:.0e}")
    return Hop(
        name,
        "broken" if faults else "ok",
        "; ".join(faults),
        texts=len(entries),
        other_ids=len(others),
        worst=worst,
        median=float(np.median(by_text)),
        limit=limit,
        worst_text=entries[row].name,
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
