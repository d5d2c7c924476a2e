"""Traces over a store and a log in memory: what is whole is VERIFIED, and each thing that was changed is named."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from etl.ingest import ingest
from etl.lineage import Lineage
from etl.snapshots import store_snapshot
from etl.sources import open_source
from streaming.decode import Message
from streaming.indexer import Indexer
from tests.adapter_suites.memory_store import MemoryCollection
from tests.fixtures_streaming import DIMENSION, GOLDEN, FakeEmbedder, ListSink, Log, NothingErased, info_of, preprocessor
from twinline.__main__ import build_app
from twinline.clients.online import CollectionStatus, OnlineStatus
from twinline.clients.release import Release
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import StoredPoint
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import Document, content_hash
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.space import hash_safetensors, space_id
from twinline.contract.errors import SettingsError, TransientError
from twinline.contract.release.index_settings import IndexSettings
from twinline.contract.release.manifest import (
    Fingerprints,
    Format,
    Manifest,
    Parity,
    Serving,
    collection_name,
    hash_files,
    release_id,
)
from twinline.contract.sparse.fusion import Fusion
from twinline.registry.git import git
from twinline.registry.revisions import GitRevision, NotHereError
from twinline.registry.versions import Registered
from twinline.upkeep.trace import forward as backward
from twinline.upkeep.trace import training
from twinline.upkeep.trace.backward import trace_point
from twinline.upkeep.trace.forward import Use, find_use, trace_document
from twinline.upkeep.trace.git import folder_md5
from twinline.upkeep.trace.reach import Reach
from twinline.upkeep.trace.steps import Section, Step, Trace
from twinline.upkeep.trace.target import target_of, target_of_hit
from twinline.upkeep.trace.training import training_section

__all__ = ["preprocessor"]  # the fixture

TEXT = "One two   three four five six seven eight nine ten eleven twelve."


@dataclass
class FakeOnline:
    """One collection, as the online process shows it."""

    collection: MemoryCollection
    away: bool = False

    def status(self) -> OnlineStatus:
        if self.away:
            raise TransientError("the online process does not answer: start it with `twinline up`")
        info = self.collection.info
        entry = CollectionStatus(
            self.collection.name, info.release, info.space, info.contract_fingerprint, True, True, 1, 2, 0, []
        )
        return OnlineStatus(self.collection.name, [entry], {})

    def point(self, name: str, point_id: UUID) -> StoredPoint | None:
        return self.collection.points.get(point_id)

    def points(self, name: str, **options: Any) -> tuple[list[StoredPoint], UUID | None]:
        where = {name: options[name] for name in ("source", "key") if options.get(name) is not None}
        return self.collection.scroll(where, options["limit"], options["offset"])


@dataclass
class World:
    """A release, its collection with one document of a file, and the message that it came from."""

    reach: Reach
    online: FakeOnline
    messages: dict[tuple[int, int], Message]
    file: Path
    folder: Path
    document: Document
    point: UUID = field(init=False)

    def __post_init__(self) -> None:
        self.point = point_id(self.document.source, self.document.key, 1)

    def payload(self) -> dict[str, Any]:
        return dict(self.online.collection.points[self.point].payload)

    def change(self, **fields: Any) -> None:
        stored = self.online.collection.points[self.point]
        self.online.collection.points[self.point] = replace(stored, payload={**stored.payload, **fields})

    def trace(self) -> Trace:
        return trace_point(self.reach, target_of(str(self.point), None, None, None))

    def steps(self) -> dict[str, Step]:
        return by_name(self.trace().steps)


def by_name(steps: Sequence[Step]) -> dict[str, Step]:
    return {f"{step.section}: {step.what}": step for step in steps}


def differing(trace: Trace) -> set[str]:
    return {f"{step.section}: {step.what}" for step in trace.differing}


def write_release(releases: Path, made_of: Preprocessor, record: Mapping[str, Any], lineage: Mapping[str, Any]) -> Manifest:
    """Write a release folder that is whole, but for an encoder that computes anything."""
    folder = releases / "new"
    (folder / "encoder").mkdir(parents=True)
    (folder / "onnx").mkdir()
    made_of.contract.save(folder, made_of.tokenizer_json)
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "encoder" / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\0\0")
    (folder / "encoder" / "training.json").write_text(json.dumps(record))
    (folder / "onnx" / "model.onnx").write_bytes(b"a graph")
    weights = hash_safetensors(folder / "encoder" / "model.safetensors")
    prints, files = Fingerprints.of(made_of.contract), hash_files(folder)
    space, serving = space_id(prints.vector, weights), Serving("onnx_fp32", (8,), 4)
    # Other than by default: part of the id.
    index = IndexSettings(ef_search=200)
    fusion = Fusion("ranks")
    release = release_id(space, prints.contract, serving, files, index, fusion)
    formats = (Format("onnx_fp32", "onnxruntime", "fp32", "onnx/model.onnx", Parity(2e-7, 1e-8, "a text", 1e-6)),)
    fields = (release, space, prints, weights, DIMENSION, "package:no-such-model", formats, (), serving, files)
    manifest = Manifest(*fields, lineage=dict(lineage), index=index, fusion=fusion)  # type: ignore[misc,arg-type]
    manifest.save(folder)
    folder.rename(releases / release)
    return manifest


def make_world(home: Path, made_of: Preprocessor, record: Mapping[str, Any], lineage: Mapping[str, Any]) -> World:
    settings = Settings(home=home)
    manifest = write_release(settings.releases, made_of, record, lineage)
    corpus = home / "corpus"
    corpus.mkdir()
    (corpus / "a.md").write_text(TEXT)
    [document] = [item for item in open_source(f"notes=files:{corpus}", settings).items() if isinstance(item, Document)]
    info = replace(info_of(made_of, manifest.release), space=manifest.space)
    collection = MemoryCollection(collection_name(manifest.release), info)
    headers = Lineage("run-7", "", "test").headers(content_hash(document), document.origin)
    message = replace(Log().append(document), headers=headers)
    release = Release(info, made_of, FakeEmbedder(manifest.space), GOLDEN)
    Indexer(collection, release, ListSink(), NothingErased()).handle([message])
    messages = {(message.partition, message.offset): message}

    def read(partition: int, offset: int) -> Message:
        if (partition, offset) not in messages:
            raise NotHereError("the log begins later: take it from a snapshot")
        return messages[partition, offset]

    online = FakeOnline(collection)
    reach = Reach(settings, home / "no-repository", online, read)
    return World(reach, online, messages, corpus / "a.md", settings.releases / manifest.release, document)


@pytest.fixture
def world(tmp_path: Path, preprocessor: Preprocessor) -> World:
    return make_world(tmp_path, preprocessor, {"steps": 0}, {"created_at": "2026-01-01"})


def test_what_is_whole_differs_in_nothing(world: World) -> None:
    steps = world.steps()
    assert not differing(world.trace())
    for name in (
        *("point: id", "point: space", "message: key", "message: timestamp_ms", "message: content SHA-256", "document: version"),
        *("source: file SHA-256", "chunk: span", "chunk: clean text SHA-256", "chunk: content hash", "chunk: tokens"),
        *("contract: vector part", "contract: index part", "contract: tokenizer", "release: id", "release: weights"),
        *("release: space", "release: onnx/model.onnx", "release: all files"),
    ):
        assert steps[name].status == "VERIFIED", steps[name]
    assert steps["release: version"].status == "NOT HERE"
    assert "no-such-model" in str(steps["training: not trained here"].value)


def test_the_hashes_are_those_of_the_bytes(world: World) -> None:
    steps = world.steps()
    [message] = world.messages.values()
    assert steps["source: file SHA-256"].value == hashlib.sha256(TEXT.encode()).hexdigest()
    assert steps["message: value SHA-256"].value == hashlib.sha256(message.value or b"").hexdigest()
    assert steps["source: file"].value == f"file://{world.file}"


CHANGES = [
    ({"start": 0}, "chunk: span"),
    ({"text": "other words"}, "chunk: clean text SHA-256"),
    ({"content_hash": "0" * 64}, "chunk: content hash"),
    ({"token_count": 99}, "chunk: tokens"),
    ({"title": "other"}, "document: title"),
    ({"tenant": "someone"}, "document: tenant"),
    ({"metadata": {"format": "pdf"}}, "document: filterable metadata"),
    ({"version": 1}, "document: version"),
    ({"timestamp_ms": 1}, "message: timestamp_ms"),
    ({"space": "another"}, "point: space"),
    ({"contract": "another"}, "contract: the point's"),
    ({"key": "b.md"}, "point: id"),  # somebody else's payload under this id
    ({"key": "b.md"}, "message: key"),
    ({"headers": {"run_id": "run-8"}}, "message: header run_id"),
    ({"headers": {"git_revision": "made up"}}, "message: header git_revision"),
    ({"space": "another"}, "release: the point's space"),
]


@pytest.mark.parametrize(("fields", "step"), CHANGES)
def test_a_point_that_was_changed_is_found(world: World, fields: dict[str, Any], step: str) -> None:
    world.change(**fields)
    assert step in differing(world.trace())


def test_metadata_of_the_head_that_were_changed_are_found(world: World) -> None:
    id_ = head_id(world.document.source, world.document.key)
    stored = world.online.collection.points[id_]
    changed = {**stored.payload, "metadata": {**world.document.metadata, "format": "pdf"}}
    world.online.collection.points[id_] = replace(stored, payload=changed)
    assert differing(world.trace()) == {"document: metadata"}


def test_a_document_of_an_older_release_of_twinline_is_traced_by_the_metadata_of_its_chunks(world: World) -> None:
    id_ = head_id(world.document.source, world.document.key)
    stored = world.online.collection.points[id_]
    old = {name: value for name, value in stored.payload.items() if name != "metadata"}
    world.online.collection.points[id_] = replace(stored, payload=old)
    world.change(metadata=dict(world.document.metadata))
    assert not differing(world.trace())
    world.change(metadata={"format": "pdf"})
    assert differing(world.trace()) == {"document: metadata"}


def test_a_message_that_was_changed_is_found(world: World) -> None:
    [(place, message)] = world.messages.items()
    world.messages[place] = replace(message, value=(message.value or b"").replace(b"twelve", b"twenty"))
    assert {"message: content SHA-256", "chunk: content hash"} <= differing(world.trace())


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("tokenizer.json", "contract: tokenizer"),
        ("contract.json", "contract: index part"),
        ("encoder/model.safetensors", "release: weights"),
        ("onnx/model.onnx", "release: onnx/model.onnx"),
        ("manifest.json", "release: id"),
    ],
)
def test_a_file_of_the_release_that_was_changed_is_found(world: World, name: str, step: str) -> None:
    place = world.folder / name
    content = place.read_bytes()
    changed = {
        "contract.json": content.replace(b'"overlap_tokens": 0', b'"overlap_tokens": 1'),
        "encoder/model.safetensors": content[:-1] + b"\1",
        "manifest.json": content.replace(b'"max_batch_size": 4', b'"max_batch_size": 5'),
    }.get(name, content + b" ")
    assert changed != content
    place.write_bytes(changed)
    assert step in differing(world.trace())


def test_an_edited_source_file_is_no_fault_and_is_said(world: World) -> None:
    world.file.write_text("edited")
    trace = world.trace()
    step = by_name(trace.steps)["source: file SHA-256"]
    assert (step.status, differing(trace)) == ("NOT HERE", set())
    assert hashlib.sha256(b"edited").hexdigest() in step.note


def test_a_file_in_an_archive_is_hashed_too(world: World) -> None:
    archive = world.file.with_name("set.zip")
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("in/a.md", TEXT)
    [(place, message)] = world.messages.items()
    headers = [
        ("source_uri", f"zip://in/a.md::file://{archive}"),
        ("source_file_sha256", hashlib.sha256(TEXT.encode()).hexdigest()),
    ]
    world.messages[place] = replace(message, headers=[(name, value.encode()) for name, value in headers])
    world.change(headers={})
    assert by_name(world.trace().steps)["source: file SHA-256"].status == "VERIFIED"
    archive.unlink()
    assert by_name(world.trace().steps)["source: file SHA-256"].status == "NOT HERE"


def test_a_file_of_another_machine_is_not_fetched(world: World) -> None:
    [(place, message)] = world.messages.items()
    world.messages[place] = replace(message, headers=[("source_uri", b"http://169.254.169.254/x"), ("source_file_sha256", b"0")])
    world.change(headers={})
    assert by_name(world.trace().steps)["source: file SHA-256"].status == "NOT HERE"


def test_what_is_not_here_says_how_to_get_it(world: World) -> None:
    world.messages.clear()
    for path in sorted(world.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    world.folder.rmdir()
    steps = world.steps()
    assert steps["message: message"].note == "the log begins later: take it from a snapshot"
    for name in ("chunk: chunk", "contract: contract", "release: release", "training: training"):
        assert (steps[name].status, "release fetch" in steps[name].note) == ("NOT HERE", True)


def hit_of(world: World) -> dict[str, Any]:
    payload = world.payload()
    lineage = {name: payload[name] for name in ("release", "space", "contract", "content_hash")}
    kafka = {name: payload[name] for name in ("partition", "offset", "timestamp_ms")}
    return {
        "point": str(world.point),
        **{name: payload[name] for name in ("source", "key", "title", "tenant")},
        "metadata": dict(world.document.metadata),
        "chunk": {"index": 1, "start": payload["start"], "end": payload["end"], "text": payload["text"]},
        "version": {
            "kind": payload["version_kind"],
            "number": payload["version"],
            "offset": payload["version_offset"],
        },
        "lineage": {**lineage, "kafka": kafka, "ingest": payload["headers"]},
    }


def test_an_old_answer_leads_to_the_state_that_it_was_given_from(world: World) -> None:
    answer = json.dumps({"hits": [hit_of(world)]})
    world.change(offset=99, text="newer words", content_hash="1" * 64)

    trace = trace_point(world.reach, target_of_hit(answer))

    assert not differing(trace)
    assert "indexed again" in by_name(trace.steps)["point: answer"].note


def test_a_hit_is_traced_without_the_online_process_and_a_point_is_not(world: World) -> None:
    target = target_of_hit(json.dumps(hit_of(world)))
    world.online.away = True
    assert not differing(trace_point(world.reach, target))
    with pytest.raises(TransientError, match="twinline up"):
        world.trace()


def test_a_point_that_is_nowhere_is_named(world: World) -> None:
    with pytest.raises(SettingsError, match=r"nobody/x is in no collection"):
        trace_point(world.reach, target_of("nobody/x", None, None, None))


def test_a_target_is_an_id_a_name_or_its_parts() -> None:
    id_ = point_id("s", "a/b", 0)
    assert target_of(str(id_), None, None, None).ids == (id_,)
    assert target_of("s/a/b", None, None, None).ids == (id_,)
    # a key may end like a chunk's number
    assert target_of("s/t.csv#3", None, None, None).ids == (point_id("s", "t.csv#3", 0), point_id("s", "t.csv", 3))
    assert target_of("", "s", "a/b", None).ids == (id_,)


@pytest.mark.parametrize("arguments", [("", None, None, None), ("word", None, None, None), ("s/k", "s", None, None)])
def test_what_names_nothing_is_refused(arguments: Any) -> None:
    with pytest.raises(SettingsError, match="SOURCE/KEY#CHUNK"):
        target_of(*arguments)


@pytest.mark.parametrize("content", ["", "[]", '{"hits": []}', '{"hits": [{}]}'])
def test_standard_input_without_a_hit_is_refused(content: str) -> None:
    with pytest.raises(SettingsError, match="hit"):
        target_of_hit(content)


# training


@pytest.fixture
def trained(tmp_path: Path, preprocessor: Preprocessor) -> World:
    """A release whose manifest names a snapshot that etl made of two documents."""
    source = tmp_path / "data"
    source.mkdir()
    (source / "a.md").write_text("Documents of a snapshot.")
    (source / "b.md").write_text("Another document of it.")
    settings = Settings(home=tmp_path)
    snapshot = ingest(open_source(f"notes=files:{source}", settings), tmp_path / "taken", max_reject_share=0.5)
    store_snapshot(tmp_path / "taken", settings.snapshots)
    lineage = {"snapshot": snapshot.id, "snapshot_files": dict(snapshot.files), "airflow_run": "run-1"}
    return make_world(tmp_path, preprocessor, {"steps": 12, "pairs_sha256": "0" * 64}, lineage)


def snapshot_of(world: World) -> Path:
    [folder] = world.reach.settings.snapshots.glob("s*")
    return folder


def test_the_training_snapshot_is_hashed_again(trained: World) -> None:
    steps = trained.steps()
    folder = snapshot_of(trained)
    for path in folder.glob("*.parquet"):
        step = steps[f"training: snapshot {path.name}"]
        assert (step.status, step.value) == ("VERIFIED", hashlib.sha256(path.read_bytes()).hexdigest())
    assert (steps["training: snapshot"].status, steps["training: snapshot"].value) == ("VERIFIED", folder.name)
    assert steps["training: Airflow run"].status == "RECORDED"
    # what no repository holds is not here, and says so
    assert steps["training: DVC experiment"].status == "NOT HERE"
    assert steps["training: data/pairs/train.parquet"].status == "NOT HERE"
    assert not differing(trained.trace())


def test_one_byte_of_the_training_snapshot_changed_is_found(trained: World) -> None:
    place = snapshot_of(trained) / "documents-00000.parquet"
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)

    assert differing(trained.trace()) == {"training: snapshot", "training: snapshot documents-00000.parquet"}


def test_a_snapshot_that_is_elsewhere_says_how_to_get_it(trained: World) -> None:
    snapshot_of(trained).rename(trained.reach.settings.home / "elsewhere")
    step = trained.steps()["training: snapshot"]
    assert step.status == "NOT HERE"
    assert "dvc get . data/snapshot" in step.note


class FakeExperiment(GitRevision):
    """An experiment whose files are in a dict."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(Path(), "c0ffee" * 6 + "abcd")
        self.files = files

    def tracked(self, path: str) -> bytes:
        return self.files[path]

    def open(self, path: str) -> IO[bytes]:
        if path not in self.files:
            raise NotHereError(f"DVC has no {path}")
        return io.BytesIO(self.files[path])

    def held(self, folder: str) -> list[str]:
        return [name.removeprefix(f"{folder}/") for name in sorted(self.files) if name.startswith(f"{folder}/")]


