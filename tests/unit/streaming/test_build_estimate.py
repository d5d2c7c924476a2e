"""A build says beforehand what it will take, from what was measured, and afterwards how far off that was."""

import io
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import streaming.__main__ as command
import twinline.release.__main__ as release_command
from streaming.building import estimate as estimates
from streaming.building.build import Built, Inputs
from streaming.building.estimate import (
    Estimate,
    Rate,
    bytes_a_chunk,
    chunks_a_message,
    chunks_a_second,
    collection_bytes,
    estimate,
    estimate_build,
    record_build,
)
from tests.unit.release.factories import make_release
from twinline.clients.builds import BuildRecord, read_record, running_builds, spoken, write_record
from twinline.clients.online import CollectionStatus, OnlineStatus
from twinline.clients.release import Release
from twinline.clients.run import INTERRUPTED
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import CollectionInfo
from twinline.contract.errors import TransientError
from twinline.contract.release.manifest import Manifest, Quality
from twinline.contract.sparse.fusion import Fusion

UNKNOWN = Rate(None, "never measured")
LAST = BuildRecord("r9", "onnx_fp32", "base", messages=1_000, chunks=3_000, embedded=3_000, seconds=100.0)


def measured(value: float) -> Rate:
    return Rate(value, "measured")


@pytest.mark.parametrize(
    ("messages", "rates", "chunks", "seconds", "size"),
    [
        (1_000, (measured(2.5), measured(50), measured(4_000)), 2_500, 50.0, 10_000_000),
        (1_000, (UNKNOWN, measured(50), measured(4_000)), None, None, None),
        (1_000, (measured(2.5), UNKNOWN, measured(4_000)), 2_500, None, 10_000_000),
        (1_000, (measured(2.5), measured(50), UNKNOWN), 2_500, 50.0, None),
        (1_000, (UNKNOWN, UNKNOWN, UNKNOWN), None, None, None),
        # an empty log takes nothing, whatever is known
        (0, (UNKNOWN, UNKNOWN, UNKNOWN), 0, 0.0, 0),
        (0, (measured(2), measured(50), measured(10)), 0, 0.0, 0),
        # documents without a chunk
        (10, (measured(0.0), measured(50), measured(10)), 0, 0.0, 0),
        # a rate of nothing is no rate: never an endless time
        (10, (measured(1.0), measured(0.0), measured(10)), 10, None, 100),
        (100_000_000, (measured(1.2), measured(300), measured(3_100)), 120_000_000, 400_000.0, 372_000_000_000),
        (3, (measured(1 / 3), measured(1), measured(1)), 1, 1.0, 1),
    ],
)
def test_an_estimate_is_as_known_as_its_rates(
    messages: int, rates: tuple[Rate, Rate, Rate], chunks: int | None, seconds: float | None, size: int | None
) -> None:
    found = estimate(messages, *rates)
    assert (found.messages, found.chunks, found.seconds, found.bytes) == (messages, chunks, seconds, size)


def test_an_unknown_rate_is_said_as_unknown_with_its_reason() -> None:
    said = "\n".join(estimate(1_000, measured(2.5), UNKNOWN, UNKNOWN).lines())
    assert "1,000 messages, at most 2,500 chunks, unknown time, unknown size" in said
    assert "chunks a second: unknown, never measured" in said
    assert "chunks a message: 2.50, measured" in said
    known = estimate(10_000, measured(2), measured(10), measured(100_000)).lines()
    assert known[0] == "to build: 10,000 messages, at most 20,000 chunks, about 33 min, 2.0 GB"


@pytest.mark.parametrize(
    ("expected", "seconds", "size", "said"),
    [
        ((80.0, 2e6), 50.0, 1_000_000, "took 50 s, estimated 80 s, ratio 0.62; takes 1.0 MB, estimated 2.0 MB, ratio 0.50"),
        ((None, None), 50.0, 1_000_000, "took 50 s, not estimated; takes 1.0 MB, not estimated"),
        ((20.0, None), 50.0, None, "took 50 s, estimated 20 s, ratio 2.50"),
        # an estimate of nothing has no ratio
        ((0.0, 0), 2.0, 500_000, "took 2 s, estimated 0 s; takes 0.5 MB, estimated 0.0 MB"),
    ],
)
def test_a_build_is_compared_with_its_estimate(
    expected: tuple[float | None, Any], seconds: float, size: int | None, said: str
) -> None:
    assert Estimate(1, 1, *expected, ()).compared(seconds, size) == said


