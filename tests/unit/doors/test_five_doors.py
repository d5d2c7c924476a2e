"""Five doors, one planted mismatch a case: each is refused, and the message names what, where and what to do."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from export.encoder.build import load_encoder_contract
from streaming.dead_letters import DeadLetter
from streaming.indexer import Indexer
from tests.fixtures_streaming import NothingErased
from tests.unit.doors.conftest import Plant, Platform, edit, export, record_encoder, vector_of, write_encoder
from train.checkpoints import check_seal, seal
from twinline.clients.release import open_release
from twinline.clients.store.door import check_index
from twinline.clients.store.protocol import CollectionInfo, StoredPoint, version_fields
from twinline.clients.store.vectors import DENSE
from twinline.clients.triton import control
from twinline.clients.triton import embedder as triton
from twinline.clients.triton.control import TritonControl
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.contract.documents.ids import point_id
from twinline.contract.documents.records import Version
from twinline.contract.encoder import selfcheck, tensors
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.golden import GoldenSet, encode_vector
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import MismatchError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.release.folder import ReleaseFolder
from twinline.contract.release.manifest import collection_name, hash_files
from twinline.contract.release.served import SERVED_FILE
from twinline.search import opening
from twinline.search.query import answer_from
from twinline.search.releases import Served
from twinline.search.results import Question


class Encoder:
    """Answers from a space that a test may choose."""

    def __init__(self, space: str, answers_from: str | None = None) -> None:
        self.space = space
        self._answers_from = answers_from or space

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        vectors = np.stack([vector_of(text) for text in texts])
        return Embeddings(vectors, np.ones(len(texts), np.int32), np.zeros(len(texts), np.bool_), self._answers_from)


class NoDeadLetters:
    def put(self, letters: Sequence[DeadLetter]) -> None:
        assert not letters


def other_weights(platform: Platform) -> None:
    other = platform.folder / "other"
    write_encoder(other, seed=1)
    (other / "model.safetensors").replace(platform.encoder / "model.safetensors")


def other_encoder(platform: Platform) -> None:
    """All of the encoder folder is another one's, and in order."""
    write_encoder(platform.encoder, seed=1)


def measured_elsewhere(platform: Platform) -> None:
    """Export again, otherwise, and keep the report of the first."""
    (platform.exported / "openvino" / "config.xml").write_text("other options")
    export(platform.encoder, platform.exported)


def other_contract(**changes: Any) -> Plant:
    """Contract and tokenizer are edited together, so that they fit each other."""

    def plant(platform: Platform) -> None:
        record = (platform.encoder / "training.json").read_bytes()
        write_encoder(platform.encoder, **changes)
        (platform.encoder / "training.json").write_bytes(record)

    return plant


# --- the platform as it should be ---


def test_what_belongs_together_passes_all_five_doors(platform: Platform) -> None:
    load_encoder_contract(platform.encoder)
    assert platform.package() == platform.manifest
    platform.load_tokenizer()
    served = opening.open_served(platform.settings, platform.store, platform.collection.name)
    release = replace(served.release, embedder=Encoder(platform.manifest.space))
    Indexer(served.collection, release, NoDeadLetters(), NothingErased())
    assert answer_from(replace(served, release=release), Question("the lease"), LOCAL_OPERATOR).hits == []


# --- 1. training, export, package ---


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (other_weights, "weights_sha256 .*training.json says .*dvc checkout"),
        # what the tensors do not say
        (lambda p: edit(p.encoder / "config.json", {"num_attention_heads": 1}), "config_sha256"),
        (other_contract(query_prefix="query: "), "has contract .*training.json says"),
        (other_contract(max_tokens=32), "has contract"),
        (other_contract(pooling="cls"), "has contract"),
        (lambda p: edit(p.encoder / "contract.json", {"index.chunker.overlap_tokens": 4}), "has contract"),
        (lambda p: edit(p.encoder / "tokenizer.json", {"model.vocab.lease": 3}), "tokenizer.json has SHA-256"),
        (lambda p: (p.encoder / "training.json").unlink(), "training.json is missing"),
        (lambda p: (p.encoder / "training.json").write_text("[]"), "no record of an encoder"),
    ],
)
def test_an_encoder_that_is_not_what_was_trained_is_not_read(platform: Platform, plant: Plant, message: str) -> None:
    plant(platform)
    with pytest.raises(MismatchError, match=message):
        load_encoder_contract(platform.encoder)
    with pytest.raises(MismatchError, match=message):
        platform.package()


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (other_encoder, "was exported from the encoder of space .*export it again"),
        (lambda p: (p.exported / "openvino/model.bin").write_text("one weight"), "openvino/model.bin changed after the export"),
        (measured_elsewhere, "the parity report was measured on another export .*dvc repro encoder-parity"),
        (lambda p: {"spaces": {"tuned": "another"}}, "the evaluation is of the encoder of space another"),
    ],
)
def test_parts_that_were_not_made_from_one_another_are_not_packaged(platform: Platform, plant: Plant, message: str) -> None:
    planted = plant(platform)
    metrics: dict[str, Any] = planted if isinstance(planted, dict) else {}
    with pytest.raises(MismatchError, match=message):
        platform.package(**metrics)


