"""The torch encoder: the reference of every other one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.unit.train.conftest import WORDS, write_tiny_base
from tests.unit.train.factories import contract_params
from train.encoder.base_contract import contract_for, training_tokens
from train.encoder.cache import cached_vectors
from train.encoder.model import check_token_ids
from train.encoder.torch_encoder import TorchEncoder
from train.weights import weights_sha256
from twinline.contract.encoder.encoder_record import encoder_identity
from twinline.contract.encoder.pooling import cosine_distance
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import MismatchError

TEXTS = ["log", "index broker chunk", " ".join(WORDS), "a document about offsets, topics and more", " ".join(WORDS * 3)]


def encoder_of(base: Path, **changes: object) -> TorchEncoder:
    return TorchEncoder.load(base, Preprocessor(*contract_for(base, contract_params(**changes))))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_text_alone_has_the_vector_that_it_has_in_a_padded_batch(tiny_base: Path, pooling: str) -> None:
    encoder = encoder_of(tiny_base, pooling=pooling)
    together = encoder.embed(TEXTS, "document")
    alone = np.concatenate([encoder.embed([text], "document").vectors for text in TEXTS])
    assert cosine_distance(together.vectors, alone).max() <= 1e-6
    assert np.linalg.norm(together.vectors, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert together.truncated.tolist() == [False, False, False, False, True]


def test_the_role_decides_the_prefix(tiny_base: Path) -> None:
    encoder = encoder_of(tiny_base, query_prefix="query: ", document_prefix="")
    query = encoder.embed(["log"], "query").vectors
    assert np.array_equal(query, encoder.embed(["query: log"], "document").vectors)
    assert cosine_distance(query, encoder.embed(["log"], "document").vectors)[0] > 1e-4


def test_training_may_read_less_of_a_text_than_serving_does(tiny_base: Path) -> None:
    contract, tokenizer_json = contract_for(tiny_base, contract_params())
    shorter = training_tokens(contract, tokenizer_json, 16)
    served = training_tokens(contract, tokenizer_json, None)
    long_text = " ".join(WORDS * 3)
    assert shorter.encode([long_text], "query").token_counts.tolist() == [16]
    assert served.encode([long_text], "query").token_counts.tolist() == [32]
    assert shorter.encode(["log"], "query").token_ids == served.encode(["log"], "query").token_ids
    # The separator closes a cut text as well.
    assert shorter.encode([long_text], "query").token_ids[0][-1] == served.encode([long_text], "query").token_ids[0][-1]


def test_a_tokenizer_that_the_framework_rebuilt_is_refused(tiny_base: Path) -> None:
    from transformers import BertTokenizer

    _, tokenizer_json = contract_for(tiny_base, contract_params())
    vocabulary = json.loads(tokenizer_json)["model"]["vocab"]
    rebuilt = BertTokenizer(vocab=vocabulary, do_lower_case=True)
    with pytest.raises(MismatchError, match="PreTrainedTokenizerFast"):
        check_token_ids(rebuilt, tokenizer_json)


def test_a_tokenizer_with_more_tokens_than_the_weights_have_is_refused(tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", extra_rows=-5)
    with pytest.raises(MismatchError, match="embeddings for"):
        encoder_of(base)


def test_an_encoder_whose_weights_were_changed_after_training_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    contract, tokenizer_json = contract_for(tiny_base, contract_params())
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_base, folder)
    contract.save(folder, tokenizer_json)
    encoder = TorchEncoder.load(folder, Preprocessor(contract, tokenizer_json))
    record = encoder_identity(folder, contract, weights_sha256(folder))
    (folder / "training.json").write_text(json.dumps(record))
    assert TorchEncoder.load(folder).space == encoder.space
    other = write_tiny_base(tmp_path / "other", seed=9)
    shutil.copyfile(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(MismatchError, match="changed after training"):
        TorchEncoder.load(folder)


def test_what_was_embedded_before_is_not_embedded_again(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of(tiny_base)
    first = cached_vectors(encoder, TEXTS, "document", tmp_path, progress="")
    embedded: list[str] = []
    embed = encoder.embed

    def counted(texts: list[str], role: str, *, progress: str = "") -> object:
        embedded.extend(texts)
        return embed(texts, role, progress=progress)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "embed", counted)
    again = cached_vectors(encoder, [*reversed(TEXTS), "new"], "document", tmp_path, progress="")
    assert embedded == ["new"]
    assert np.array_equal(again[: len(TEXTS)][::-1], first)
    cached_vectors(encoder, TEXTS[:1], "query", tmp_path, progress="")
    assert embedded == ["new", TEXTS[0]], "a query is another text than the document of the same words"
