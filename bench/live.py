"""The live ranking of a release: the search API's answers once the release is active."""

from collections.abc import Mapping
from pathlib import Path

import httpx
from tqdm import tqdm

from bench.offline import MODES
from bench.queries import Questions
from bench.workspace import Workspace
from train.encoder.heldout import document_id
from twinline.contract.errors import ContractError
from twinline.contract.release.manifest import Manifest
from twinline.scoring.ranking import answer_scores
from twinline.scoring.retrieval import Run

# The depth of recall@100, and the API's limit.
_LIMIT = 100
_TIMEOUT_SECONDS = 30.0


def live_run(release: Path, workspace: Workspace, questions: Mapping[str, Questions]) -> dict[str, dict[str, Run]]:
    """Make the release the active one, ask every query, and return mode -> split -> query -> document -> score."""
    manifest = Manifest.load(release)
    workspace.module("twinline", "release", "deploy", str(release))
    runs: dict[str, dict[str, Run]] = {mode: {} for mode in MODES}
    with httpx.Client(base_url=workspace.settings().search_url, timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
        for split, asked in questions.items():
            for mode in MODES:
                bar = tqdm(asked.texts.items(), desc=f"{release.name}: {split} queries, live, {mode}", unit="query")
                runs[mode][split] = {query: _ask(client, text, mode, manifest.release) for query, text in bar}
    return runs


def _ask(client: httpx.Client, text: str, mode: str, release: str) -> dict[str, float]:
    response = client.post("/v1/search", json={"query": text, "limit": _LIMIT, "mode": mode, "group": False})
    response.raise_for_status()
    answer = response.json()
    if answer["release"] != release:
        raise ContractError(f"the answer came from release {answer['release']}, not from {release}, the release just activated")
    found = [document_id(hit["source"], hit["key"]) for hit in answer["hits"]]
    return dict(zip(found, answer_scores(answer), strict=True))
