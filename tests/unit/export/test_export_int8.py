"""int8 by NNCF on a small real model: near the exact one if calibrated on texts like those asked; on garbage it is not."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from export.__main__ import app
from export.encoder.build import export_encoder
from export.encoder.calibration import calibration_ids
from export.encoder.formats import known_format
from export.encoder.params import ExportParams, PackageParams
from export.encoder.parity import Sample, measure_parity
from export.encoder.reference import ReferenceEncoder
from export.encoder.runtimes import open_runtime, openvino_hint
from export.encoder.to_onnx import export_onnx
from tests.unit.train.conftest import WORDS, write_tiny_base
from twinline.contract.encoder.encoder_record import encoder_identity
from twinline.contract.encoder.golden import PARITY_LIMITS
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.space import hash_safetensors
from twinline.contract.encoder.specification import ChunkerSettings, make_contract
from twinline.contract.errors import SettingsError

INT8 = known_format("openvino_int8")
PARAMS = ExportParams(formats=("openvino_int8",), calibration_chunks=40)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a random BERT under a contract, as the training stage leaves one."""
    folder = write_tiny_base(tmp_path_factory.mktemp("int8") / "encoder")
    # A model that was never trained hardly uses its matrices, and would not notice what is done to them.
    weights = load_file(folder / "model.safetensors")
    loud = {name: value * 10 if value.ndim == 2 and "embeddings" not in name else value for name, value in weights.items()}
    save_file(loud, folder / "model.safetensors", metadata={"format": "pt"})
    contract, own = make_contract(
        (folder / "tokenizer.json").read_bytes(),
        max_tokens=32,
        dimension=8,
        chunker=ChunkerSettings(overlap_tokens=4, title_max_tokens=8),
    )
    contract.save(folder, own)
    identity = encoder_identity(folder, contract, hash_safetensors(folder / "model.safetensors"))
    (folder / "training.json").write_text(json.dumps({"base_model": "tiny", **identity}))
    return folder


@pytest.fixture(scope="module")
def graph(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_onnx(encoder, "mean", target)
    return target


@pytest.fixture(autouse=True)
def _one_graph(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins with the same float32 graph, whose tracing takes longer than the rest of a test."""

    def copied(encoder: Path, pooling: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(graph, target)

    monkeypatch.setattr("export.encoder.to_onnx.export_onnx", copied)


def texts(count: int) -> list[str]:
    return [" ".join(WORDS[(number * step) % len(WORDS)] for step in range(1, 5 + number % 12)) for number in range(1, count + 1)]


def worst_distance(encoder: Path, target: Path, calibration: Sequence[Sequence[int]]) -> float:
    made = export_encoder(encoder, target, PARAMS, calibration)
    assert [entry.name for entry in made.formats] == ["openvino_int8"]
    ids = Preprocessor.load(encoder).encode(texts(30), "document").token_ids
    sample = Sample(texts(30), ids, ReferenceEncoder.load(encoder, "mean").vectors(ids))
    figure = measure_parity(INT8.name, "int8", sample, open_runtime(target, INT8), (16, 32), pad_id=0)
    assert figure.passed is (figure.worst <= PARITY_LIMITS["int8"])
    return figure.worst


@pytest.mark.integration
def test_int8_is_as_good_as_what_it_is_calibrated_on(encoder: Path, tmp_path: Path) -> None:
    preprocessor = Preprocessor.load(encoder)
    on_texts = worst_distance(encoder, tmp_path / "good", preprocessor.encode(texts(40), "document").token_ids)
    on_garbage = worst_distance(encoder, tmp_path / "bad", [[2, 3]] * 4)
    assert on_texts <= PARITY_LIMITS["int8"]
    assert on_garbage > PARITY_LIMITS["int8"]


@pytest.mark.integration
def test_int8_is_calibrated_on_golden_texts_and_on_chunks_of_the_corpus(encoder: Path, tmp_path: Path) -> None:
    rows = [{"source": "s", "key": str(n), "title": "", "text": text} for n, text in enumerate(texts(80))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "documents.parquet")
    preprocessor = Preprocessor.load(encoder)
    ids = calibration_ids(tmp_path / "documents.parquet", preprocessor, PARAMS)
    assert len(ids) > 40
    assert preprocessor.encode([texts(1)[0]], "document").token_ids[0] in [list(row) for row in ids]
    # where no int8 is wanted nothing is read
    assert calibration_ids(tmp_path / "nowhere", preprocessor, ExportParams()) == ()


def test_without_texts_int8_is_dropped_with_its_reason(encoder: Path, tmp_path: Path) -> None:
    made = export_encoder(encoder, tmp_path / "exported", PARAMS)
    assert made.formats == ()
    assert made.dropped[0].name == "openvino_int8"
    assert "export.calibration_chunks" in made.dropped[0].reason
    assert not (tmp_path / "exported" / INT8.file).exists()


@pytest.mark.parametrize(("vnni", "fix"), [(True, "disable"), (False, "enable")])
def test_weights_have_all_bits_only_where_the_cpu_can_add_their_products(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vnni: bool, fix: str
) -> None:
    import nncf

    asked: list[str] = []

    def quantize(model: object, *_: object, advanced_parameters: nncf.AdvancedQuantizationParameters, **__: object) -> object:
        asked.append(str(advanced_parameters.overflow_fix.value))
        return model

    monkeypatch.setattr(nncf, "quantize", quantize)
    monkeypatch.setattr("export.encoder.to_int8.has_vnni", lambda: vnni)
    export_encoder(encoder, tmp_path, PARAMS, Preprocessor.load(encoder).encode(texts(2), "document").token_ids)
    assert asked == [fix]


@pytest.mark.parametrize(("bf16", "hints"), [(True, ["f32", "bf16", "bf16"]), (False, ["f32", "f32", "f32"])])
def test_bfloat16_is_asked_for_only_where_it_is_not_emulated(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, hints: list[str]
) -> None:
    monkeypatch.setattr("export.encoder.runtimes.has_bf16", lambda: bf16)
    assert [openvino_hint(precision) for precision in ("fp32", "bf16", "int8")] == hints


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--serve", "openvino_int8"], "--serve openvino_int8 needs --documents"),
        (["--serve", "openvino_fp23"], "format 'openvino_fp23' is not known: choose from onnx_fp32"),
    ],
)
def test_a_base_release_says_at_once_what_it_cannot_serve(tmp_path: Path, options: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        app(["base", "--out", str(tmp_path / "out"), *options], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("serve", "said"), [((), "is empty"), (("openvino_fp32", "fastets"), "has 'fastets': choose from onnx_fp32")]
)
def test_what_is_to_be_served_must_be_known(serve: tuple[str, ...], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        PackageParams(serve)