def status(chunks: int | None = 2_000, documents: int | None = 1_000) -> CollectionStatus:
    return CollectionStatus("documents_r1", "r1", "space", "contract", True, True, documents, chunks, 0, [])


@pytest.mark.parametrize(
    ("active", "last", "value"),
    [
        (status(), LAST, 2.0),
        (status(chunks=0, documents=0), LAST, 3.0),
        (status(chunks=None, documents=None), LAST, 3.0),
        (None, LAST, 3.0),
        (None, None, None),
        (status(chunks=0, documents=0), None, None),
        (status(chunks=0), None, 0.0),
        (None, replace(LAST, messages=0), None),
    ],
)
def test_chunks_a_message_come_from_the_active_collection_or_the_last_build(
    active: CollectionStatus | None, last: BuildRecord | None, value: float | None
) -> None:
    assert chunks_a_message(active, last).value == value


def quality(rate: float) -> Quality:
    return Quality(0.7, 0.0, 0.0, 0.0, 0.02, "a slice", 0.0, 1_000, 5.0, rate)


@pytest.mark.parametrize(
    ("last", "rate", "value"),
    [
        (LAST, None, 30.0),
        (LAST, 200.0, 30.0),
        (None, 200.0, 200.0),
        (None, None, None),
        (None, 0.0, None),
        # another encoder says nothing of this one
        (replace(LAST, format="openvino_int8"), 200.0, 200.0),
        (replace(LAST, base_model="another"), 200.0, 200.0),
        (replace(LAST, base_model="another"), None, None),
        (replace(LAST, seconds=0.0), None, None),
    ],
)
def test_the_rate_is_that_of_the_last_build_alike_or_of_the_manifest(
    tmp_path: Path, last: BuildRecord | None, rate: float | None, value: float | None
) -> None:
    manifest = make_release(tmp_path / "r")
    if rate is not None:
        manifest = replace(manifest, formats=(replace(manifest.formats[0], quality=quality(rate)),))
    assert chunks_a_second(manifest, last).value == value


class Store:
    """One collection, on this disk."""

    def __init__(self, info: CollectionInfo) -> None:
        self._info = info

    def names(self) -> list[str]:
        return ["documents_r1"]

    def info(self, name: str) -> CollectionInfo:
        assert name == "documents_r1"
        return self._info


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    made = make_release(tmp_path / "home" / "releases" / "made")
    (tmp_path / "home" / "releases" / "made").rename(tmp_path / "home" / "releases" / made.release)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "home").mkdir(exist_ok=True)
    return Settings(home=tmp_path / "home")


def release_of(manifest: Manifest) -> Any:
    return SimpleNamespace(info=CollectionInfo.of(manifest))


def fill(settings: Settings, blocks: int) -> None:
    folder = settings.store_folder / "documents_r1" / "shard"
    folder.mkdir(parents=True)
    (folder / "vectors").write_bytes(b"x" * 4_096 * blocks)


def test_bytes_a_chunk_are_measured_on_the_disk_of_the_active_collection(settings: Settings, manifest: Manifest) -> None:
    fill(settings, 2_000)
    found = bytes_a_chunk(settings, release_of(manifest), Store(CollectionInfo.of(manifest)), status())  # type: ignore[arg-type]
    assert found.value == pytest.approx(4_096, rel=0.1)
    assert collection_bytes(settings, "documents_r1") == pytest.approx(4_096 * 2_000, rel=0.1)


@pytest.mark.parametrize(
    ("active", "reason"),
    [
        (None, "no collection"),
        (status(chunks=0), "no collection"),
        (status(chunks=None), "no collection"),
        (status(chunks=499), "only 499 chunks"),
        (replace(status(), name="documents_r2"), "no collection"),
    ],
)
def test_without_enough_to_measure_on_the_size_is_unknown(
    settings: Settings, manifest: Manifest, active: CollectionStatus | None, reason: str
) -> None:
    found = bytes_a_chunk(settings, release_of(manifest), Store(CollectionInfo.of(manifest)), active)  # type: ignore[arg-type]
    assert found.value is None
    assert reason in found.origin


