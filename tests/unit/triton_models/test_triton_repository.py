"""The model repository is written from the manifest alone, and stands whole or not at all."""

import ast
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.encoder.runtimes import OPENVINO_HINTS
from tests.checkout import CHECKOUT
from triton_models.repository import (
    is_whole,
    point_stable_model,
    releases_in,
    remove_models,
    render_config,
    write_models,
)
from twinline.contract.encoder.golden import GoldenVector, write_golden
from twinline.contract.encoder.specification import ChunkerSettings, make_contract
from twinline.contract.errors import MismatchError
from twinline.contract.release.manifest import Fingerprints, Format, Manifest, Parity, Serving, hash_files, release_id

TOKENIZER = (
    b'{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,'
    b'"post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"[PAD]":0,"[UNK]":1},"unk_token":"[UNK]"}}'
)
PARITY = Parity(worst=1e-9, median=1e-10, worst_text="a text", limit=1e-6)
FORMATS = {
    "onnx_fp32": Format("onnx_fp32", "onnxruntime", "fp32", "onnx/model.onnx", PARITY),
    "openvino_bf16": Format("openvino_bf16", "openvino", "bf16", "openvino/model.xml", PARITY),
    "openvino_int8": Format("openvino_int8", "openvino", "int8", "openvino_int8/model.xml", PARITY),
    "tensorrt_fp16": Format("tensorrt_fp16", "tensorrt", "fp16", "tensorrt/sm_90-trt_10.9/model.plan", PARITY),
}

ENCODER_CONFIG = """\
# Written by triton_models from the manifest of release {release}.
name: "encoder_{release}"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: 32
input [
  {{ name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }},
  {{ name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }}
]
output [
  {{ name: "sentence_embedding" data_type: TYPE_FP32 dims: [ 4 ] }}
]
# Requests of equal length are merged. No delay: under load a queue forms anyway, and without load no request should wait.
# A CPU gains nothing from batches beyond a few texts, and a query must not wait behind a long one.
dynamic_batching {{ priority_levels: 2 default_priority_level: 2 {queue_policy} preferred_batch_size: [ 4, 8 ] }}
# Two instances, so that a query runs beside an earlier document. With one, a request that comes while it works may also wait for
# 500 ms: with priorities or limits, Triton looks for an instance just before this one is free, and then on a timer.
instance_group [ {{ kind: KIND_CPU count: 2 }} ]
model_warmup {{
  name: "length_16"
  batch_size: 1
  inputs {{
    key: "input_ids"
    value: {{ data_type: TYPE_INT64 dims: [ 16 ] input_data_file: "input_ids_16" }}
  }}
  inputs {{
    key: "attention_mask"
    value: {{ data_type: TYPE_INT64 dims: [ 16 ] input_data_file: "attention_mask_16" }}
  }}
}}
parameters {{ key: "release" value: {{ string_value: "{release}" }} }}
parameters {{ key: "space" value: {{ string_value: "{space}" }} }}
parameters {{ key: "contract" value: {{ string_value: "{contract}" }} }}
parameters {{ key: "precision" value: {{ string_value: "fp32" }} }}
"""


def write_release(folder: Path, served: str = "onnx_fp32", text: str = "a lease") -> Manifest:
    chunker = ChunkerSettings(overlap_tokens=4, title_max_tokens=4)
    contract, tokenizer_json = make_contract(TOKENIZER, max_tokens=16, dimension=4, chunker=chunker)
    contract.save(folder, tokenizer_json)
    write_golden(folder, [GoldenVector("short", "query", text, (1, 1), False, np.ones(4, dtype=np.float32))])
    for entry in FORMATS.values():
        path = folder / entry.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{served}: {entry.file}")
    serving, files = Serving(served, (16,), 32), hash_files(folder)
    manifest = Manifest(
        release=release_id("5" * 64, contract.fingerprint, serving, files),
        space="5" * 64,
        fingerprints=Fingerprints.of(contract),
        weights_sha256="7" * 64,
        dimension=4,
        base_model="a base",
        formats=tuple(FORMATS.values()),
        dropped_formats=(),
        serving=serving,
        files=files,
    )
    manifest.save(folder)
    return manifest


def test_the_encoder_config_says_what_the_manifest_says(tmp_path: Path) -> None:
    manifest = write_release(tmp_path / "release")
    write_models(tmp_path / "release", tmp_path / "models")
    written = (tmp_path / "models" / f"encoder_{manifest.release}" / "config.pbtxt").read_text()
    assert written == ENCODER_CONFIG.format(
        release=manifest.release,
        space=manifest.space,
        contract=manifest.fingerprints.contract,
        queue_policy="default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 30000000 max_queue_size: 256 }",
    )


def test_the_warm_up_data_fit_the_shapes_of_the_config(tmp_path: Path) -> None:
    manifest = write_release(tmp_path / "release")
    write_models(tmp_path / "release", tmp_path / "models")
    warmup = tmp_path / "models" / f"encoder_{manifest.release}" / "warmup"
    assert np.fromfile(warmup / "input_ids_16", dtype=np.int64).tolist() == [1] * 16
    assert np.fromfile(warmup / "attention_mask_16", dtype=np.int64).tolist() == [1] * 16


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ("openvino_bf16", ['backend: "openvino"', '"model.xml"', "HINT_BF16", '"bf16"']),
        ("openvino_int8", ['backend: "openvino"', '"model.xml"', '"int8"']),
        ("tensorrt_fp16", ['backend: "tensorrt"', '"model.plan"', '"fp16"']),
    ],
)
def test_each_backend_gets_its_file_and_precision(tmp_path: Path, served: str, expected: list[str]) -> None:
    manifest = write_release(tmp_path / "release", served)
    write_models(tmp_path / "release", tmp_path / "models", device="gpu")
    folder = tmp_path / "models" / f"encoder_{manifest.release}"
    config = (folder / "config.pbtxt").read_text()
    assert all(part in config for part in [*expected, "KIND_GPU"])
    assert (folder / "1" / Path(FORMATS[served].file).name).is_file()


