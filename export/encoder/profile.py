"""The profile stage: the statistics of the training texts under the encoder, as the reference for the drift of live texts."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.encoder.build import encoder_space, load_encoder_contract
from export.encoder.formats import read_export
from export.encoder.params import ProfileParams
from export.encoder.runtimes import open_runtime
from twinline.contract.documents.ids import head_id
from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.runtime import Runtime
from twinline.contract.encoder.specification import Role
from twinline.contract.encoder.tokens import Encoded
from twinline.contract.errors import ContractError, DocumentError
from twinline.contract.monitor.drift import Features, Profile
from twinline.contract.monitor.drift_reference import DriftReference, features_of, nearest, unknown_id


def build_profile(encoder: Path, exported: Path, documents: Path, pairs: Path, params: ProfileParams) -> DriftReference:
    """Profile a seeded sample of the training corpus and of the training queries; never of held-out queries.

    Args:
        encoder: the folder that was exported.
        exported: the export's folder; its first float32 format is run.
        documents: Parquet with `source`, `key`, `title`, `text`.
        pairs: Parquet of the training split with `query`; without rows there is no profile of queries.
        params: the sizes of the samples.

    Raises:
        ContractError: no float32 format was exported, or no document has text.
    """
    preprocessor = Preprocessor.load(encoder)
    space = encoder_space(encoder, load_encoder_contract(encoder))
    run = _open_fp32(exported, space)
    texts, owners = _chunk_texts(preprocessor, _sample_documents(documents, params), documents)
    encoded = preprocessor.encode(texts, "document")
    vectors = _vectors(run, encoded, preprocessor.pad_id, params.batch_size)
    unknown = unknown_id(preprocessor.tokenizer_json)
    # Leave one document out: its other chunks overlap and would be every chunk's nearest.
    similarity = nearest(vectors, owners, vectors, owners)
    found: dict[Role, Features] = {"document": features_of(encoded, similarity, unknown, len(set(owners)))}
    queries = _sample_queries(pairs, preprocessor, params)
    if queries:
        encoded = preprocessor.encode(queries, "query")
        # A training query's own document may be in the sample, as a live query's answer may be.
        similarity = nearest(_vectors(run, encoded, preprocessor.pad_id, params.batch_size), None, vectors, owners)
        found["query"] = features_of(encoded, similarity, unknown, len(queries))
    return DriftReference({role: Profile.of(features) for role, features in found.items()}, vectors, owners, space)


def _open_fp32(exported: Path, space: str) -> Runtime:
    formats = read_export(exported, space).formats
    for entry in formats:
        if entry.precision == "fp32":
            return open_runtime(exported, entry)
    names = ", ".join(entry.name for entry in formats) or "none"
    raise ContractError(f"{exported} has no fp32 format (found: {names}): add onnx_fp32 to encoder.export.formats")


def _sample_documents(path: Path, params: ProfileParams) -> list[Document]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["source", "key", "title", "text"])
    rows = list(range(table.num_rows))
    if 0 < params.documents < table.num_rows:
        rows = sorted(random.Random(params.seed).sample(rows, params.documents))  # noqa: S311 - a sample, not a secret
    return [Document(row["source"], row["key"], row["text"], title=row["title"] or "") for row in table.take(rows).to_pylist()]


def _chunk_texts(preprocessor: Preprocessor, documents: Sequence[Document], place: Path) -> tuple[list[str], list[str]]:
    """Return encoder texts, each with the head id of its document."""
    texts: list[str] = []
    owners: list[str] = []
    for document in documents:
        try:
            chunks = preprocessor.chunks(document)
        except DocumentError:
            # Only a sample: `prepare` counts documents without text.
            continue
        texts.extend(chunk.encoder_text for chunk in chunks)
        owners.extend([str(head_id(document.source, document.key))] * len(chunks))
    if not texts:
        raise ContractError(f"{place}: none of {len(documents)} sampled documents has text: there is nothing to profile")
    return texts, owners


def _sample_queries(path: Path, preprocessor: Preprocessor, params: ProfileParams) -> list[str]:
    import pyarrow.parquet as pq

    # One row a pair: a query with several documents is one query.
    queries = sorted(set(pq.read_table(path, columns=["query"]).column("query").to_pylist()))
    if 0 < params.queries < len(queries):
        queries = sorted(random.Random(params.seed).sample(queries, params.queries))  # noqa: S311 - a sample, not a secret
    return [preprocessor.query_text(query) for query in queries]


def _vectors(run: Runtime, encoded: Encoded, pad_id: int, batch_size: int) -> NDArray[np.float32]:
    """Return unit vectors `(n, dimension)`; texts of similar length run together."""
    order = np.argsort(encoded.token_counts, kind="stable")
    parts = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        piece = Encoded([encoded.token_ids[row] for row in rows], encoded.token_counts[rows], encoded.truncated[rows])
        parts.append(run(*piece.padded(pad_id=pad_id)))
    vectors = np.empty((len(order), parts[0].shape[1]), dtype=np.float32)
    vectors[order] = np.concatenate(parts)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
