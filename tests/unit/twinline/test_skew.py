"""Skew is named where it enters: one piece is exchanged at a time, and the first broken hop must be that one."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.twinline.skew_factories import (
    DOCUMENTS,
    MemoryDocuments,
    MemoryLog,
    Pieces,
    make_pieces,
    run_format,
    turned,
    vectors_of,
)
from twinline.clients.store.protocol import Head, StoredPoint, nearest
from twinline.clients.store.vectors import DENSE
from twinline.contract.documents.ids import head_id, point_id
from twinline.contract.documents.records import Document, Version
from twinline.contract.encoder.runtime import Runtime
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import MismatchError, TransientError
from twinline.contract.release.manifest import Format, hash_files
from twinline.upkeep.skew.measure import measure_skew, refused_release
from twinline.upkeep.skew.opening import scored
from twinline.upkeep.skew.report import CannotRunError, SkewReport

Change = Callable[[Pieces], Pieces]


@pytest.fixture
def pieces(tmp_path: Path) -> Pieces:
    """A release that agrees with itself everywhere."""
    return make_pieces(tmp_path / "release")


def measured(pieces: Pieces) -> SkewReport:
    return measure_skew(pieces.subject, pieces.offline, pieces.live, pieces.plan)


def offline(**changes: object) -> Change:
    return lambda pieces: replace(pieces, offline=replace(pieces.offline, **changes))  # type: ignore[arg-type]


def live(**changes: object) -> Change:
    return lambda pieces: replace(pieces, live=replace(pieces.live, **changes))  # type: ignore[arg-type]


def ensemble(name: str, change: Callable[..., object]) -> Change:
    def exchange(pieces: Pieces) -> Pieces:
        embedders = {**pieces.live.embedders, name: pieces.embedder(change)}  # type: ignore[arg-type]
        return replace(pieces, live=replace(pieces.live, embedders=embedders))

    return exchange


def searching(change: Callable[[np.ndarray], np.ndarray]) -> Change:  # type: ignore[type-arg]
    def exchange(pieces: Pieces) -> Pieces:
        def ask(text: str) -> list[tuple[float, np.ndarray]]:  # type: ignore[type-arg]
            query = change(pieces.embedder(lambda answer: answer).embed([text], "query").vectors[0])
            hits = nearest(pieces.collection, query, 10)
            stored = pieces.collection.read_points([hit.id for hit in hits], with_vectors=True)
            return scored(((hit.id, hit.score or 0.0) for hit in hits), stored)

        return live(search=ask)(pieces)

    return exchange


def other_role_of(pieces: Pieces, _: object) -> np.ndarray:  # type: ignore[type-arg]
    return vectors_of(pieces.preprocessor.encode(["cats"], "document").token_ids)[0]


def refuse(*_: object) -> None:
    raise MismatchError("the door stays shut")


def all_but_the_longest(texts: Sequence[str], role: Role) -> list[list[int]]:
    return [[2 if role == "query" else 3, 0][: 2 - (len(text) > 20)] for text in texts]


def without_mask(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return run_format(input_ids, np.ones_like(attention_mask))


def edit_a_file(pieces: Pieces) -> Pieces:
    place = pieces.subject.folder / "encoder" / "model.safetensors"
    place.write_bytes(place.read_bytes()[:-1] + b"\x7f")
    return pieces


def add_a_file(pieces: Pieces) -> Pieces:
    (pieces.subject.folder / "onnx").mkdir()
    (pieces.subject.folder / "onnx" / "model.onnx").write_bytes(b"another graph")
    return pieces


def pack_another_encoder(pieces: Pieces) -> Pieces:
    """Return a release whose manifest was written over a model configuration that the encoder was not trained with."""
    folder = pieces.subject.folder
    (folder / "encoder" / "config.json").write_text('{"hidden_act": "relu"}')
    manifest = replace(pieces.subject.manifest, files=hash_files(folder))
    return replace(pieces, subject=replace(pieces.subject, manifest=manifest))


def another_space(pieces: Pieces) -> Pieces:
    manifest = replace(pieces.subject.manifest, space="0" * 64)
    return replace(pieces, subject=replace(pieces.subject, manifest=manifest))


def stable_of_another_release(pieces: Pieces) -> Pieces:
    assert pieces.live.stable is not None
    stable = replace(pieces.live.stable, embedder=pieces.embedder(turned))
    return replace(pieces, live=replace(pieces.live, stable=stable))


def change_last_chunk(**payload: object) -> Change:
    return change_point("bees", 1, **payload)


def change_point(key: str = "cats", index: int = 0, **payload: object) -> Change:
    def change(pieces: Pieces) -> Pieces:
        id_ = point_id("src", key, index)
        point = pieces.collection.points[id_]
        pieces.collection.points[id_] = StoredPoint(id_, {**point.payload, **payload}, point.vectors)
        return pieces

    return change


def roll_a_stored_vector(pieces: Pieces) -> Pieces:
    id_ = point_id("src", "bees", 1)
    point = pieces.collection.points[id_]
    assert point.dense is not None
    pieces.collection.points[id_] = StoredPoint(id_, point.payload, {DENSE: np.roll(point.dense, 1)})
    return pieces


def keep_a_chunk_too_many(pieces: Pieces) -> Pieces:
    id_ = point_id("src", "cats", 1)
    point = pieces.collection.points[point_id("src", "cats", 0)]
    pieces.collection.points[id_] = StoredPoint(id_, {**point.payload, "chunk_index": 1}, point.vectors)
    return pieces


def lose_a_chunk(pieces: Pieces) -> Pieces:
    del pieces.collection.points[point_id("src", "bees", 1)]
    return pieces


def lose_all_chunks(pieces: Pieces) -> Pieces:
    del pieces.collection.points[point_id("src", "cats", 0)]
    return pieces


FAULTS: dict[str, tuple[str, Change]] = {
    "a rule in code gives another value": ("rules", offline(check_rules=refuse)),
    "a byte of the weights": ("release files", edit_a_file),
    "a file that the manifest does not know": ("release files", add_a_file),
    "another model configuration was packaged": ("release files", pack_another_encoder),
    "the manifest names another space": ("release files", another_space),
    "this process has another tokenizer": ("tokens", lambda pieces: offline(encode=_other_role(pieces))(pieces)),
    "the framework gives other vectors": ("training framework", offline(vectors=lambda ids: np.roll(vectors_of(ids), 1, 1))),
    "a format reads the padding": ("onnx_fp32", offline(open_format=lambda entry: without_mask)),
    "Triton's tokenizer cuts elsewhere": ("triton tokenizer", live(token_ids=all_but_the_longest)),
    "gRPC gives other vectors": ("triton grpc", ensemble("triton grpc", turned)),
    "gRPC gives a NaN": ("triton grpc", ensemble("triton grpc", lambda a: replace(a, vectors=a.vectors * np.nan))),
    "HTTP counts other tokens": ("triton http", ensemble("triton http", lambda a: replace(a, token_counts=a.token_counts + 1))),
    "HTTP says cut where it is not": ("triton http", ensemble("triton http", lambda a: replace(a, truncated=~a.truncated))),
    "an answer comes from another space": ("triton grpc", ensemble("triton grpc", lambda a: replace(a, space="other"))),
    "the client's own door is shut": ("triton http", ensemble("triton http", refuse)),
    "`embed` stands for another release": ("triton embed", stable_of_another_release),
    "the collection holds no golden texts": ("stored golden", live(read_golden=dict)),
    "the online process keeps it closed": ("stored golden", live(read_golden=refuse)),
    "search asks under the other role": ("search", lambda pieces: searching(lambda a: other_role_of(pieces, a))(pieces)),
    "search asks with another encoder": ("search", searching(lambda a: np.roll(a, 1))),
    "search is refused": ("search", live(search=refuse)),
    "a point names another release": ("live sample", change_point(release="other")),
    "a point names another contract": ("live sample", change_point(contract="other")),
    "a stored vector was changed": ("live sample", roll_a_stored_vector),
    "a stored span was changed": ("live sample", change_point(start=1)),
    "a stored text was changed": ("live sample", change_point(text="cats sleep")),
    "a stored token count was changed": ("live sample", change_point(token_count=99)),
    "a point names another space": ("live sample", change_point(space="other")),
    "a point names another message": ("live sample", change_point(offset=1)),
    "a chunk of several names another message": ("live sample", change_last_chunk(offset=0)),
    "a stored title was changed": ("live sample", change_point(title="dogs")),
    "a point belongs to another tenant": ("live sample", change_point(tenant="somebody")),
    "a chunk too many is stored": ("live sample", keep_a_chunk_too_many),
    "a chunk is gone": ("live sample", lose_a_chunk),
    "a document has a head and nothing else": ("live sample", lose_all_chunks),
}


def _other_role(pieces: Pieces) -> Callable[..., object]:
    return lambda texts, role: pieces.preprocessor.encode(texts, "query")


def test_a_release_that_is_served_as_it_was_trained_agrees_everywhere(pieces: Pieces) -> None:
    report = measured(pieces)
    assert (report.ok, report.broken_hop) == (True, None), report.sentence()
    sample = report.sample
    assert sample is not None
    assert (sample.documents, sample.compared) == (len(DOCUMENTS), len(DOCUMENTS))
    assert sample.chunks == sample.spans == sample.tokens == sample.vectors > sample.compared


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_at_the_hop_where_it_enters(pieces: Pieces, fault: str) -> None:
    hop, exchange = FAULTS[fault]
    report = measured(exchange(pieces))
    assert report.broken_hop == hop
    assert f"first at hop `{hop}`: " in report.sentence()
    assert not report.sentence().endswith(": ")


def test_a_fault_in_one_hop_leaves_the_others_measured(pieces: Pieces) -> None:
    report = measured(FAULTS["HTTP counts other tokens"][1](pieces))
    assert [hop.name for hop in report.hops if hop.state == "broken"] == ["triton http"]
    assert report.sample is not None
    assert report.sample.ok


def test_nothing_is_loaded_from_files_that_were_changed(pieces: Pieces) -> None:
    loaded: list[object] = []
    watched = offline(vectors=loaded.append, open_format=loaded.append)(edit_a_file(pieces))
    report = measured(watched)
    assert loaded == []
    assert {hop.state for hop in report.hops if hop.name in ("training framework", "onnx_fp32", "search")} == {"not run"}
    assert report.sample is None


def test_a_runtime_that_is_not_here_is_said_and_is_no_fault(pieces: Pieces) -> None:
    def open_format(entry: Format) -> Runtime:
        if entry.backend == "tensorrt":
            raise CannotRunError("there is no NVIDIA GPU")
        return run_format

    report = measured(offline(open_format=open_format)(pieces))
    [hop] = [hop for hop in report.hops if hop.state == "not run"]
    assert (hop.name, hop.detail, report.ok) == ("tensorrt_fp16", "there is no NVIDIA GPU", True)
    assert "not run: tensorrt_fp16" in report.sentence()


def test_what_is_away_cannot_be_measured_unless_something_else_is_broken(pieces: Pieces) -> None:
    def away(*_: object) -> None:
        raise TransientError("no Triton answers at :1")

    without_triton = live(token_ids=away)(pieces)
    with pytest.raises(TransientError, match="no Triton answers"):
        measured(without_triton)
    report = measured(offline(check_rules=refuse)(without_triton))
    assert report.broken_hop == "rules"
    assert {hop.name: hop.state for hop in report.hops}["triton tokenizer"] == "not run"


def test_a_message_that_expired_is_counted_apart(pieces: Pieces) -> None:
    del pieces.log.held[0, 0]
    sample = measured(pieces).sample
    assert sample is not None
    assert (sample.documents, sample.compared, sample.expired, sample.ok) == (3, 2, 1, True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda: (head_id("src", "cats"), {"team": "blue"}), "the head is stored with other metadata"),
        (lambda: (head_id("src", "cats"), {}), "the head is stored with other metadata"),
        (lambda: (point_id("src", "cats", 0), {"team": "red"}), "chunk 0 is stored with another metadata"),  # not declared
    ],
)
def test_other_metadata_than_the_message_has_are_found(pieces: Pieces, changed: Callable[[], Any], said: str) -> None:
    pieces.index(Document("src", "cats", "cats sleep", metadata={"team": "red", "n": 1}))
    assert measured(pieces).ok
    id_, metadata = changed()
    stored = pieces.collection.points[id_]
    pieces.collection.points[id_] = replace(stored, payload={**stored.payload, "metadata": metadata})
    sample = measured(pieces).sample
    assert sample is not None
    assert not sample.ok
    assert said in json.dumps(sample.to_json())


def test_metadata_on_the_chunks_of_an_older_release_of_twinline_are_compared_too(pieces: Pieces) -> None:
    metadata = {"team": "red", "n": 1.0}
    pieces.index(Document("src", "cats", "cats sleep", metadata={"team": "red", "n": 1}))
    head, first = head_id("src", "cats"), point_id("src", "cats", 0)
    payload = {name: value for name, value in pieces.collection.points[head].payload.items() if name != "metadata"}
    pieces.collection.points[head] = replace(pieces.collection.points[head], payload=payload)
    assert not measured(pieces).ok
    chunk = pieces.collection.points[first]
    pieces.collection.points[first] = replace(chunk, payload={**chunk.payload, "metadata": metadata})
    assert measured(pieces).ok


def test_a_document_that_was_replaced_while_we_looked_has_moved(pieces: Pieces) -> None:
    id_ = point_id("src", "cats", 0)

    def replace_it(call: str) -> None:
        head = Head("src", "cats", Version("log", 2_000_000_000_000, 99), False, 1)
        pieces.collection.put_heads([head])

    pieces.collection.points[id_] = StoredPoint(
        id_, {**pieces.collection.points[id_].payload, "text": "new"}, {DENSE: np.ones(8)}
    )
    plan = replace(pieces.plan, stored=MemoryDocuments(pieces.collection, replace_it))
    sample = measured(replace(pieces, plan=plan)).sample
    assert sample is not None
    assert (sample.compared, sample.moved, sample.ok) == (2, 1, True)


def test_a_document_that_is_being_written_is_looked_at_again(pieces: Pieces) -> None:
    lost = point_id("src", "bees", 1)
    point = pieces.collection.points.pop(lost)

    def write_it(call: str) -> None:
        pieces.collection.points[lost] = point

    plan = replace(pieces.plan, stored=MemoryDocuments(pieces.collection, write_it))
    sample = measured(replace(pieces, plan=plan)).sample
    assert sample is not None
    assert (sample.compared, sample.moved, sample.ok) == (3, 0, True)


def test_a_point_that_is_written_while_we_search_accuses_nobody(pieces: Pieces) -> None:
    answers = iter([[(0.0, np.ones(8, np.float32))]])

    def search(text: str) -> object:
        return next(answers, None) or pieces.live.search(text)

    assert measured(live(search=search)(pieces)).ok


def test_an_updated_document_is_compared_with_its_newest_message(pieces: Pieces) -> None:
    pieces.index(Document("src", "cats", "honey bees sleep"))
    assert measured(pieces).ok


def test_an_empty_collection_is_no_skew(pieces: Pieces) -> None:
    pieces.collection.points.clear()
    report = measured(replace(pieces, plan=replace(pieces.plan, log=MemoryLog())))
    assert report.ok
    assert "0 of 0 sampled documents" in report.sentence()


def test_the_report_is_json_whatever_was_found(pieces: Pieces) -> None:
    report = measured(FAULTS["gRPC gives a NaN"][1](pieces))
    said = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert {"release", "space", "contract", "ok", "broken_hop", "hops", "sample", "drift"} <= said.keys()
    assert (said["broken_hop"], said["drift"]) == ("triton grpc", None)
    assert next(hop for hop in said["hops"] if hop["name"] == "triton grpc")["worst"] is None


def test_a_folder_that_cannot_be_opened_is_the_fault_itself() -> None:
    report = refused_release("r1", MismatchError("manifest.json was edited"))
    assert (report.broken_hop, report.sentence().endswith("manifest.json was edited")) == ("release files", True)


@pytest.mark.parametrize(
    ("training", "named"),
    [
        ({"steps": 3, "params": {"max_tokens": 4}}, True),
        ({"steps": 3, "params": {"max_tokens": 8}}, True),
        # as many as serving, or more; none said; no step made; a base model's record
        ({"steps": 3, "params": {"max_tokens": 9}}, False),
        ({"steps": 3, "params": {"max_tokens": 64}}, False),
        ({"steps": 3, "params": {"max_tokens": None}}, False),
        ({"steps": 0, "params": {"max_tokens": 4}}, False),
        ({"steps": 0}, False),
        ({}, False),
    ],
)
def test_a_training_that_read_less_than_serving_is_said_and_is_no_fault(
    tmp_path: Path, training: dict[str, Any], named: bool
) -> None:
    report = measured(make_pieces(tmp_path, training))
    assert report.ok
    assert ("named deviation: training read" in report.sentence()) is named
    assert len(report.to_json()["deviations"]) == named  # type: ignore[arg-type]