def test_a_run_is_not_resumed_from_weights_that_it_did_not_save(platform: Platform) -> None:
    seal(platform.encoder)
    check_seal(platform.encoder)
    other_weights(platform)
    with pytest.raises(MismatchError, match=r"sealed\.json says .*train from the start"):
        check_seal(platform.encoder)


# --- 2. Triton loads a model ---


def rewrite(name: str, old: str, new: str) -> Plant:
    """Change a text file of the model repository, `T/` the tokenizer's folder and `E/` the encoder's."""

    def plant(platform: Platform) -> None:
        path = place(platform, name)
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return plant


def place(platform: Platform, name: str) -> Any:
    return (platform.tokenizer_model if name.startswith("T/") else platform.encoder_model) / name[2:]


def record_again(plant: Plant) -> Plant:
    """Plant a fault, and let the record of published files agree with it."""

    def planted(platform: Platform) -> None:
        plant(platform)
        record = {"tokenizer": hash_files(platform.tokenizer_model), "encoder": hash_files(platform.encoder_model)}
        record["embed"] = hash_files(platform.settings.model_repository / f"embed_{platform.manifest.release}")
        record["tokenizer"].pop(f"1/{SERVED_FILE}")
        place(platform, f"T/1/{SERVED_FILE}").write_text(json.dumps(record))

    return planted


WEIGHT: Plant = lambda p: (p.encoder_model / "1/model.bin").write_text("one weight")  # noqa: E731
FP16 = rewrite("E/config.pbtxt", '"precision" value: { string_value: "fp32"', '"precision" value: { string_value: "fp16"')


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (WEIGHT, r"encoder_r\w+/1/model.bin has SHA-256 .*its manifest says .*publish the release again"),
        (record_again(WEIGHT), r"encoder_r\w+/1/model.bin has SHA-256 .*its manifest says"),
        (lambda p: (p.encoder_model / "1/model.bin").unlink(), "model.bin has SHA-256 none, it is missing"),
        (lambda p: (p.encoder_model / "1/other.xml").write_text("a"), "1/other.xml does not belong to the release"),
        (FP16, r"encoder_r\w+/config.pbtxt has SHA-256 .*served.json says"),
        (record_again(FP16), r"config.pbtxt lacks `parameters .*precision.*fp32"),
        (record_again(rewrite("E/config.pbtxt", '"openvino"', '"onnxruntime"')), 'lacks `backend: "openvino"'),
        (
            record_again(rewrite("T/config.pbtxt", '"space" value: { string_value: "', '"space" value: { string_value: "0')),
            "space",
        ),
        (lambda p: (p.encoder_model / "warmup/input_ids_16").write_bytes(b"0"), "warmup/input_ids_16 has SHA-256"),
        (
            rewrite("T/1/twinline/contract/encoder/pooling.py", "def ", "\ndef "),
            r"1/twinline/contract/encoder/pooling.py has SHA-256",
        ),
        (lambda p: place(p, "T/1/twinline/contract/extra.py").write_text(""), "1/twinline/contract/extra.py does not belong"),
        (rewrite("T/1/release/tokenizer.json", '"lease":2', '"lease":3'), "tokenizer.json has SHA-256 .*the manifest says"),
        (rewrite("T/1/release/golden.json", '"truncated": false', '"truncated": true'), "golden.json has SHA-256"),
        (rewrite("T/1/release/manifest.json", '"openvino_fp32"', '"onnx_fp32"'), "it was edited"),
        (lambda p: place(p, f"T/1/{SERVED_FILE}").unlink(), "was not published whole"),
        (lambda p: place(p, f"T/1/{SERVED_FILE}").write_text("{}"), "no record of published files"),
    ],
)
def test_a_model_whose_files_are_not_as_published_does_not_load(platform: Platform, plant: Plant, message: str) -> None:
    plant(platform)
    with pytest.raises(MismatchError, match=message):
        platform.load_tokenizer()


# --- 3. and 4. a consumer starts, an index is opened for search ---


