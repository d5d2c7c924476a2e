"""Faults in an encoder folder, an export and a release: contract, tokenizer, weights, graphs, manifest."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load, save
from tokenizers import Tokenizer

from proofs.skew.faults import Fault, Plant, bit_flipped, changed, fields_set, file_holds, file_missing, folder_holds
from proofs.skew.system import System
from twinline.contract.canonical import sha256_hex
from twinline.contract.encoder.space import hash_safetensors, space_id
from twinline.contract.encoder.specification import Contract
from twinline.contract.release.manifest import Fingerprints, hash_files
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.golden import GOLDEN_WORDS_FILE
from twinline.contract.sparse.statistics import STATISTICS_FILE

_TRAINING: Final = ("training/export",)
_FILES: Final = ("release files",)
_ENCODER: Final = "encoder folder"
_RELEASE: Final = "release folder"
_CLEANING: Final = [["newlines", 1], ["controls", 1], ["spaces", 1]]


def _in_encoder(name: str, change: Callable[[bytes], bytes]) -> Plant:
    return lambda system: changed(system.encoder / name, change)


def _in_release(name: str, change: Callable[[bytes], bytes]) -> Plant:
    return lambda system: changed(system.release() / name, change)


# the change, its place, and the fields of contract.json
_CONTRACT: Final[tuple[tuple[str, str, str, dict[str, Any]], ...]] = (
    ("query_prefix", "the query prefix", "release", {"vector.query_prefix": "question: "}),
    ("document_prefix", "the document prefix", "encoder", {"vector.document_prefix": ""}),
    ("pooling", "the pooling, to `cls`", "encoder", {"vector.pooling": "cls"}),
    ("normalisation_off", "normalisation, to off", "encoder", {"vector.normalize": False}),
    ("token_limit", "the token limit, to 128", "release", {"vector.max_tokens": 128}),
    ("dimension", "the dimension, to 256", "encoder", {"vector.dimension": 256}),
    ("chunk_overlap", "the overlap of chunks, to 8", "release", {"index.chunker.overlap_tokens": 8}),
    ("chunker_none", "the chunker, to `none`", "release", {"index.chunker.name": "none"}),
    ("title_omitted", "the title, to `omit`", "release", {"index.chunker.title": "omit"}),
    ("title_token_limit", "the token limit of titles, to 16", "encoder", {"index.chunker.title_max_tokens": 16}),
    ("cleaning_rule_dropped", "the cleaning rules, one fewer", "release", {"index.cleaning": _CLEANING}),
    ("unknown_rule_version", "a cleaning rule, to a version that no code has", "encoder", {"index.cleaning": [["nfc", 2]]}),
    ("distance", "the distance, to `dot`", "encoder", {"index.distance": "dot"}),
    ("words_language", "the language of words, to German", "release", {"index.sparse.language": "german"}),
    ("words_k1", "BM25's k1, to 1.2", "release", {"index.sparse.k1_percent": 120}),
    ("words_analyzer", "the analyzer, to a version that no code has", "release", {"index.sparse.analyzer": 2}),
)


def _tokenizer(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        value = json.loads(content)
        change(value)
        return json.dumps(value, ensure_ascii=False, indent=2).encode()

    return edit


def _swap_entries(value: dict[str, Any]) -> None:
    words = value["model"]["vocab"]
    words["vector"], words["document"] = words["document"], words["vector"]


def _padded(content: bytes) -> bytes:
    tokenizer = Tokenizer.from_str(content.decode())
    tokenizer.enable_padding(direction="left", length=64)
    return tokenizer.to_str().encode()


def _with_sha(content: bytes, folder: Path) -> bytes:
    """Return the folder's contract with the hash of another tokenizer."""
    return fields_set({"vector.tokenizer_sha256": sha256_hex(content)})((folder / "contract.json").read_bytes())


# the change, its place, and the edit of tokenizer.json
_TOKENIZER: Final[tuple[tuple[str, str, str, Callable[[bytes], bytes]], ...]] = (
    ("vocabulary_swapped", "two entries of the vocabulary change places", "encoder", _tokenizer(_swap_entries)),
    (
        "lower_casing_off",
        "lower-casing is turned off",
        "release",
        _tokenizer(lambda value: value["normalizer"].update(lowercase=False)),
    ),
    (
        "accent_stripping_off",
        "accents are no longer stripped",
        "encoder",
        _tokenizer(lambda value: value["normalizer"].update(strip_accents=False)),
    ),
    (
        "truncation_limit",
        "the truncation limit is 512",
        "release",
        _tokenizer(lambda value: value["truncation"].update(max_length=512)),
    ),
    (
        "truncation_side",
        "texts are cut on the left",
        "encoder",
        _tokenizer(lambda value: value["truncation"].update(direction="Left")),
    ),
    ("padding_left", "texts are padded, on the left", "release", _padded),
    ("resaved", "the file is saved again, with other white space", "release", _tokenizer(lambda value: value)),
)


