"""A release is made of its content: the same parts give the same id, and any served part changes it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from export.encoder.build import encoder_space, export_encoder, load_encoder_contract
from export.encoder.formats import Export, export_sha256, read_export, write_export
from export.encoder.package import ReleaseNotes, ReleaseParts, package_release
from export.encoder.params import ExportParams, served_buckets
from export.encoder.parity_stage import ParityReport
from export.encoder.quality import QualityReport
from export.lineage import collect_lineage
from twinline.contract.encoder.encoder_record import encoder_identity
from twinline.contract.encoder.golden import GoldenVector, read_golden
from twinline.contract.encoder.space import hash_safetensors
from twinline.contract.encoder.specification import ChunkerSettings, Contract, make_contract
from twinline.contract.errors import ContractError, MismatchError
from twinline.contract.release.checks import Check
from twinline.contract.release.manifest import DroppedFormat, Format, Manifest, Parity, Quality
from twinline.contract.release.verdict import FORMAT_TO_SERVE

PARITY = Parity(worst=1e-9, median=1e-10, worst_text="a text", limit=1e-6)
ONNX = Format("onnx_fp32", "onnxruntime", "fp32", "onnx/model.onnx", PARITY)
OPENVINO = Format("openvino_fp32", "openvino", "fp32", "openvino/model.xml", PARITY)
BUCKETS = (16, 64)


def tokenizer_json() -> bytes:
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "lease": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer.to_str().encode()


@pytest.fixture
def parts(tmp_path: Path) -> ReleaseParts:
    encoder, exported = tmp_path / "encoder", tmp_path / "exported"
    contract, own_tokenizer = make_contract(
        tokenizer_json(), max_tokens=64, dimension=4, chunker=ChunkerSettings(overlap_tokens=8, title_max_tokens=8)
    )
    contract.save(encoder, own_tokenizer)
    save_file({"weight": np.arange(8, dtype=np.float32).reshape(2, 4)}, encoder / "model.safetensors")
    (encoder / "config.json").write_text(json.dumps({"hidden_size": 4, "max_position_embeddings": 64}))
    write_record(encoder)
    (encoder / "optimizer.pt").write_bytes(b"a pickle")
    for name in ("onnx/model.onnx", "openvino/model.xml", "openvino/model.bin"):
        (exported / name).parent.mkdir(parents=True, exist_ok=True)
        (exported / name).write_text(f"content of {name}")
    write_export(exported, Export(encoder_space(encoder, contract), (), ()))
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text("{}")
    golden = [GoldenVector("short", "query", "a lease", (1, 2), False, np.array([1, 0, 0, 0.1], dtype=np.float32))]
    report = ParityReport(export_sha256(exported), (ONNX, OPENVINO), (DroppedFormat("tensorrt_fp16", "no GPU"),))
    return ReleaseParts(encoder, exported, report, golden, {"evaluation.json": evaluation})


def write_record(encoder: Path) -> None:
    """Do what training does when it has written an encoder."""
    contract, _ = Contract.load(encoder)
    identity = encoder_identity(encoder, contract, hash_safetensors(encoder / "model.safetensors"))
    (encoder / "training.json").write_text(json.dumps({"base_model": "a base", **identity}))


def export_and_measure_again(parts: ReleaseParts) -> ReleaseParts:
    contract, _ = Contract.load(parts.encoder)
    write_export(parts.exported, Export(encoder_space(parts.encoder, contract), (), ()))
    return replace(parts, report=replace(parts.report, export_sha256=export_sha256(parts.exported)))


def package(parts: ReleaseParts, target: Path, created: str = "1", serve: tuple[str, ...] = ("openvino_fp32",)) -> Manifest:
    notes = ReleaseNotes("a base", {}, collect_lineage({"SOURCE_DATE_EPOCH": created}))
    return package_release(parts, notes, target, serve, BUCKETS, 64)


def test_the_same_parts_give_the_same_id_whenever_and_wherever_they_are_packaged(parts: ReleaseParts, tmp_path: Path) -> None:
    first = package(parts, tmp_path / "one" / "release", created="1")
    second = package(parts, tmp_path / "two" / "elsewhere", created="2")
    assert first.release == second.release
    assert first.lineage["created_at"] != second.lineage["created_at"]
    assert first.space == second.space


def test_packaging_at_one_moment_gives_the_same_bytes(parts: ReleaseParts, tmp_path: Path) -> None:
    package(parts, tmp_path / "one")
    package(parts, tmp_path / "two")
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert files
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def change_format(parts: ReleaseParts) -> None:
    (parts.exported / "onnx" / "model.onnx").write_text("other content")


def change_weights(parts: ReleaseParts) -> None:
    save_file({"weight": np.zeros((2, 4), dtype=np.float32)}, parts.encoder / "model.safetensors")


@pytest.mark.parametrize("change", [change_format, change_weights])
def test_a_change_of_what_is_served_makes_another_release(
    parts: ReleaseParts, tmp_path: Path, change: Callable[[ReleaseParts], None]
) -> None:
    before = package(parts, tmp_path / "before")
    change(parts)
    write_record(parts.encoder)
    assert package(export_and_measure_again(parts), tmp_path / "after").release != before.release


def test_a_change_of_a_report_makes_no_other_release(parts: ReleaseParts, tmp_path: Path) -> None:
    before = package(parts, tmp_path / "before")
    parts.reports["evaluation.json"].write_text('{"ndcg": 1}')
    after = package(parts, tmp_path / "after")
    assert after.release == before.release
    assert after.files["evaluation.json"] != before.files["evaluation.json"]


def test_a_release_verifies_and_holds_only_what_may_go_out(parts: ReleaseParts, tmp_path: Path) -> None:
    package(parts, tmp_path / "release")
    manifest = Manifest.load(tmp_path / "release")
    manifest.verify_files(tmp_path / "release")
    assert not [name for name in manifest.files if "optimizer" in name]
    assert manifest.dropped_formats == (DroppedFormat("tensorrt_fp16", "no GPU"),)
    assert manifest.serving_format() == OPENVINO
    assert Contract.load(tmp_path / "release") == Contract.load(parts.encoder)
    np.testing.assert_array_equal(read_golden(tmp_path / "release")[0].vector, parts.golden[0].vector)


def test_a_file_that_was_edited_afterwards_is_seen(parts: ReleaseParts, tmp_path: Path) -> None:
    package(parts, tmp_path / "release")
    (tmp_path / "release" / "onnx" / "model.onnx").write_text("edited")
    with pytest.raises(MismatchError, match=r"onnx/model\.onnx"):
        Manifest.load(tmp_path / "release").verify_files(tmp_path / "release")


def test_the_first_wanted_format_that_passed_is_served(parts: ReleaseParts, tmp_path: Path) -> None:
    manifest = package(parts, tmp_path / "release", serve=("tensorrt_fp16", "onnx_fp32", "openvino_fp32"))
    assert manifest.serving.format == "onnx_fp32"


def test_a_release_that_could_not_be_served_is_not_made(parts: ReleaseParts, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"tensorrt_fp16.*openvino_fp32; tensorrt_fp16 was left out: no GPU"):
        package(parts, tmp_path / "release", serve=("tensorrt_fp16",))
    assert not (tmp_path / "release").exists()


def test_packaging_again_replaces_the_old_release_whole(parts: ReleaseParts, tmp_path: Path) -> None:
    package(parts, tmp_path / "release")
    package(replace(parts, report=replace(parts.report, formats=(ONNX,))), tmp_path / "release", serve=("onnx_fp32",))
    assert not (tmp_path / "release" / "openvino").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_weights_that_were_changed_after_training_are_not_exported(parts: ReleaseParts, tmp_path: Path) -> None:
    change_weights(parts)
    with pytest.raises(MismatchError, match=r"training\.json says"):
        export_encoder(parts.encoder, tmp_path / "out", ExportParams())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_size": 8, "max_position_embeddings": 64}, "dimension 4, the weights have 8"),
        ({"hidden_size": 4, "max_position_embeddings": 32}, "64 tokens, the weights have 32 positions"),
    ],
)
def test_a_contract_that_does_not_fit_the_weights_is_refused(parts: ReleaseParts, config: dict[str, int], message: str) -> None:
    (parts.encoder / "config.json").write_text(json.dumps(config))
    with pytest.raises(MismatchError, match=message):
        load_encoder_contract(parts.encoder)


def test_the_list_of_formats_survives_its_file(tmp_path: Path) -> None:
    export = Export("a space", (), (DroppedFormat("openvino_bf16", "this CPU has no bfloat16"),))
    write_export(tmp_path, export)
    assert read_export(tmp_path, "a space") == export
    with pytest.raises(ContractError, match="python -m export export"):
        read_export(tmp_path / "nowhere", "a space")


@pytest.mark.parametrize(
    ("lengths", "limit", "served"),
    [
        ((16, 32, 64), 64, (16, 32, 64)),
        # the limit is always served: nothing may be padded to a length of its own
        ((16, 32, 64), 50, (16, 32, 50)),
        ((64, 16), 128, (16, 64, 128)),
        ((), 128, (128,)),
    ],
)
def test_buckets_end_at_the_token_limit(lengths: tuple[int, ...], limit: int, served: tuple[int, ...]) -> None:
    assert served_buckets(lengths, limit) == served


def test_lineage_holds_the_hashes_of_the_snapshot_and_the_version_of_the_base_models_package(tmp_path: Path) -> None:
    (tmp_path / "snapshot.json").write_text('{"id": "s1", "files": {"documents-00000.parquet": "ab"}}')
    lineage = collect_lineage({}, tmp_path / "snapshot.json", None, "package:numpy")
    assert (lineage["snapshot"], lineage["snapshot_files"]) == ("s1", {"documents-00000.parquet": "ab"})
    assert lineage["base_model_version"] == np.__version__
    assert collect_lineage({}, None, None, "package:no-such-package")["base_model_version"] is None
    assert collect_lineage({}, None, None, "owner/model")["snapshot_files"] is None


def with_quality(parts: ReleaseParts, over: tuple[str, ...], serves: str) -> ReleaseParts:
    figures = {name: Quality(0.7, 0.0, 0.0, 0.0, 0.02, "a slice", 0.0, 10, 1.0, 5.0) for name in ("onnx_fp32", "openvino_fp32")}
    dropped = tuple(DroppedFormat(name, "over its budget") for name in over)
    check = Check(FORMAT_TO_SERVE, serves not in over, "numbers")
    report = QualityReport(parts.report.export_sha256, "onnx_fp32", "2 of 2 queries", figures, dropped, check, serves)
    return replace(parts, quality=report)


def test_a_format_over_its_budget_stays_out_and_the_others_carry_their_figures(parts: ReleaseParts, tmp_path: Path) -> None:
    manifest = package(with_quality(parts, ("openvino_fp32",), "onnx_fp32"), tmp_path / "release")
    assert [entry.name for entry in manifest.formats] == ["onnx_fp32"]
    assert manifest.serving.format == "onnx_fp32"
    assert DroppedFormat("openvino_fp32", "over its budget") in manifest.dropped_formats
    assert not (tmp_path / "release" / "openvino").exists()
    read = Manifest.load(tmp_path / "release").formats[0]
    assert read.quality is not None
    assert (read.quality.ndcg_at_10, read.parity) == (0.7, PARITY)


def test_where_no_wanted_format_is_left_the_evidence_is_still_whole(parts: ReleaseParts, tmp_path: Path) -> None:
    manifest = package(with_quality(parts, ("onnx_fp32", "openvino_fp32"), "onnx_fp32"), tmp_path / "release")
    assert [entry.name for entry in manifest.formats] == [manifest.serving.format] == ["onnx_fp32"]
    assert {entry.name for entry in manifest.dropped_formats} >= {"onnx_fp32", "openvino_fp32"}


def test_figures_that_were_measured_on_another_export_are_refused(parts: ReleaseParts, tmp_path: Path) -> None:
    other = with_quality(parts, (), "onnx_fp32")
    assert other.quality is not None
    with pytest.raises(MismatchError, match="another export"):
        package(replace(other, quality=replace(other.quality, export_sha256="another")), tmp_path / "release")


def test_a_release_of_the_schema_before_is_read_without_figures(parts: ReleaseParts, tmp_path: Path) -> None:
    made = package(parts, tmp_path / "release")
    place = tmp_path / "release" / "manifest.json"
    value = json.loads(place.read_text())
    for entry in value["formats"]:
        del entry["quality"]
    place.write_text(json.dumps({**value, "schema": 1}))
    assert Manifest.load(tmp_path / "release") == made
    place.write_text(json.dumps({**value, "schema": 9}))
    with pytest.raises(MismatchError, match="schema 9"):
        Manifest.load(tmp_path / "release")
