import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from twinline.contract.encoder.specification import (
    CHUNKER_VERSIONS,
    ChunkerSettings,
    Contract,
    IndexContract,
    VectorContract,
    make_contract,
)
from twinline.contract.errors import MismatchError

VECTOR = VectorContract("0" * 64, 32, "query: ", "passage: ", "mean", True, 8)
CONTRACT = Contract(VECTOR, IndexContract(chunker=ChunkerSettings(version=1, title_max_tokens=8, overlap_tokens=4)))

OTHER: dict[str, Any] = {
    "tokenizer_sha256": "1" * 64,
    "max_tokens": 33,
    "query_prefix": "",
    "document_prefix": "",
    "pooling": "cls",
    "normalize": False,
    "dimension": 9,
    "name": "none",
    "version": 2,
    "overlap_tokens": 5,
    "title": "omit",
    "title_max_tokens": 9,
    "cleaning": (("nfc", 1),),
    "sparse": "bm25",
    "distance": "dot",
}


@pytest.mark.parametrize("name", [field.name for field in fields(VectorContract)])
def test_changing_a_field_of_the_vector_part_changes_exactly_its_fingerprint(name: str) -> None:
    changed = replace(CONTRACT, vector=replace(VECTOR, **{name: OTHER[name]}))
    assert changed.vector_fingerprint != CONTRACT.vector_fingerprint
    assert changed.index_fingerprint == CONTRACT.index_fingerprint
    assert changed.fingerprint != CONTRACT.fingerprint


@pytest.mark.parametrize(
    "name", [f.name for f in fields(ChunkerSettings)] + [f.name for f in fields(IndexContract) if f.name != "chunker"]
)
def test_changing_a_field_of_the_index_part_changes_exactly_its_fingerprint(name: str) -> None:
    index = CONTRACT.index
    if name in {f.name for f in fields(ChunkerSettings)}:
        index = replace(index, chunker=replace(index.chunker, **{name: OTHER[name]}))
    else:
        index = replace(index, **{name: OTHER[name]})
    changed = replace(CONTRACT, index=index)
    assert changed.index_fingerprint != CONTRACT.index_fingerprint
    assert changed.vector_fingerprint == CONTRACT.vector_fingerprint
    assert changed.fingerprint != CONTRACT.fingerprint


def test_key_order_and_white_space_do_not_matter() -> None:
    shuffled = dict(reversed(list(CONTRACT.to_json().items())))
    again = Contract.from_json(json.loads(json.dumps(shuffled, indent=7)))
    assert again == CONTRACT
    assert again.fingerprint == CONTRACT.fingerprint


def test_the_fingerprint_of_a_known_contract_is_the_same_on_every_machine() -> None:
    assert CONTRACT.fingerprint == "334c57269eff446336e15f8cc56646979d38b6eb9b7d9d7218429831243de736"


def test_save_and_load_keep_the_tokenizer_byte_for_byte(tmp_path: Path, tokenizer_json: bytes) -> None:
    contract, own = make_contract(tokenizer_json, max_tokens=32, dimension=8, chunker=CONTRACT.index.chunker)
    contract.save(tmp_path, own)
    assert Contract.load(tmp_path) == (contract, own)
    settings = json.loads(own)
    assert settings["truncation"]["max_length"] == 32
    assert settings["padding"] is None


def test_a_tokenizer_that_was_saved_again_is_refused(tmp_path: Path, tokenizer_json: bytes) -> None:
    contract, own = make_contract(tokenizer_json, max_tokens=32, dimension=8, chunker=CONTRACT.index.chunker)
    contract.save(tmp_path, own)
    Tokenizer.from_str(own.decode()).save(str(tmp_path / "tokenizer.json"), pretty=True)
    with pytest.raises(MismatchError, match="the contract says"):
        Contract.load(tmp_path)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("vector", "pooling", "max"),
        ("vector", "max_tokens", 4),
        ("vector", "unheard_of", 1),
        ("index", "distance", "dot"),
        ("index", "cleaning", [["nfc", 9]]),
        ("index", "unheard_of", 1),
        ("chunker", "version", 0),
        ("chunker", "version", 3),
        ("chunker", "overlap_tokens", 16),
        ("chunker", "name", "pages"),
        ("chunker", "unheard_of", 1),
    ],
)
def test_a_contract_that_this_code_cannot_honour_is_refused(part: str, name: str, value: object) -> None:
    content = json.loads(json.dumps(CONTRACT.to_json()))
    (content["index"]["chunker"] if part == "chunker" else content[part])[name] = value
    with pytest.raises(MismatchError, match=f"{name}|chunker is"):
        Contract.from_json(content)


@pytest.mark.parametrize("version", CHUNKER_VERSIONS)
def test_a_contract_with_any_version_of_the_chunker_is_read_as_it_is(version: int) -> None:
    content = json.loads(json.dumps(CONTRACT.to_json()))
    content["index"]["chunker"]["version"] = version
    assert Contract.from_json(content).index.chunker.version == version


def test_a_new_contract_takes_the_newest_chunker() -> None:
    assert ChunkerSettings().version == max(CHUNKER_VERSIONS)


@pytest.mark.parametrize("missing", [field.name for field in fields(ChunkerSettings)])
def test_what_a_stored_contract_does_not_say_of_its_chunker_is_not_filled_in(missing: str) -> None:
    content = json.loads(json.dumps(CONTRACT.to_json()))
    del content["index"]["chunker"][missing]
    with pytest.raises(MismatchError, match=f"{missing}.* is missing"):
        Contract.from_json(content)


@pytest.mark.parametrize("missing", ["schema", "vector", "index"])
def test_a_contract_with_a_part_missing_is_refused(missing: str) -> None:
    content = CONTRACT.to_json()
    del content[missing]
    with pytest.raises(MismatchError):
        Contract.from_json(content)
