import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twinline.contract.encoder.golden import GOLDEN_TEXTS, GoldenVector, check_tokens, golden_texts, read_golden, write_golden
from twinline.contract.encoder.pooling import cosine_distance, normalize, pool
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.space import hash_safetensors, space_id, weights_hash
from twinline.contract.errors import ContractError, MismatchError
from twinline.contract.release.manifest import Fingerprints, Format, Manifest, Parity, Serving, hash_files, release_id


def write_safetensors(
    path: Path, tensors: dict[str, np.ndarray], order: list[str], metadata: dict[str, str] | None = None
) -> None:
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    body = b""
    for name in order:
        content = tensors[name].tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + body)


TENSORS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(4, dtype=np.float32)}


def test_the_weights_hash_looks_at_tensors_not_at_the_layout_of_the_file(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "1", TENSORS, ["a", "b"])
    write_safetensors(tmp_path / "2", TENSORS, ["b", "a"], {"format": "pt"})
    expected = weights_hash((name, "F32", list(t.shape), t.tobytes()) for name, t in TENSORS.items())
    assert hash_safetensors(tmp_path / "1") == hash_safetensors(tmp_path / "2") == expected


@pytest.mark.parametrize("change", ["value", "name", "shape"])
def test_any_change_of_a_tensor_changes_the_weights_hash(tmp_path: Path, change: str) -> None:
    write_safetensors(tmp_path / "1", TENSORS, ["a", "b"])
    other = dict(TENSORS)
    if change == "value":
        other["a"] = np.array([1, 1, 1, 1.0000001], dtype=np.float32)
    elif change == "name":
        other["c"] = other.pop("b")
    else:
        other["b"] = other["b"].reshape(3, 2)
    write_safetensors(tmp_path / "2", other, sorted(other))
    assert hash_safetensors(tmp_path / "1") != hash_safetensors(tmp_path / "2")


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\x02" + b"\0" * 7 + b"[]", b"\xff" * 40])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ContractError, match="safetensors"):
        hash_safetensors(tmp_path / "model.safetensors")


def test_mean_pooling_leaves_padding_out() -> None:
    hidden = np.array([[[1.0, 0.0], [3.0, 2.0], [99.0, 99.0]]], dtype=np.float32)
    mask = np.array([[1, 1, 0]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0, 1.0]]
    assert pool(hidden, mask, "cls").tolist() == [[1.0, 0.0]]
    assert pool(hidden, mask, "last").tolist() == [[3.0, 2.0]]


def test_distance_resolves_what_single_precision_would_lose() -> None:
    left = normalize(np.array([[1.0, 0.0]], dtype=np.float32))
    right = np.array([[1.0, 1e-5]], dtype=np.float32)
    assert cosine_distance(left, right)[0] == pytest.approx(5e-11, rel=1e-3)
    assert cosine_distance(left, -left)[0] == pytest.approx(2.0)


def test_golden_texts_survive_the_file_and_a_moved_token_is_found(tmp_path: Path, preprocessor: Preprocessor) -> None:
    texts = golden_texts(preprocessor)
    assert len({text.name for text in texts}) == len(texts) == len(GOLDEN_TEXTS) + 4
    rng = np.random.default_rng(1)
    entries = []
    for text in texts:
        encoded = preprocessor.encode([text.text], text.role)
        entries.append(
            GoldenVector(
                text.name,
                text.role,
                text.text,
                tuple(encoded.token_ids[0]),
                bool(encoded.truncated[0]),
                rng.normal(size=8).astype(np.float32),
            )
        )
    write_golden(tmp_path, entries)
    again = read_golden(tmp_path)
    assert all((one.vector == other.vector).all() and one.text == other.text for one, other in zip(entries, again, strict=True))
    check_tokens(again, preprocessor, "here")
    moved = replace(again[5], token_ids=(*again[5].token_ids, 3))
    with pytest.raises(MismatchError, match=moved.name):
        check_tokens([*again[:5], moved], preprocessor, "here")


@pytest.mark.parametrize(("name", "over"), [("one_under_limit", -1), ("at_limit", 0), ("one_over_limit", 1)])
def test_measured_golden_texts_have_the_length_they_say(preprocessor: Preprocessor, name: str, over: int) -> None:
    (text,) = [text for text in golden_texts(preprocessor) if text.name == name]
    assert preprocessor.count_tokens(text.text, text.role) == 32 + over
    assert bool(preprocessor.encode([text.text], text.role).truncated[0]) is (over > 0)


def make_release(folder: Path) -> Manifest:
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(b"graph")
    (folder / "evaluation.json").write_text("{}")
    files = hash_files(folder)
    serving = Serving("onnx_fp32", (16, 32), 8)
    manifest = Manifest(
        release=release_id("5" * 64, "c" * 64, serving, files),
        space="5" * 64,
        fingerprints=Fingerprints("v" * 64, "i" * 64, "c" * 64),
        weights_sha256="w" * 64,
        dimension=8,
        base_model="tiny",
        formats=(Format("onnx_fp32", "onnxruntime", "fp32", "onnx/model.onnx", Parity(1e-9, 1e-10, "emoji", 1e-6)),),
        dropped_formats=(),
        serving=serving,
        files=files,
    )
    manifest.save(folder)
    return manifest


def test_a_manifest_survives_its_file_and_names_the_format_it_serves(tmp_path: Path) -> None:
    manifest = make_release(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    assert manifest.serving_format().backend == "onnxruntime"
    manifest.verify_files(tmp_path)


@pytest.mark.parametrize("fault", ["changed", "missing", "extra"])
def test_a_release_whose_files_were_touched_is_refused(tmp_path: Path, fault: str) -> None:
    manifest = make_release(tmp_path)
    target = tmp_path / "onnx" / "model.onnx"
    if fault == "changed":
        target.write_bytes(b"grapH")
    elif fault == "missing":
        target.unlink()
    else:
        (tmp_path / "onnx" / "model.onnx.data").write_bytes(b"x")
    with pytest.raises(MismatchError, match=r"model\.onnx"):
        manifest.verify_files(tmp_path)


def test_an_edited_manifest_is_refused(tmp_path: Path) -> None:
    make_release(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace("5" * 64, "6" * 64))
    with pytest.raises(MismatchError, match="edited"):
        Manifest.load(tmp_path)


def test_the_release_id_follows_what_is_served_and_not_the_reports(tmp_path: Path) -> None:
    files = make_release(tmp_path).files
    serving = Serving("onnx_fp32", (16, 32), 8)
    one = release_id("s", "c", serving, files)
    assert release_id("s", "c", serving, {**files, "evaluation.json": "0"}) == one
    assert release_id("s", "c", serving, {**files, "onnx/model.onnx": "0"}) != one
    assert release_id("s", "c", replace(serving, max_batch_size=9), files) != one
    assert release_id("t", "c", serving, files) != one


def test_a_space_is_its_contract_and_its_weights() -> None:
    assert len({space_id("v", "w"), space_id("v", "x"), space_id("x", "w")}) == 3