def test_other_vectors_another_index_or_a_server_say_nothing_of_the_size(settings: Settings, manifest: Manifest) -> None:
    fill(settings, 1)
    others = [
        replace(manifest, fusion=Fusion()),
        replace(manifest, dimension=8),
        replace(manifest, index=replace(manifest.index, quantization="int8")),
    ]
    for other in others:
        found = bytes_a_chunk(settings, release_of(manifest), Store(CollectionInfo.of(other)), status())  # type: ignore[arg-type]
        assert found == Rate(None, "documents_r1 has other vectors or another index")
    server = settings.model_copy(update={"store": "qdrant"})
    found = bytes_a_chunk(server, release_of(manifest), Store(CollectionInfo.of(manifest)), status())  # type: ignore[arg-type]
    assert (found.value, collection_bytes(server, "documents_r1")) == (None, None)


@pytest.mark.parametrize(
    ("embedded", "reused", "kept"),
    [(500, 0, True), (5_000, 5_000, True), (499, 0, False), (5_000, 5_001, False), (0, 0, False), (0, 9_000, False)],
)
def test_only_a_build_that_embedded_its_texts_leaves_a_rate(
    settings: Settings, manifest: Manifest, embedded: int, reused: int, kept: bool
) -> None:
    write_record(settings.home, LAST)
    record_build(settings, release_of(manifest), Built(embedded, reused), 700, 12.3456, 24.6912)
    made = BuildRecord(manifest.release, "onnx_fp32", "base", 700, embedded + reused, embedded, 12.346, 24.691)
    assert read_record(settings.home) == (made if kept else LAST)


@pytest.mark.parametrize(
    ("seconds", "estimated", "ratio"),
    [(100.0, 80.0, 1.25), (50.0, 100.0, 0.5), (50.0, None, None), (50.0, 0.0, None), (0.0, 10.0, 0.0)],
)
def test_a_record_keeps_its_estimate_and_their_ratio(
    settings: Settings, manifest: Manifest, seconds: float, estimated: float | None, ratio: float | None
) -> None:
    record_build(settings, release_of(manifest), Built(500, 0), 700, seconds, estimated)
    found = read_record(settings.home)
    assert found is not None
    assert (found.seconds, found.estimated_seconds, found.ratio) == (seconds, estimated, ratio)


