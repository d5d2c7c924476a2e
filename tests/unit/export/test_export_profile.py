"""The profile stage over a real ONNX file: what goes into the drift reference, and that a release carries it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from export.encoder.formats import Export, ExportedFormat, write_export
from export.encoder.params import ProfileParams
from export.encoder.profile import build_profile
from twinline.contract.encoder.encoder_record import encoder_identity
from twinline.contract.encoder.space import hash_safetensors
from twinline.contract.encoder.specification import ChunkerSettings, make_contract
from twinline.contract.errors import ContractError
from twinline.contract.monitor.drift_reference import DriftReference

WORDS = ("lease", "tenant", "rent", "court", "appeal", "claim")
ONNX = ExportedFormat("onnx_fp32", "onnxruntime", "fp32", "onnx/model.onnx")


def write_graph(path: Path) -> None:
    """Write a bag of words: the sum of one vector a token."""
    table = np.random.default_rng(3).normal(size=(len(WORDS) + 2, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["tokens", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "length"], ["sentence_embedding"], keepdims=0),
    ]
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "l"]) for name in ("input_ids", "attention_mask")]
    out = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["b", 8])
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array([1]), "length"),
    ]
    graph = helper.make_graph(nodes, "bag", ids, [out], constants)
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, **{w: i + 2 for i, w in enumerate(WORDS)}}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    contract, own = make_contract(
        tokenizer.to_str().encode(), max_tokens=24, dimension=8, chunker=ChunkerSettings(overlap_tokens=4, title_max_tokens=8)
    )
    encoder = tmp_path / "encoder"
    contract.save(encoder, own)
    save_file({"weight": np.arange(8, dtype=np.float32)}, encoder / "model.safetensors")
    (encoder / "config.json").write_text(json.dumps({"hidden_size": 8, "max_position_embeddings": 64}))
    identity = encoder_identity(encoder, contract, hash_safetensors(encoder / "model.safetensors"))
    (encoder / "training.json").write_text(json.dumps({"base_model": "a base", **identity}))
    write_graph(tmp_path / "exported" / ONNX.file)
    write_export(tmp_path / "exported", Export(str(identity["space"]), (ONNX,)))
    random = np.random.default_rng(7)
    texts = [" ".join(random.choice([*WORDS, "strange"], random.integers(5, 60))) + "." for _ in range(40)]
    rows = [{"source": "notes", "key": str(i), "title": "", "text": text} for i, text in enumerate(texts)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "documents.parquet")
    write_queries(tmp_path, [f"{a} {b}" for a in WORDS for b in WORDS] * 2)
    return tmp_path


def write_queries(folder: Path, queries: Sequence[str]) -> None:
    pq.write_table(pa.table({"query": pa.array(queries, pa.string())}), folder / "train.parquet")


def build(world: Path, **params: int) -> DriftReference:
    wanted = ProfileParams(**{"documents": 20, "queries": 30, **params})
    return build_profile(world / "encoder", world / "exported", world / "documents.parquet", world / "train.parquet", wanted)


def test_the_profile_rests_on_all_chunks_of_the_sampled_documents_and_on_distinct_queries(world: Path) -> None:
    reference = build(world)
    document, query = reference.profiles["document"], reference.profiles["query"]
    assert document.independent == 20 < document.texts == len(reference.vectors)
    assert query.texts == query.independent == 30
    assert build(world, queries=0).profiles["query"].texts == 36
    np.testing.assert_allclose(np.linalg.norm(reference.vectors, axis=1), 1, rtol=1e-5)
    assert 0 < document.rates["unknown_share"] < 0.5
    assert query.rates["unknown_share"] == 0


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_sample(world: Path) -> None:
    for name in ("one", "two"):
        build(world).save(world / name)
    for file in ("profile.json", "profile.safetensors"):
        assert (world / "one" / file).read_bytes() == (world / "two" / file).read_bytes()
    assert build(world, seed=2).documents != build(world).documents


def test_the_space_is_that_of_the_encoder(world: Path) -> None:
    build(world).save(world / "profile")
    space = json.loads((world / "encoder" / "training.json").read_text())["space"]
    assert DriftReference.load(world / "profile", space) is not None


def test_without_training_queries_there_is_no_profile_of_queries(world: Path) -> None:
    write_queries(world, [])
    assert set(build(world).profiles) == {"document"}


def test_an_export_without_fp32_is_refused(world: Path) -> None:
    space = json.loads((world / "encoder" / "training.json").read_text())["space"]
    write_export(world / "exported", Export(space, ()))
    with pytest.raises(ContractError, match="add onnx_fp32"):
        build(world)
