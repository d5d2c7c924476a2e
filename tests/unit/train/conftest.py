"""A base model of a few thousand weights, made on the spot, and pairs to train it on."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = (
    *("log", "index", "broker", "chunk", "vector", "query", "document", "release", "space", "consumer", "offset", "topic"),
    *("encoder", "batch", "token", "head", "point", "snapshot", "alias", "collection", "version", "gate", "metric"),
    *("corpus", "cluster", "pair"),
)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_tiny_base(folder: Path, *, max_tokens: int = 32, seed: int = 0, extra_rows: int = 0, positions: int = 64) -> Path:
    """Write a random BERT of two layers and eight dimensions as a sentence-transformers folder."""
    import torch
    from transformers import BertConfig, BertModel

    # Written down, not learnt: WordPieceTrainer chooses among equally frequent pieces differently in every process.
    characters = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?-"
    pieces = [
        *SPECIAL,
        *characters,
        *(f"##{each}" for each in characters),
        *sorted({word.lower() for word in WORDS} - set(characters)),
    ]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    # Custom normalisers are what transformers' own BertTokenizer discards.
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size() + extra_rows,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=positions,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": positions}))
    return folder


def write_pairs(path: Path, count: int = 24, source: str = "s") -> Path:
    """Write training pairs: each query holds two words, its document those and others."""
    rows = [
        {
            "query_id": f"{source}-q{number}",
            "query": f"{WORDS[number % 26]} {number}",
            "source": source,
            "key": str(number),
            "title": WORDS[number % 26],
            "text": f"{WORDS[number % 26]} {number} {WORDS[(number * 7) % 26]} {WORDS[(number * 11) % 26]}",
            "cluster_id": str(number),
        }
        for number in range(count)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Keep torch to one thread: with models this small, more only wait for each other."""
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "data" / "pairs" / "train.parquet")