def parquet(rows: list[dict[str, Any]], *columns: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.large_string()) for name in columns])), sink)
    return sink.getvalue()


def pairs_files() -> dict[str, bytes]:
    def row(key: str, **fields: str) -> dict[str, str]:
        return {"source": "notes", "key": key, **fields}

    return {
        "data/pairs/train.parquet": parquet([row("a.md"), row("a.md"), row("c.md")], "source", "key"),
        "data/pairs/judgements.parquet": parquet([row("held", split="test")], "source", "key", "split"),
        "data/pairs/rejects.parquet": parquet([row("b.md", reason="near_duplicate")], "source", "key", "reason"),
    }


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> FakeExperiment:
    made = FakeExperiment(pairs_files())
    for module in (training, backward):
        monkeypatch.setattr(module, "find_experiment", lambda *_: made)
    return made


@pytest.mark.parametrize(
    ("source", "key", "words"),
    [
        (None, "a.md", "in 2 training pairs"),
        ("notes", "c.md", "in 1 training pairs"),
        ("other", "c.md", "not in its data"),
        (None, "held", "held out in test (1)"),
        (None, "b.md", "set aside: near_duplicate (1)"),
    ],
)
def test_a_release_says_what_it_did_with_a_document(
    trained: World, experiment: FakeExperiment, source: str | None, key: str, words: str
) -> None:
    use = find_use(trained.reach, trained.folder.name, None, source, key)
    assert use.summary() == words
    assert use.in_corpus == (key in ("a.md", "b.md"))