def golden_of_another_space(platform: Platform) -> None:
    platform.collection.put_golden({"turkish": vector_of("another encoder's")})


def golden_with_nan(platform: Platform) -> None:
    platform.collection.golden["turkish"] = np.full(4, np.nan, np.float32)


def golden_missing(platform: Platform) -> None:
    del platform.collection.golden["question"]


def none_at_all(platform: Platform) -> None:
    platform.collection.golden.clear()


def built_with(**fields: str) -> Plant:
    def plant(platform: Platform) -> None:
        platform.collection.info = replace(platform.collection.info, **fields)  # type: ignore[arg-type]

    return plant


STORED = [
    (
        golden_of_another_space,
        "collection documents_r.* golden text 'turkish' back .* at most 4e-06 .*build its collection again",
    ),
    (golden_with_nan, "no usable vector of golden text 'turkish'"),
    (golden_missing, "no usable vector of golden text 'question'"),
    (none_at_all, "no usable vector of golden text 'question'"),
]


@pytest.mark.parametrize(("plant", "message"), STORED)
def test_a_consumer_does_not_start_on_an_index_of_another_space(platform: Platform, plant: Plant, message: str) -> None:
    plant(platform)
    with pytest.raises(MismatchError, match=message):
        check_index(platform.collection, ReleaseFolder.load(platform.release).golden)


@pytest.mark.parametrize(
    ("info", "encoder", "message"),
    [
        ({}, "another", "is of space .*this consumer brings another"),
        ({"space": "another"}, None, "is of space another"),
        ({"contract_fingerprint": "another"}, None, "is of contract another"),
    ],
)
def test_a_consumer_of_another_release_does_not_start(
    platform: Platform, info: dict[str, str], encoder: str | None, message: str
) -> None:
    built_with(**info)(platform)
    release = open_release(platform.settings, platform.manifest.release)
    release = replace(release, embedder=Encoder(encoder or platform.manifest.space))
    with pytest.raises(MismatchError, match=message):
        Indexer(platform.collection, release, NoDeadLetters(), NothingErased())


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        *STORED,
        (built_with(space="another"), "has space 'another'.*build the collection"),
        (built_with(contract_fingerprint="another"), "has contract_fingerprint 'another'"),
        (built_with(release="r000000000000"), "has release 'r000000000000'"),
        # the release's own folder, fetched here and edited since
        (
            lambda p: edit(p.release / "contract.json", {"index.chunker.overlap_tokens": 4}),
            "its manifest says .*fetch the release",
        ),
        (lambda p: edit(p.release / "contract.json", {"vector.query_prefix": "q: "}), "its contract has fingerprint"),
        (lambda p: edit(p.release / "tokenizer.json", {"model.vocab.lease": 3}), "tokenizer.json has SHA-256"),
        (lambda p: edit(p.release / "golden.json", {"schema": 1.0}), "golden.json has SHA-256"),
        (lambda p: (p.release / "golden.json").unlink(), "golden.json has SHA-256 none"),
        (lambda p: edit(p.release / "manifest.json", {"space": "another"}), "it was edited"),
    ],
)
def test_an_index_of_something_else_is_not_opened_for_search(platform: Platform, plant: Plant, message: str) -> None:
    closed: list[bool] = []
    platform.collection.close = lambda: closed.append(True)  # type: ignore[method-assign]
    plant(platform)
    with pytest.raises(MismatchError, match=message):
        opening.open_served(platform.settings, platform.store, collection_name(platform.manifest.release))
    assert closed == [True] * ((plant, message) in STORED), "what was opened is let go of, for whoever repairs it"


# --- 5. a query is answered ---


class Server:
    """A model server whose config and answers a test may set."""

    def __init__(self, space: str, answered: str | None = None, shift: float = 0.0) -> None:
        self._space = space
        self._answered = answered or space
        self._shift = shift

    def config(self, model: str, timeout_seconds: float = 0) -> dict[str, Any]:
        golden = {"name": "question", "role": "query", "text": "the lease", "vector": encode_vector(vector_of("the lease"))}
        parameters = {"space": self._space, "precision": "fp32", "golden": json.dumps(golden)}
        return {
            "parameters": {name: {"string_value": value} for name, value in parameters.items()},
            "output": [{"name": tensors.EMBEDDING, "dims": ["4"]}],
            "max_batch_size": 8,
        }

    def infer(self, model: str, inputs: Any, outputs: Sequence[str], priority: int, timeout_seconds: float = 0) -> dict[str, Any]:
        texts = [value.decode() for value in inputs[tensors.TEXT].reshape(-1)]
        return {
            tensors.EMBEDDING: np.stack([vector_of(text) for text in texts]) + np.float32(self._shift) * np.eye(1, 4, dtype="f4"),
            tensors.TOKEN_COUNT: np.ones((len(texts), 1), np.int32),
            tensors.TRUNCATED: np.zeros((len(texts), 1), np.bool_),
            tensors.SPACE: np.full((len(texts), 1), self._answered.encode(), dtype=np.object_),
        }


