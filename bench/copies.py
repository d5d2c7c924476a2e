"""What counts as a near copy on real passages, by threshold and floor, and the time that grouping takes of an answer."""

import gzip
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from twinline.contract.documents.sameness import LEAST_PERCENT, LEAST_TERMS, SAMENESS_VERSION, Groups, are_near, terms
from twinline.contract.errors import SettingsError

_PERCENTS: Final = (80, 90, LEAST_PERCENT)
_FLOORS: Final = (20, LEAST_TERMS)
_CHUNK_CHARS: Final = 1_200
# The hits of an answer, and the chunks that are read for them.
_ANSWERS: Final = ((10, 20), (10, 100), (100, 200))
_ROUNDS: Final = 60


def measure_copies(path: Path, most: int) -> dict[str, Any]:
    """Return how many pairs of different passages are near by each threshold and floor, and grouping's milliseconds of CPU.

    Args:
        path: JSON lines with a field `text`, plain or as `.gz`.
        most: the passages that are compared, each with each.

    Raises:
        SettingsError: the file holds no such lines.
    """
    texts = list(dict.fromkeys(_texts(path)))[:most]
    if not texts:
        raise SettingsError(f"{path} holds no JSON line with a `text`: name a BEIR corpus.jsonl, or a file of passages")
    pairs, near = _pairs(texts)
    return {
        "command": "copies",
        "passages": len(texts),
        "version": SAMENESS_VERSION,
        "pairs": [{"percent": percent, "terms": floor, "pairs": pairs[percent, floor]} for percent, floor in pairs],
        "near": near,
        "milliseconds": [{"hits": hits, "read": read, "p50": _milliseconds(texts, hits, read)} for hits, read in _ANSWERS],
    }


def _texts(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"][:_CHUNK_CHARS]


def _pairs(texts: Sequence[str]) -> tuple[dict[tuple[int, int], int], int]:
    """Return the pairs that pass a threshold and a floor, digits aside, and those that the measure itself joins."""
    found = dict.fromkeys(((percent, floor) for floor in _FLOORS for percent in _PERCENTS), 0)
    near = 0
    ordered = sorted((own for text in texts if len(own := terms(text)) >= min(_FLOORS)), key=len)
    for place, first in enumerate(ordered):
        for second in ordered[place + 1 :]:
            if 100 * len(first) < min(_PERCENTS) * len(second):
                break
            common = len(first & second)
            share = 100 * common / (len(first) + len(second) - common)
            for percent, floor in found:
                found[percent, floor] += share >= percent and len(first) >= floor
            near += are_near(first, second)
    return found, near


def _milliseconds(texts: Sequence[str], hits: int, read: int) -> float:
    taken = []
    for seed in range(_ROUNDS):
        chosen = random.Random(seed).choices(texts, k=read)  # noqa: S311  (a sample)
        began, groups = time.process_time(), Groups[int]()
        for number, text in enumerate(chosen):
            groups.first_of(number, str(number), text, may_begin=len(groups) < hits)
        taken.append((time.process_time() - began) * 1000)
    return round(statistics.median(taken), 3)