def test_a_document_of_the_corpus_alone_is_said_to_be() -> None:
    assert Use("r1", trained=True, in_corpus=True).summary() == "only in the corpus"


def test_a_document_leads_to_its_points_its_message_and_its_releases(trained: World, experiment: FakeExperiment) -> None:
    trace = trace_document(trained.reach, None, "a.md")
    steps = by_name(trace.steps)
    name = trained.online.collection.name
    assert not differing(trace)
    assert steps[f"{name}: chunks"].value == 2
    assert steps[f"{name}: chunk 1"].value == str(trained.point)
    assert steps["log: documents[0] offset 1"].status == "VERIFIED"
    assert steps[f"releases: {trained.folder.name}"].value == "in 2 training pairs"


def test_training_data_that_no_one_holds_is_not_taken_for_unused(trained: World, experiment: FakeExperiment) -> None:
    experiment.files = {}
    step = by_name(trace_document(trained.reach, None, "a.md").steps)[f"releases: {trained.folder.name}"]
    assert (step.status, step.note) == ("NOT HERE", "DVC has no data/pairs/train.parquet")


def test_parameters_and_pairs_are_hashed_at_the_experiments_commit(
    trained: World, experiment: FakeExperiment, tmp_path: Path, preprocessor: Preprocessor
) -> None:
    pairs = pairs_files()
    md5s = {name.rpartition("/")[2]: hashlib.md5(content).hexdigest() for name, content in pairs.items()}  # noqa: S324
    lock = json.dumps({"stages": {"pairs": {"outs": [{"path": "data/pairs", "md5": folder_md5(md5s)}]}}})
    experiment.files = {**pairs, "params.yaml": b"seed: 1\n", "dvc.lock": lock.encode()}
    train_hash = hashlib.sha256(pairs["data/pairs/train.parquet"]).hexdigest()
    other = tmp_path / "other"
    other.mkdir()
    lineage = {"params_sha256": hashlib.sha256(b"seed: 1\n").hexdigest(), "dvc_experiment": "exp"}
    world = make_world(other, preprocessor, {"steps": 1, "pairs_sha256": train_hash}, lineage)

    steps = by_name(training_section(with_registry(world), world.folder.name).steps)
    for name in ("parameters", "data/pairs/train.parquet", "data/pairs in dvc.lock"):
        assert steps[f"training: {name}"].status == "VERIFIED", steps[f"training: {name}"]

    experiment.files = {**experiment.files, "params.yaml": b"seed: 2\n"}
    assert by_name(training_section(with_registry(world), world.folder.name).steps)["training: parameters"].status == "DIFFERS"


