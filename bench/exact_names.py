"""Made-up codes in copies of real texts: how often the one copy that holds a code comes first, offline and live.

texts ─> copies with a code ─> release of the base model ─> offline: torch, exact search
                                                         └> live: Kafka ─> consumer ─> Triton ─> store ─> search API
"""

import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Final

from bench.documents import read_documents
from bench.live import live_run
from bench.offline import OfflineIndex
from bench.planted_codes import SPLIT, plant_codes, write_data_set
from bench.queries import read_questions
from bench.workspace import make_workspace, running_stack
from etl.sources.beir import Beir
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Document
from twinline.contract.errors import ContractError
from twinline.contract.release.manifest import Manifest
from twinline.scoring.exact_names import PlantedQuery, not_first, shares_first
from twinline.scoring.retrieval import Run

CODES: Final = 200
_SHOWN: Final = 10


def measure_exact_names(data: Path | None, documents: int, workspace_root: Path, *, live: bool) -> dict[str, JSON]:
    """Measure, and return one JSON object.

    Args:
        data: a BEIR folder or zip; None: docstrings of the installed packages.
        documents: the texts beside the copies.
        live: publish, index and search in the running platform as well.
    """
    started = time.perf_counter()
    texts = _texts(data, documents)
    planted = plant_codes(texts, CODES)
    name = "pydocs" if data is None else data.stem
    folder = workspace_root / f"{name}-{len(texts)}"
    write_data_set(folder / "codes", texts, planted)
    workspace = make_workspace(folder, {"source": f"beir:{folder / 'codes'}"})
    workspace.module("etl", "ingest")
    (stored,) = sorted((folder / "data" / "snapshot").glob("documents-*.parquet"))
    release = folder / "release"
    workspace.module("export", "base", "--out", str(release), "--documents", str(stored))
    asked = {SPLIT: read_questions(folder / "data" / "snapshot", SPLIT)}
    queries = [
        PlantedQuery(str(number), one.query, one.form, frozenset(asked[SPLIT].judgements[str(number)]))
        for number, one in enumerate(planted)
    ]
    fusion = Manifest.load(release).fusion
    if fusion is None:
        raise ContractError(f"{release} was packaged without words: make it again")
    rows = _rows("offline", OfflineIndex(release, workspace).rank(asked, fusion).runs, queries)
    if live:
        with running_stack(workspace):
            workspace.module("twinline", "publish", "--source", f"beir:{folder / 'codes'}", "--all")
            rows += _rows("live", live_run(release, workspace, asked), queries)
    return {
        "bench": "exact-names",
        "data": name,
        "documents": len(texts) + len(planted),
        "queries": len(queries),
        "fusion": fusion.label,
        "rows": [*rows],
        "seconds": round(time.perf_counter() - started, 1),
    }


def _texts(data: Path | None, documents: int) -> list[Document]:
    if data is None:
        return [*read_documents("pydocs", documents)]
    found = (item for item in Beir(data.stem, str(data)).items() if isinstance(item, Document))
    return [*islice(found, documents)]


def _rows(measured: str, runs: Mapping[str, Mapping[str, Run]], queries: list[PlantedQuery]) -> list[dict[str, JSON]]:
    return [
        {
            "measured": measured,
            "mode": mode,
            **{form.replace(" ", "_"): share for form, share in shares_first(queries, by_split[SPLIT]).items()},
            "not_first": [*not_first(queries, by_split[SPLIT])[:_SHOWN]],
        }
        for mode, by_split in runs.items()
    ]
