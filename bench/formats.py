"""Quality and speed of each format of the base encoder on a data set's test queries, by the gate's own measurement.

data set ─> snapshot ─> base encoder ─> every format ─> parity ─> quality: nDCG@10 lost against fp32, speed, bytes, by turns
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.machine import machine
from bench.quality import as_beir, data_workspace, test_splits
from bench.queries import read_questions
from export.encoder.formats import known_format
from export.encoder.params import FASTEST, ExportParams, ParityParams, QualityParams, served_buckets
from twinline.clients.base_model import DEFAULT_BASE_MODEL
from twinline.contract.canonical import JSON
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import ChunkerSettings
from twinline.contract.errors import SettingsError

_NUMBERS: Final = (
    *("ndcg_at_10", "lost", "lost_low", "lost_high", "budget", "bytes", "query_ms", "texts_per_second"),
    "worst_slice_lost",
)


def measure_formats(data: Path, workspace_root: Path, formats: Sequence[str]) -> dict[str, JSON]:
    """Measure, and return one JSON object.

    Args:
        data: a BEIR folder or zip, or a set of questions with answers.
        workspace_root: a folder is made below it for each data set.
        formats: names; an fp32 format among them is the reference for the others.
    """
    from export.encoder.bootstrap import write_base_encoder
    from export.encoder.build import export_encoder, load_encoder_contract
    from export.encoder.calibration import calibration_ids
    from export.encoder.heldout import HeldOutPart
    from export.encoder.parity_stage import check_parity, sample_texts
    from export.encoder.quality import measure_quality
    from train.encoder.heldout import read_corpus

    if not any(known_format(name).precision == "fp32" for name in formats):
        raise SettingsError(f"--formats {','.join(formats)}: an fp32 format must be among them, as the reference for the others")
    workspace = data_workspace(workspace_root, as_beir(data, workspace_root)[0])
    workspace.module("etl", "ingest")
    snapshot = workspace.folder / "data" / "snapshot"
    documents, *more = sorted(snapshot.glob("documents-*.parquet"))
    if more:
        raise SettingsError(
            f"{data} has more than one file's worth of documents ({len(more) + 1} in {snapshot}): take a smaller set"
        )
    encoder, exported = workspace.folder / "encoder", workspace.folder / "exported"
    shutil.rmtree(encoder, ignore_errors=True)
    write_base_encoder(DEFAULT_BASE_MODEL, encoder, ChunkerSettings())
    preprocessor = Preprocessor.load(encoder)
    params = ExportParams(formats=tuple(formats))
    shutil.rmtree(exported, ignore_errors=True)
    export_encoder(encoder, exported, params, calibration_ids(documents, preprocessor, params))
    buckets = served_buckets(params.length_buckets, load_encoder_contract(encoder).vector.max_tokens)
    some = sample_texts(documents, preprocessor, ParityParams().sample_chunks)
    parity, _ = check_parity(encoder, exported, some, buckets, ParityParams())
    corpus = read_corpus(documents, [], preprocessor, max_documents=0, seed=0)
    queries: dict[str, str] = {}
    judgements: dict[str, Mapping[str, int]] = {}
    slices: dict[str, Sequence[str]] = {}
    for split in test_splits(workspace):
        asked = read_questions(snapshot, split)
        queries |= {query: preprocessor.query_text(text) for query, text in asked.texts.items()}
        judgements |= asked.judgements
        slices[split] = list(asked.texts)
    part = HeldOutPart(queries, judgements, slices, corpus.document_ids, corpus.chunk_counts, corpus.chunk_texts)
    report = measure_quality(exported, preprocessor, parity, part, buckets, (FASTEST,), QualityParams())
    worst = {entry.name: entry.parity.worst for entry in parity.formats}
    rows: list[JSON] = [
        {"format": name, "served": "yes" if name == report.serves else "", "worst_distance": float(f"{worst[name]:.2g}")}
        | {field: round(getattr(figure, field), 4) for field in _NUMBERS}
        | {"worst_slice": figure.worst_slice}
        for name, figure in report.figures.items()
    ]
    return {
        "bench": "formats",
        "machine": machine(),
        "data": data.name,
        "asked": report.statement,
        "rows": rows,
        "skipped": {entry.name: entry.reason for entry in (*parity.dropped, *report.dropped)},
    }