def test_text_is_quoted_whatever_it_holds(tmp_path: Path) -> None:
    text = 'say "lease" \\ \n and \u20ac'
    manifest = write_release(tmp_path / "release", text=text)
    config = render_config("embed", manifest, name="embed", golden=text)
    (line,) = [line for line in config.splitlines() if '"golden"' in line]
    assert r"say \"lease\" \\ \n and \u20ac" in line


def test_the_tokenizer_model_carries_contract_code_and_release_files(tmp_path: Path) -> None:
    manifest = write_release(tmp_path / "release")
    write_models(tmp_path / "release", tmp_path / "models")
    version = tmp_path / "models" / f"tokenizer_{manifest.release}" / "1"
    assert (version / "twinline" / "contract" / "encoder" / "tokens.py").is_file()
    assert sorted(path.name for path in (version / "release").iterdir()) == [
        "contract.json",
        "golden.json",
        "manifest.json",
        "tokenizer.json",
    ]


def test_an_edited_release_writes_nothing(tmp_path: Path) -> None:
    write_release(tmp_path / "release")
    (tmp_path / "release" / "onnx" / "model.onnx").write_text("edited")
    with pytest.raises(MismatchError, match=r"onnx/model\.onnx"):
        write_models(tmp_path / "release", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_writing_twice_equals_writing_once(tmp_path: Path) -> None:
    write_release(tmp_path / "release")
    write_models(tmp_path / "release", tmp_path / "models")
    once = hash_files(tmp_path / "models")
    write_models(tmp_path / "release", tmp_path / "models")
    assert hash_files(tmp_path / "models") == once
    # nothing is left beside the repository either
    assert sorted(path.name for path in tmp_path.iterdir()) == [".models.lock", "models", "release"]


def test_the_stable_model_points_at_one_release_and_can_be_moved(tmp_path: Path) -> None:
    first = write_release(tmp_path / "first")
    second = write_release(tmp_path / "second", text="another text")
    for name in ("first", "second"):
        write_models(tmp_path / name, tmp_path / "models")
    config = tmp_path / "models" / "embed" / "config.pbtxt"
    for manifest in (first, second):
        point_stable_model(manifest.release, tmp_path / "models")
        assert f'model_name: "encoder_{manifest.release}"' in config.read_text()
        assert config.read_text().count(manifest.release) == config.read_text().count("model_name") + 2
    assert releases_in(tmp_path / "models") == sorted([first.release, second.release])


def test_the_stable_model_cannot_point_at_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="is missing"):
        point_stable_model("r000000000000", tmp_path / "models")


def test_removing_a_release_leaves_the_other(tmp_path: Path) -> None:
    first = write_release(tmp_path / "first")
    second = write_release(tmp_path / "second", text="another text")
    for name in ("first", "second"):
        write_models(tmp_path / name, tmp_path / "models")
    remove_models(first.release, tmp_path / "models")
    remove_models(first.release, tmp_path / "models")
    assert releases_in(tmp_path / "models") == [second.release]
    assert len(list((tmp_path / "models").iterdir())) == 3


def test_models_are_whole_as_written_and_for_their_device(tmp_path: Path) -> None:
    manifest = write_release(tmp_path / "release")
    models = tmp_path / "models"
    assert not is_whole(manifest.release, models)
    write_models(tmp_path / "release", models)
    assert is_whole(manifest.release, models)
    assert is_whole(manifest.release, models, "cpu")
    assert not is_whole(manifest.release, models, "gpu")
    config = models / f"embed_{manifest.release}" / "config.pbtxt"
    config.write_text(config.read_text() + "# changed\n")
    assert not is_whole(manifest.release, models)


def test_what_a_writer_that_was_killed_left_is_removed_by_the_next(tmp_path: Path) -> None:
    manifest = write_release(tmp_path / "release")
    models = tmp_path / "models"
    (tmp_path / ".models-deadbeef" / "embed_r1.old").mkdir(parents=True)
    write_models(tmp_path / "release", models)
    (tmp_path / ".models-deadbeef").mkdir()
    assert remove_models(manifest.release, models) is True
    (tmp_path / ".models-deadbeef").mkdir()
    assert remove_models(manifest.release, models) is False
    assert sorted(path.name for path in tmp_path.iterdir()) == [".models.lock", "models", "release"]


def test_a_copy_that_came_out_otherwise_is_not_renamed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_release(tmp_path / "release")
    copy = shutil.copytree

    def damaging(source: Path, target: Path, *more: Any, **options: Any) -> Path:
        copied = Path(copy(source, target, *more, **options))
        for path in copied.glob("*.onnx"):
            path.write_bytes(path.read_bytes() + b"x")
        return copied

    monkeypatch.setattr(shutil, "copytree", damaging)
    with pytest.raises(MismatchError, match="SHA-256"):
        write_models(tmp_path / "release", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_the_backend_asks_openvino_for_what_parity_was_measured_with() -> None:
    source = (CHECKOUT / "triton_models" / "backends" / "openvino" / "model.py").read_text()
    tables = [node.value for node in ast.parse(source).body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)]
    assert [ast.literal_eval(table) for table in tables] == [dict(OPENVINO_HINTS)]