def _tokenizer_with_contract(change: Callable[[bytes], bytes], folder: Callable[[System], Path]) -> Plant:
    @contextmanager
    def plant(system: System) -> Iterator[None]:
        place = folder(system)
        content = change((place / "tokenizer.json").read_bytes())
        with (
            file_holds(place / "contract.json", _with_sha(content, place)),
            file_holds(place / "tokenizer.json", content),
        ):
            yield

    return plant


def _repackaged(change: Callable[[Path], None], *, keep_id: bool = False, other_fusion: Fusion | None = None) -> Plant:
    """Return a planting of a change in a release, with a manifest that agrees with it."""

    @contextmanager
    def plant(system: System) -> Iterator[None]:
        folder = system.release()
        with ExitStack() as planted:
            planted.enter_context(folder_holds(folder, folder, system.scratch))
            change(folder)
            contract, _ = Contract.load(folder)
            fusion = other_fusion or system.a.fusion
            weights, files = hash_safetensors(folder / "encoder" / "model.safetensors"), hash_files(folder)
            space = space_id(contract.vector_fingerprint, weights)
            prints = Fingerprints.of(contract)
            new = replace(system.a, space=space, fingerprints=prints, weights_sha256=weights, files=files, fusion=fusion)
            (new if keep_id else replace(new, release=new.content_id)).save(folder)
            yield

    return plant


def _edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return edit


def _other_tokenizer(folder: Path) -> None:
    content = _tokenizer(lambda value: value["normalizer"].update(lowercase=False))((folder / "tokenizer.json").read_bytes())
    (folder / "contract.json").write_bytes(_with_sha(content, folder))
    (folder / "tokenizer.json").write_bytes(content)


def _one_weight(content: bytes) -> bytes:
    weights = load(content)
    name = max(weights, key=lambda each: weights[each].size)
    tensor = weights[name].copy()
    tensor.flat[0] += np.float32(0.125)
    return bytes(save({**weights, name: tensor}, {"format": "pt"}))


def _files_of_b(name: str) -> Plant:
    return lambda system: file_holds(system.release() / name, (system.release(system.b) / name).read_bytes())


@contextmanager
def _export_of_b(system: System) -> Iterator[None]:
    file = "openvino/model.bin"
    with file_holds(system.exported / file, (system.release(system.b) / file).read_bytes()):
        yield


def _queries_without_terms(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**entry, "query": []} for entry in entries]


def _manifest(changes: dict[str, Any]) -> Plant:
    return _in_release("manifest.json", fields_set(changes))


