"""The model that is trained: base weights, the contract's tokenizer and pooling, as a sentence-transformers stack."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from twinline.contract.encoder.golden import GOLDEN_TEXTS
from twinline.contract.encoder.specification import CONTRACT_FILE, TOKENIZER_FILE, Contract
from twinline.contract.errors import MismatchError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

WEIGHTS_FILE = "model.safetensors"
_POOLING_MODES = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
_TOKENIZER_CONFIG = "tokenizer_config.json"
_SPECIAL_TOKENS = {
    "pad_token": ("[PAD]", "<pad>", "<|endoftext|>", "</s>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def load_model(base: Path, contract: Contract, tokenizer_json: bytes) -> SentenceTransformer:
    """Return the base model with the contract's tokenizer in place of its own.

    Raises:
        MismatchError: the training framework's tokenizer gives other token ids than the contract's file, or the weights do not
            fit the contract.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    with TemporaryDirectory() as name:
        folder = Path(name)
        _link_weights(base, folder)
        write_tokenizer(folder, contract, tokenizer_json)
        transformer = Transformer(
            str(folder),
            max_seq_length=contract.vector.max_tokens,
            model_kwargs={"dtype": torch.float32, "use_safetensors": True, "local_files_only": True},
            processor_kwargs={"local_files_only": True},
            config_kwargs={"local_files_only": True},
        )
    check_token_ids(transformer.tokenizer, tokenizer_json)
    check_weights(transformer.auto_model, contract, tokenizer_json, base)
    pooling = Pooling(contract.vector.dimension, pooling_mode=_POOLING_MODES[contract.vector.pooling])
    prompts = {"query": contract.vector.query_prefix, "document": contract.vector.document_prefix}
    return SentenceTransformer(modules=[transformer, pooling, Normalize()], prompts=prompts)


def backbone(model: SentenceTransformer) -> PreTrainedModel:
    """Return the transformer of a stack from `load_model`."""
    found: PreTrainedModel = model[0].auto_model  # type: ignore[assignment]
    return found


def save_model(model: SentenceTransformer, folder: Path, contract: Contract, tokenizer_json: bytes) -> None:
    """Write the encoder's folder: safetensors, and the contract's own files byte for byte.

    Saving rewrites tokenizer.json and changes its hash, so the contract's file is written over it, last.
    """
    model.save(str(folder), create_model_card=False, safe_serialization=True)
    write_tokenizer(folder, contract, tokenizer_json)
    if not (folder / WEIGHTS_FILE).is_file():
        raise MismatchError(f"{folder} has no {WEIGHTS_FILE} after saving: the weights must fit one file")
    # Only the owner can read a file from safetensors, and a server may run as another user.
    (folder / WEIGHTS_FILE).chmod(0o644)


def write_tokenizer(folder: Path, contract: Contract, tokenizer_json: bytes) -> None:
    """Write contract.json, tokenizer.json, and a tokenizer_config.json that makes transformers read the file unchanged.

    The class must be PreTrainedTokenizerFast: a model-specific class such as BertTokenizer silently replaces the file's
    normaliser by its own.
    """
    contract.save(folder, tokenizer_json)
    tokenizer = Tokenizer.from_str(tokenizer_json.decode())
    special = {
        role: next((token for token in tokens if tokenizer.token_to_id(token) is not None), None)
        for role, tokens in _SPECIAL_TOKENS.items()
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": contract.vector.max_tokens,
        "clean_up_tokenization_spaces": False,
        **{role: token for role, token in special.items() if token is not None},
    }
    (folder / _TOKENIZER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def check_token_ids(framework_tokenizer: Any, tokenizer_json: bytes) -> None:
    """Compare the training framework's tokenizer with the raw one on the golden texts.

    Raises:
        MismatchError: naming the first text whose ids differ.
    """
    raw = Tokenizer.from_str(tokenizer_json.decode())
    limit = raw.truncation["max_length"] if raw.truncation else None
    for golden in GOLDEN_TEXTS:
        expected = raw.encode(golden.text).ids
        found = framework_tokenizer(golden.text, truncation=limit is not None, max_length=limit)["input_ids"]
        if list(found) != expected:
            raise MismatchError(
                f"golden text {golden.name!r}: {type(framework_tokenizer).__name__} gives ids {list(found)[:12]}, the "
                f"contract's {TOKENIZER_FILE} gives {expected[:12]}: the training framework rebuilt the tokenizer; load "
                f"it as PreTrainedTokenizerFast from the contract's own file"
            )


def check_weights(backbone: Any, contract: Contract, tokenizer_json: bytes, place: Path) -> None:
    """Raise MismatchError unless the weights have the contract's dimension and an embedding for every token."""
    vector = contract.vector
    if backbone.config.hidden_size != vector.dimension:
        raise MismatchError(
            f"{place} has {backbone.config.hidden_size} dimensions, {CONTRACT_FILE} says {vector.dimension}: "
            "these weights belong to another contract; train again, or fetch the release whole"
        )
    tokens = Tokenizer.from_str(tokenizer_json.decode()).get_vocab_size(with_added_tokens=True)
    rows = backbone.get_input_embeddings().weight.shape[0]
    if tokens > rows:
        raise MismatchError(
            f"{TOKENIZER_FILE} has {tokens} tokens, the weights in {place} have embeddings for {rows}: "
            "the tokenizer belongs to other weights; use the base model's own"
        )


def _link_weights(base: Path, folder: Path) -> None:
    for path in [base / "config.json", *base.glob("*.safetensors.index.json")]:
        shutil.copyfile(path, folder / path.name)
    for path in base.glob("*.safetensors"):
        (folder / path.name).symlink_to(path.resolve())
