"""The time of a request inside Triton, by its own statistics: each step of the ensemble, and each part of a step."""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from bench.system import Served
from triton_models.names import embed_model, encoder_model, tokenizer_model
from twinline.contract.canonical import JSON

_PARTS: Final = ("queue", "compute_input", "compute_infer", "compute_output")
_TIMEOUT_SECONDS: Final = 10.0
Statistics = Mapping[str, Mapping[str, Any]]


def read_statistics(system: Served) -> Statistics:
    """Return Triton's statistics so far of the release's three models."""
    names = (embed_model(system.release), tokenizer_model(system.release), encoder_model(system.release))
    base = f"http://{system.settings.triton_http_address}/v2/models"
    with httpx.Client(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
        return {name: client.get(f"{base}/{name}/stats").raise_for_status().json()["model_stats"][0] for name in names}


def steps_between(before: Statistics, after: Statistics) -> list[JSON]:
    """Return one row a model: mean milliseconds of each part of a request, and the mean number of requests in a batch."""
    rows: list[JSON] = []
    for name, now in after.items():
        then, found = before[name], now["inference_stats"]
        count = found["success"]["count"] - then["inference_stats"]["success"]["count"]
        batches = now["execution_count"] - then["execution_count"]
        if count <= 0:
            continue
        milliseconds = {part: (found[part]["ns"] - then["inference_stats"][part]["ns"]) / count / 1e6 for part in _PARTS}
        rows.append(
            {
                "step": name.partition("_")[0],
                "requests": count,
                "requests_a_batch": round(count / batches, 2) if batches else None,
                **{f"{part}_ms": round(value, 3) for part, value in milliseconds.items()},
            }
        )
    return rows
