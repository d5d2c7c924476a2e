"""The cost of the offline stages and of indexing when nothing, or one document in a hundred, has changed."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from threading import Event
from typing import Any, Final
from uuid import uuid4

from bench.alone import running_broker
from bench.checkout import CHECKOUT
from bench.documents import read_documents
from bench.in_process import InProcessEncoder
from streaming.limits import ConsumerLimits
from streaming.loop import Consumer
from twinline.clients.kafka.connect import beginning_offsets, end_offsets, ensure_topics
from twinline.clients.release import Release
from twinline.clients.settings import PROJECT_VARIABLE, Settings
from twinline.clients.store.edge import EdgeStore
from twinline.clients.store.protocol import CollectionInfo
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Document
from twinline.contract.errors import ContractError
from twinline.contract.release.folder import ReleaseFolder

_REAL: Final = 2_000
_EVERY: Final = 100
# Lines of a made-up text: about a thousand characters.
_LINES: Final = 16
_LINE_WORDS: Final = 6


def stages_cost(folder: Path, documents: int, kind: str = "lines") -> dict[str, Any]:
    """Run the stages ingest to pairs in a clone of the committed code: first, unchanged, one document in a hundred changed.

    Args:
        kind: `lines`, one file of JSON Lines, the cheapest first read; `folder`, a Markdown file a document.
    """
    clone = folder / f"clone-{kind}-{documents}"
    shutil.rmtree(clone, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--local", str(CHECKOUT), str(clone)], check=True)
    corpus = folder / (f"corpus-{documents}.jsonl" if kind == "lines" else f"corpus-{documents}")
    write = write_corpus if kind == "lines" else write_folder
    write(corpus, documents, 0)
    size = sum(path.stat().st_size for path in ([corpus] if kind == "lines" else corpus.iterdir()))
    params = clone / "params.yaml"
    params.write_text(params.read_text().replace('source: "pydocs:"', f'source: "files:{corpus}"'))
    environment = _environment(clone)

    def dvc(*arguments: str) -> float:
        return _measured([sys.executable, "-m", "dvc", "repro", "-q", *arguments], clone, environment)[0]

    first = dvc("pairs")
    no_op = dvc("pairs")
    write(corpus, documents, 1)
    # A source that changes behind its name must be read again, as in the daily ingest. All three in one process of DVC: each is
    # stale once the source is.
    changed = dvc("--force", "--single-item", *_STAGES)
    again = {name: (clone / "data" / name).read_bytes() for name in _outputs(clone)}
    # Each stage in a process of its own, with the caches and without, to see its time and memory.
    warm = {name: _stage(name, clone, environment) for name in _STAGES}
    shutil.rmtree(Path(environment["TWINLINE_HOME"]))
    cold = {name: _stage(name, clone, environment) for name in _STAGES}
    differs = [name for name in sorted(again.keys() | _outputs(clone)) if _bytes(clone / "data" / name) != again.get(name)]
    if differs:
        raise ContractError(f"with their caches the stages gave other bytes than without, in {differs}: look at stage_cache.py")
    shutil.rmtree(clone)
    return {
        "source": kind,
        "documents": documents,
        "corpus_mib": round(size / 2**20, 2),
        "first_seconds": round(first, 2),
        "no_op_seconds": round(no_op, 2),
        "one_percent_seconds": round(changed, 2),
        "one_percent_share": round(changed / first, 3),
        "stage_cold_seconds": {name: round(seconds, 2) for name, (seconds, _) in cold.items()},
        "stage_unchanged_seconds": {name: round(seconds, 2) for name, (seconds, _) in warm.items()},
        "stage_peak_mib": {name: round(max(cold[name][1], warm[name][1]), 1) for name in _STAGES},
        "peak_mib": round(max(peak for _, peak in (*cold.values(), *warm.values())), 1),
    }


def _stage(name: str, clone: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    return _measured([sys.executable, "-m", "etl", name], clone, environment)


def _outputs(clone: Path) -> set[str]:
    """Return the stages' tables."""
    return {str(path.relative_to(clone / "data")) for path in (clone / "data").rglob("*.parquet")}


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _measured(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """Run a command; return its seconds, and the MiB of its largest process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=sys.stderr)
    # Of this child and its own children; other processes of the bench do not count.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise ContractError(f"`{' '.join(command)}` in {folder} ended with {process.returncode}, its message is above")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


_STAGES: Final = ("ingest", "prepare", "pairs")


def indexing_cost(folder: Path, release: Path, documents: int) -> dict[str, JSON]:
    """Publish a corpus and index it, then again with one document in a hundred changed: only these reach the log."""
    shutil.rmtree(folder, ignore_errors=True)
    corpus = folder / "corpus.jsonl"
    files = ReleaseFolder.load(release)
    info, encoder = CollectionInfo.of(files.manifest), InProcessEncoder.load(release)
    opened = Release(info, files.preprocessor, encoder, files.golden, files.words)
    costs: list[tuple[float, int]] = []
    with running_broker(folder / "broker") as settings:
        ensure_topics(settings)
        environment = {
            **os.environ,
            "TWINLINE_HOME": str(settings.home),
            "KAFKA_BOOTSTRAP": settings.kafka_address,
            "PYTHONPATH": str(CHECKOUT),
        }
        with closing(EdgeStore(folder / "store").create("documents_growth", opened.info)) as collection:
            start = beginning_offsets(settings, settings.topic)
            for state in (0, 1):
                write_corpus(corpus, documents, state)
                started = time.perf_counter()
                publish = [sys.executable, "-m", "etl", "publish", "--source", f"files:{corpus}"]
                subprocess.run(publish, cwd=CHECKOUT, env=environment, stdout=sys.stderr, check=True)
                until = end_offsets(settings, settings.topic)
                consumer = _consumer(settings, opened, collection)
                consumer.run(Event(), start=start, until=until)
                costs.append((time.perf_counter() - started, consumer.state.chunks_embedded))
                start = until
    (first, embedded), (changed, again) = costs
    return {
        "documents": documents,
        "chunks": embedded,
        "chunks_embedded_again": again,
        "first_seconds": round(first, 2),
        "one_percent_seconds": round(changed, 2),
        "one_percent_share": round(changed / first, 3),
    }


def write_corpus(path: Path, documents: int, state: int) -> None:
    """Write a corpus of JSON Lines; in state 1 one document in a hundred differs from state 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    real = read_documents("pydocs", min(documents, _REAL))
    with path.open("w", encoding="utf-8") as stream:
        for number, text in enumerate(_texts(real, documents)):
            if state and number % _EVERY == 0:
                text = f"{text}\n\nRevised in edition {state} of this text."
            stream.write(json.dumps({"key": str(number), "title": real[number % len(real)].title, "text": text}) + "\n")


def write_folder(path: Path, documents: int, state: int) -> None:
    """Write the same corpus as a folder of Markdown files; in state 1 only the changed files are written."""
    path.mkdir(parents=True, exist_ok=True)
    real = read_documents("pydocs", min(documents, _REAL))
    for number, text in enumerate(_texts(real, documents)):
        if state and number % _EVERY:
            continue
        revised = f"\n\nRevised in edition {state} of this text." if state else ""
        (path / f"{number:07}.md").write_text(f"# {real[number % len(real)].title}\n\n{text}{revised}\n", encoding="utf-8")


def _texts(real: Sequence[Document], count: int) -> Iterator[str]:
    """Yield texts: real ones first, then random combinations of real lines, so that hardly any two are near-duplicates."""
    lines = [line for document in real for line in document.text.splitlines() if len(line.split()) >= _LINE_WORDS]
    for number in range(count):
        if number < len(real):
            yield real[number].text
        else:
            drawn = Random(number).sample(lines, min(_LINES, len(lines)))  # noqa: S311  (no secret)
            yield "\n".join([*drawn, f"Number {number}."])


def _consumer(settings: Settings, release: Release, collection: Any) -> Consumer:
    return Consumer(settings, release, collection, ConsumerLimits(vector_cache_mib=0), group=f"growth.{uuid4().hex[:8]}")


def _environment(clone: Path) -> dict[str, str]:
    return {
        **os.environ,
        PROJECT_VARIABLE: str(clone),
        "TWINLINE_HOME": str(clone / "home"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(clone),
    }