def test_a_record_of_the_version_before_has_no_estimate(tmp_path: Path) -> None:
    write_record(tmp_path, LAST)
    [path] = tmp_path.glob("*.json")
    kept = json.loads(path.read_text())
    del kept["estimated_seconds"]
    path.write_text(json.dumps(kept))
    assert read_record(tmp_path) == LAST


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", "{", '{"release": "r1"}'])
def test_a_record_of_another_version_is_no_rate_and_stops_no_build(tmp_path: Path, content: str) -> None:
    assert read_record(tmp_path) is None
    write_record(tmp_path, LAST)
    [path] = tmp_path.glob("*.json")
    path.write_text(content)
    assert read_record(tmp_path) is None
    assert running_builds(tmp_path) == []  # it is not the progress of a build


class Admin:
    """The online process, there or away."""

    away = False

    def __init__(self, url: str) -> None: ...

    def status(self) -> OnlineStatus:
        if self.away:
            raise TransientError("the online process does not answer")
        return OnlineStatus("documents_r1", [status()], {})

    def close(self) -> None: ...


def test_an_estimate_needs_no_online_process(settings: Settings, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "AdminClient", Admin)
    fill(settings, 2_000)
    store: Any = Store(CollectionInfo.of(manifest))
    write_record(settings.home, LAST)
    there = estimate_build(settings, release_of(manifest), store, 1_500)
    assert (there.chunks, there.seconds) == (3_000, 100.0)
    assert there.bytes == pytest.approx(3_000 * 4_096, rel=0.1)
    monkeypatch.setattr(Admin, "away", True)
    away = estimate_build(settings, release_of(manifest), store, 1_500)
    assert (away.chunks, away.seconds, away.bytes) == (4_500, 150.0, None)


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("\n", True), ("n\n", False), ("", False)])
def test_a_person_is_asked_and_an_end_of_the_input_is_a_no(monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert command._agreed() is agreed


@pytest.mark.parametrize(
    ("stdin", "stderr", "arguments", "asked"),
    [
        (True, True, [], True),
        (True, True, ["--yes"], False),
        # a DAG, a pipe, a program that keeps the output
        (False, False, [], False),
        (False, True, [], False),
        (True, False, [], False),
    ],
)
@pytest.mark.parametrize("step", ["build", "deploy"])
def test_only_a_person_at_a_terminal_is_asked(
    monkeypatch: pytest.MonkeyPatch, step: str, stdin: bool, stderr: bool, arguments: list[str], asked: bool
) -> None:
    seen: list[bool] = []

    class Flow:
        def build(self, release: str, snapshot: str, *, ask: bool) -> None:
            seen.append(ask)

        def deploy(self, what: str, device: str, *, ask: bool) -> Any:
            seen.append(ask)
            return SimpleNamespace(release=what)

    monkeypatch.setattr(release_command, "_flow", Flow)
    for name, is_terminal in (("stdin", stdin), ("stderr", stderr)):
        monkeypatch.setattr(f"sys.{name}", SimpleNamespace(isatty=lambda is_terminal=is_terminal: is_terminal))
    typer.main.get_command(release_command.app).main([step, "r1", *arguments], standalone_mode=False)
    assert seen == [asked]


@pytest.fixture
def builder(settings: Settings, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command with everything around it replaced: `run(*options)` returns the exit code."""
    made = SimpleNamespace(begun=[], builds=0, built=Built(4_000, 0), answer="y\n", release=manifest.release)
    store = Store(CollectionInfo.of(manifest))
    store.begun = lambda: made.begun  # type: ignore[attr-defined]
    opened = Release(CollectionInfo.of(manifest), None, SimpleNamespace(), None)  # type: ignore[arg-type]

    def build_collection(*_: object) -> Built | None:
        made.builds += 1
        return made.built  # type: ignore[no-any-return]

    monkeypatch.setattr(estimates, "AdminClient", Admin)
    monkeypatch.setattr(Admin, "away", True)
    monkeypatch.setattr("twinline.clients.settings.load_settings", lambda: settings)
    monkeypatch.setattr("twinline.clients.release.open_release", lambda *_: opened)
    monkeypatch.setattr("twinline.clients.store.open.make_store", lambda _: store)
    monkeypatch.setattr("streaming.building.throttle.lower_priority", lambda: None)
    monkeypatch.setattr("streaming.building.build.find_inputs", lambda *_: Inputs(None, {0: 0}, {0: 2_000}))
    monkeypatch.setattr("streaming.building.build.build", build_collection)
    monkeypatch.setattr("streaming.building.progress.BuildProgress", lambda *_: nullcontext())
    monkeypatch.setattr(command, "_stop_at_signals", lambda: None)

    def run(*options: str) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(made.answer))
        arguments = ["build", "--release", made.release, *options]
        return typer.main.get_command(command.app).main(arguments, standalone_mode=False) or 0

    made.run = run
    return made


def test_a_build_prints_its_estimate_first_and_its_ratio_last(
    builder: Any, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(settings.home, LAST)
    assert builder.run() == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "to build: 2,000 messages, at most 6,000 chunks, about 3 min, unknown size"
    assert lines[-1].startswith("took 0 s, estimated 200 s, ratio 0.00")
    found = read_record(settings.home)
    assert found is not None
    assert (found.release, found.messages, found.embedded) == (builder.release, 2_000, 4_000)
    assert found.estimated_seconds == 200.0


def test_a_build_logs_what_it_took_beside_its_estimate(
    builder: Any, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    write_record(settings.home, LAST)
    with caplog.at_level("INFO", "streaming.__main__"):
        assert builder.run() == 0
    (took,) = (entry.__dict__ for entry in caplog.records if entry.message == "build_took")
    assert (took["estimated_seconds"], took["estimated_bytes"]) == (200.0, None)
    assert 0 <= took["seconds"] < 100
    assert took["bytes"] is not None


@pytest.mark.parametrize(("answer", "code", "builds"), [("y\n", 0, 1), ("n\n", INTERRUPTED, 0), ("", INTERRUPTED, 0)])
def test_a_no_builds_nothing(builder: Any, capsys: pytest.CaptureFixture[str], answer: str, code: int, builds: int) -> None:
    builder.answer = answer
    assert (builder.run("--ask"), builder.builds) == (code, builds)
    # nobody saw the question before the numbers
    said = capsys.readouterr().err
    assert said.index("to build: 2,000 messages") < said.index("build it now?")
    assert builder.run() == 0


def test_a_resumed_or_stopped_build_leaves_no_rate(builder: Any, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    builder.begun = [f"documents_{builder.release}"]
    assert builder.run() == 0
    builder.begun, builder.built = [], None
    assert builder.run() == INTERRUPTED
    assert "took" not in capsys.readouterr().err
    assert read_record(settings.home) is None


def test_times_are_said_as_people_say_them() -> None:
    assert [spoken(seconds) for seconds in (0, 30.2, 600, 9_000)] == ["about 0 s", "about 30 s", "about 10 min", "about 2.5 h"]