def with_registry(world: World) -> Reach:
    class Known(Reach):
        def registered(self, release: str) -> Registered | None:
            return None

    return Known(world.reach.settings, world.reach.repository, world.reach.online, world.reach.read_message)


def test_a_commit_is_looked_up_and_an_unknown_one_is_not_here(tmp_path: Path, trained: World) -> None:
    from twinline.upkeep.trace.git import commit_subject

    git(tmp_path, "init", "-q")
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    git(tmp_path, *author, "commit", "-q", "--allow-empty", "-m", "Why it was done")
    head = git(tmp_path, "rev-parse", "HEAD").strip()
    assert commit_subject(tmp_path, head) == (head, "Why it was done")
    with pytest.raises(NotHereError, match="git fetch"):
        commit_subject(tmp_path, "0" * 40)


# the command


@pytest.mark.parametrize(("is_wrong", "code"), [(False, 0), (True, 1)])
def test_the_exit_code_says_whether_anything_differs(monkeypatch: pytest.MonkeyPatch, is_wrong: bool, code: int) -> None:
    section = Section("point")
    section.compare("id\x1b[31m", "a", "b" if is_wrong else "a")
    section.absent("file", None, "elsewhere")
    monkeypatch.setattr("twinline.upkeep.trace.backward.trace_point", lambda *_: Trace("a point", section.steps))
    for options in ([], ["--json"]):
        arguments = ["trace", "s/k", *options]
        result = CliRunner().invoke(build_app(arguments), arguments)
        assert result.exit_code == code, result.output
        assert "\x1b[31m" not in result.output
        assert ("DIFFERS" if is_wrong else "VERIFIED") in result.output
    assert json.loads(result.output)["counts"]["NOT HERE"] == 1


def test_a_document_is_asked_for_alone() -> None:
    arguments = ["trace", "s/k", "--document", "k"]
    result = CliRunner().invoke(build_app(arguments), arguments)
    assert isinstance(result.exception, SettingsError)