FAULTS: Final = (
    *(
        Fault(
            f"contract_{name}",
            f"contract.json of the {place} folder: {what} is changed",
            _ENCODER if place == "encoder" else _RELEASE,
            _TRAINING if place == "encoder" else _FILES,
            (_in_encoder if place == "encoder" else _in_release)("contract.json", fields_set(fields)),
            short=name == "query_prefix",
        )
        for name, what, place, fields in _CONTRACT
    ),
    *(
        Fault(
            f"tokenizer_{name}",
            f"tokenizer.json of the {place} folder: {what}",
            _ENCODER if place == "encoder" else _RELEASE,
            _TRAINING if place == "encoder" else _FILES,
            (_in_encoder if place == "encoder" else _in_release)("tokenizer.json", change),
        )
        for name, what, place, change in _TOKENIZER
    ),
    Fault(
        "tokenizer_and_contract_of_encoder",
        "tokenizer.json of the encoder folder has two entries swapped, and its contract.json names the new hash",
        _ENCODER, _TRAINING, _tokenizer_with_contract(_tokenizer(_swap_entries), lambda system: system.encoder),
    ),
    Fault(
        "tokenizer_and_contract_of_release",
        "tokenizer.json of the release lower-cases no more, and its contract.json names the new hash",
        _RELEASE, _FILES, _tokenizer_with_contract(_TOKENIZER[1][3], lambda system: system.release()),
    ),
    Fault(
        "repackaged_overlap",
        "contract.json with another overlap, and a manifest made to agree: a whole release, in the folder of A",
        _RELEASE, _FILES, _repackaged(_edit("contract.json", fields_set({"index.chunker.overlap_tokens": 8}))),
    ),
    Fault(
        "repackaged_tokenizer",
        "another tokenizer.json, and contract and manifest made to agree: a whole release, in the folder of A",
        _RELEASE, _FILES, _repackaged(_other_tokenizer),
    ),
    Fault(
        "repackaged_under_old_id",
        "contract.json with another query prefix, a manifest made to agree, but for the id of A",
        _RELEASE, _FILES, _repackaged(_edit("contract.json", fields_set({"vector.query_prefix": "q: "})), keep_id=True),
    ),
    Fault("manifest_fingerprint", "manifest.json: the contract's fingerprint is changed", _RELEASE, _FILES,
          _manifest({"fingerprints.contract": "0" * 64})),
    Fault("manifest_space", "manifest.json: the space is changed", _RELEASE, _FILES, _manifest({"space": "0" * 64})),
    Fault("manifest_format", "manifest.json: Triton is to serve the other format", _RELEASE, _FILES,
          _manifest({"serving.format": "onnx_fp32"})),
    Fault("golden_missing", "golden.json of the release is missing", _RELEASE, _FILES,
          lambda system: file_missing(system.release() / "golden.json")),
    Fault("manifest_fusion_rule", "manifest.json: the fusion is by ranks", _RELEASE, _FILES, _manifest({"fusion.rule": "ranks"})),
    Fault("manifest_fusion_weight", "manifest.json: vectors weigh a tenth more in the fusion", _RELEASE, _FILES,
          _manifest({"fusion.dense_percent": lambda percent: percent + 10})),
    Fault("manifest_fusion_missing", "manifest.json: there is no fusion", _RELEASE, _FILES, _manifest({"fusion": None})),
    Fault("repackaged_fusion", "another fusion, and a manifest made to agree: a whole release, in the folder of A", _RELEASE,
          _FILES, _repackaged(lambda folder: None, other_fusion=Fusion("ranks"))),
    Fault("repackaged_words", "contract.json with another k1, and a manifest made to agree: a whole release, in the folder of A",
          _RELEASE, _FILES, _repackaged(_edit("contract.json", fields_set({"index.sparse.k1_percent": 120})))),
    Fault("words_statistics", "one number of the release's corpus statistics is changed", _RELEASE, _FILES,
          _in_release(STATISTICS_FILE, bit_flipped)),
    Fault("words_statistics_missing", "the release's corpus statistics are missing", _RELEASE, _FILES,
          lambda system: file_missing(system.release() / STATISTICS_FILE)),
    Fault("words_golden", "words.json of the release: golden queries have no terms", _RELEASE, _FILES,
          _in_release(GOLDEN_WORDS_FILE, fields_set({"golden": _queries_without_terms}))),
    Fault("words_golden_missing", "words.json of the release is missing", _RELEASE, _FILES,
          lambda system: file_missing(system.release() / GOLDEN_WORDS_FILE)),
    Fault("one_weight_of_encoder", "one weight of encoder/model.safetensors is changed", _ENCODER, _TRAINING,
          _in_encoder("model.safetensors", _one_weight)),
    Fault("weights_of_b", "the encoder's weights are B's, its record is A's", _ENCODER, _TRAINING,
          _files_of_b("encoder/model.safetensors")),
    Fault("encoder_config", "config.json of the encoder: another epsilon of layer normalisation", _ENCODER, _TRAINING,
          _in_encoder("config.json", fields_set({"layer_norm_eps": 1e-5}))),
    Fault("encoder_record_missing", "training.json of the encoder is missing", _ENCODER, _TRAINING,
          lambda system: file_missing(system.encoder / "training.json")),
    Fault("one_weight_of_onnx", "one weight of the release's ONNX file is changed", _RELEASE, _FILES,
          _in_release("onnx/model.onnx", bit_flipped)),
    Fault("one_weight_of_openvino", "one weight of the release's OpenVINO file is changed", _RELEASE, _FILES,
          _in_release("openvino/model.bin", bit_flipped)),
    Fault("export_of_b_in_release", "the release's OpenVINO file is B's", _RELEASE, _FILES, _files_of_b("openvino/model.bin")),
    Fault("export_of_b_in_export", "the export's OpenVINO file is B's, its record A's", "export", ("export parity",),
          _export_of_b),
    Fault("one_weight_of_export", "one weight of the export's ONNX file is changed", "export", ("export parity",),
          lambda system: changed(system.exported / "onnx/model.onnx", bit_flipped)),
)  # fmt: skip