MIXED = [
    # the config is right, the models behind it are another release's
    (Server("wanted", answered="other"), "other"),
    # space and tokenizer are right, the encoder behind them is not
    (Server("wanted", shift=0.2), "golden text 'question'"),
]


@pytest.mark.parametrize(("server", "message"), [(Server("other"), "serves space other .*the release has wanted"), *MIXED])
def test_an_encoder_of_another_space_gives_no_vector(monkeypatch: pytest.MonkeyPatch, server: Server, message: str) -> None:
    monkeypatch.setattr(triton, "open_transport", lambda *_: server)
    with pytest.raises(MismatchError, match=message):
        TritonEmbedder("here:1", "r1", "wanted").embed(["a question"], "query")


@pytest.mark.parametrize(("server", "message"), MIXED)
def test_a_stale_ensemble_is_noticed_by_who_asks_for_its_space(
    monkeypatch: pytest.MonkeyPatch, server: Server, message: str
) -> None:
    monkeypatch.setattr(control, "open_transport", lambda *_: server)
    with pytest.raises(MismatchError, match=rf"`embed` says space wanted .*{message}.*stale|stale"):
        TritonControl("here:1").space("embed")


@pytest.mark.parametrize(
    ("field", "message"), [("space", "point .* is of another"), ("contract", "is of contract"), ("release", "is of release")]
)
def test_a_point_that_another_release_wrote_is_no_answer(platform: Platform, field: str, message: str) -> None:
    served = opened(platform, Encoder(platform.manifest.space))
    info = platform.collection.info
    payload = {
        "kind": "chunk", "source": "s", "key": "k", "chunk_index": 0, "text": "a", **version_fields(Version("explicit", 1)),
        "space": info.space, "contract": info.contract_fingerprint, "release": info.release, field: "another",
    }  # fmt: skip
    platform.collection.put_points([StoredPoint(point_id("s", "k", 0), payload, {DENSE: vector_of("a")})])
    with pytest.raises(MismatchError, match=message):
        answer_from(served, Question("the lease"), LOCAL_OPERATOR)


def test_a_query_is_not_answered_with_a_vector_of_another_space(platform: Platform) -> None:
    with pytest.raises(MismatchError, match=r"answers for release .* in space another"):
        answer_from(
            opened(platform, Encoder(platform.manifest.space, answers_from="another")), Question("the lease"), LOCAL_OPERATOR
        )


def opened(platform: Platform, encoder: Encoder) -> Served:
    served = opening.open_served(platform.settings, platform.store, platform.collection.name)
    return replace(served, release=replace(served.release, embedder=encoder))


# --- before any door: the rules in code ---


@pytest.mark.parametrize(
    ("name", "replacement", "check", "message"),
    [
        ("clean", lambda text, rules: type("C", (), {"text": text, "raw_span": lambda s, a, b: (a, b)})(), "rules", "cleaning"),
        ("golden_id", lambda name: "another", "rules", "golden_id"),
        ("_CHUNKS", [(0, 9)], "chunks", "golden check of chunks: .*constraints.txt"),
        ("_LONG_CHUNKS", "another", "chunks", "chunks of a long text"),
    ],
)
def test_a_process_whose_rules_differ_does_not_start(
    monkeypatch: pytest.MonkeyPatch, name: str, replacement: object, check: str, message: str
) -> None:
    checks: dict[str, Callable[[], None]] = {
        "rules": selfcheck.check_rules_in_code.__wrapped__,
        "chunks": selfcheck.check_chunks_in_code.__wrapped__,
    }
    checks[check]()
    monkeypatch.setattr(selfcheck, name, replacement)
    with pytest.raises(MismatchError, match=message):
        checks[check]()


def test_the_limit_of_stored_golden_vectors_is_twice_the_angle_of_the_parity_limit() -> None:
    assert GoldenSet((), 1e-3).stored_limit == pytest.approx(4e-3)


def test_what_a_collection_was_built_with_is_all_of_the_release(platform: Platform) -> None:
    assert asdict(CollectionInfo.of(platform.manifest)) == asdict(platform.collection.info)
    record_encoder(platform.encoder)
    assert platform.package().release == platform.manifest.release
