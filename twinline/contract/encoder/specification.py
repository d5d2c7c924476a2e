"""`contract.json`: the vector part, the index part, and their fingerprints.

The vector part is everything but the weights that decides a vector. The index part decides the embedded texts and their storage.
`contract.json` and `tokenizer.json` always lie side by side.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from tokenizers import Tokenizer

from twinline.contract.canonical import JSON, fingerprint, sha256_hex
from twinline.contract.documents.cleaning import DEFAULT_CLEANING, check_rules
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.errors import MismatchError, SettingsError

CONTRACT_SCHEMA = 1
CONTRACT_FILE = "contract.json"
TOKENIZER_FILE = "tokenizer.json"

# 1: semantic-text-splitter; 2: offsets of one tokenisation. An old version stays as long as an unretired release names it.
CHUNKER_VERSIONS = (1, 2)

Role = Literal["query", "document"]
Pooling = Literal["mean", "cls", "last"]
ROLES: tuple[Role, ...] = ("query", "document")


@dataclass(frozen=True, slots=True)
class VectorContract:
    """Everything but the weights that decides a vector."""

    tokenizer_sha256: str
    max_tokens: int
    query_prefix: str
    document_prefix: str
    pooling: Pooling
    normalize: bool
    dimension: int

    def prefix(self, role: Role) -> str:
        """Return the prefix of a text of this role."""
        if role not in ROLES:
            raise SettingsError(f"role is {role!r}, must be one of {', '.join(ROLES)}")
        return self.query_prefix if role == "query" else self.document_prefix


@dataclass(frozen=True, slots=True)
class ChunkerSettings:
    """Settings of the chunker. `none`: one vector a document, truncated, as in published benchmarks.

    `title`: `prepend` puts the title and a space before the text of every chunk that goes to the encoder; `omit` leaves it out.
    """

    name: Literal["tokens", "none"] = "tokens"
    version: int = CHUNKER_VERSIONS[-1]
    overlap_tokens: int = 32
    title: Literal["prepend", "omit"] = "prepend"
    title_max_tokens: int = 64


@dataclass(frozen=True, slots=True)
class IndexContract:
    """The rules for the embedded texts and their storage."""

    cleaning: tuple[tuple[str, int], ...] = DEFAULT_CLEANING
    chunker: ChunkerSettings = ChunkerSettings()
    sparse: SparseContract | None = None
    distance: Literal["cosine"] = "cosine"


@dataclass(frozen=True, slots=True)
class Contract:
    """Both parts; frozen facts of a release, written once."""

    vector: VectorContract
    index: IndexContract

    @property
    def vector_fingerprint(self) -> str:
        """Return the fingerprint of the vector part: 64 hexadecimal digits."""
        return fingerprint({"schema": CONTRACT_SCHEMA, "vector": _plain(self.vector)})

    @property
    def index_fingerprint(self) -> str:
        """Return the fingerprint of the index part: 64 hexadecimal digits."""
        return fingerprint({"schema": CONTRACT_SCHEMA, "index": _plain(self.index)})

    @property
    def fingerprint(self) -> str:
        """Return the contract's fingerprint, made of both."""
        return fingerprint({"vector": self.vector_fingerprint, "index": self.index_fingerprint})

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form of the contract."""
        return {"schema": CONTRACT_SCHEMA, "vector": _plain(self.vector), "index": _plain(self.index)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], place: str = CONTRACT_FILE) -> Self:
        """Read the JSON form; a missing or unknown key is an error.

        Raises:
            MismatchError: another schema, an unknown cleaning rule or chunker, or a missing or unknown field.
        """
        if value.get("schema") != CONTRACT_SCHEMA:
            raise MismatchError(f"{place}: schema is {value.get('schema')!r}, this code reads {CONTRACT_SCHEMA}")
        try:
            _only(value, {"schema", "vector", "index"})
            index = dict(value["index"])
            chunker = ChunkerSettings(**_exactly(index.pop("chunker"), set(ChunkerSettings.__slots__)))
            cleaning = tuple((str(name), int(version)) for name, version in index.pop("cleaning"))
            vector_fields = _only(value["vector"], set(VectorContract.__slots__))
            words = index.pop("sparse")
            sparse = None if words is None else SparseContract.from_json(_exactly(words, set(SparseContract.__slots__)))
            contract = cls(
                vector=VectorContract(**vector_fields),
                index=IndexContract(cleaning=cleaning, chunker=chunker, sparse=sparse, **index),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise MismatchError(f"{place}: not a contract of schema {CONTRACT_SCHEMA}: {exc}") from exc
        contract.check(place)
        return contract

    def check(self, place: str) -> None:
        """Raise MismatchError for a value that this code cannot honour."""
        check_rules(self.index.cleaning)
        vector, chunker = self.vector, self.index.chunker
        allowed = (
            ("pooling", vector.pooling, ("mean", "cls", "last")),
            ("normalize", vector.normalize, (True, False)),
            ("chunker", chunker.name, ("tokens", "none")),
            ("chunker version", chunker.version, CHUNKER_VERSIONS),
            ("title", chunker.title, ("prepend", "omit")),
            ("distance", self.index.distance, ("cosine",)),
        )
        for name, value, known in allowed:
            if value not in known:
                raise MismatchError(f"{place}: {name} is {value!r}, this code knows {list(known)}")
        if self.index.sparse is not None:
            self.index.sparse.check(place)
        if not 8 <= vector.max_tokens <= 65_536:
            raise MismatchError(f"{place}: max_tokens is {vector.max_tokens}, must be from 8 to 65536")
        if not 0 <= chunker.overlap_tokens < vector.max_tokens // 2:
            raise MismatchError(
                f"{place}: overlap_tokens is {chunker.overlap_tokens}, must be under half of max_tokens={vector.max_tokens}"
            )
        if not 0 <= chunker.title_max_tokens <= vector.max_tokens // 2:
            raise MismatchError(
                f"{place}: title_max_tokens is {chunker.title_max_tokens}, must be at most half of {vector.max_tokens}"
            )

    def save(self, folder: Path, tokenizer_json: bytes) -> None:
        """Write `contract.json` and, byte for byte, `tokenizer.json`."""
        _check_tokenizer(self, tokenizer_json, "the tokenizer given to save()")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TOKENIZER_FILE).write_bytes(tokenizer_json)
        (folder / CONTRACT_FILE).write_text(json.dumps(self.to_json(), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> tuple[Self, bytes]:
        """Return the contract of a folder and its tokenizer's bytes, which must have the hash that the contract names.

        Raises:
            MismatchError: a file is missing, or differs from the contract.
        """
        try:
            value = json.loads((folder / CONTRACT_FILE).read_bytes())
            tokenizer_json = (folder / TOKENIZER_FILE).read_bytes()
        except FileNotFoundError as exc:
            raise MismatchError(f"{exc.filename} is missing: the folder is no encoder or release of Twinline") from exc
        except ValueError as exc:
            raise MismatchError(f"{folder / CONTRACT_FILE} is not JSON: {exc}") from exc
        contract = cls.from_json(value, str(folder / CONTRACT_FILE))
        _check_tokenizer(contract, tokenizer_json, str(folder / TOKENIZER_FILE))
        return contract, tokenizer_json


def make_contract(
    tokenizer_json: bytes,
    *,
    max_tokens: int,
    dimension: int,
    pooling: Pooling = "mean",
    query_prefix: str = "",
    document_prefix: str = "",
    chunker: ChunkerSettings | None = None,
) -> tuple[Contract, bytes]:
    """Return a contract and the contract's own `tokenizer.json`: truncation at `max_tokens`, padding off.

    Truncation is in the file, so that every reader cuts alike; padding is a serving setting and is not.
    """
    tokenizer = Tokenizer.from_str(tokenizer_json.decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=max_tokens, stride=0, strategy="longest_first", direction="right")
    own = tokenizer.to_str().encode()
    vector = VectorContract(
        tokenizer_sha256=sha256_hex(own),
        max_tokens=max_tokens,
        query_prefix=query_prefix,
        document_prefix=document_prefix,
        pooling=pooling,
        normalize=True,
        dimension=dimension,
    )
    contract = Contract(vector, IndexContract(chunker=chunker or ChunkerSettings()))
    contract.check("make_contract")
    return contract, own


def _plain(part: VectorContract | IndexContract) -> dict[str, JSON]:
    value = asdict(part)
    if "cleaning" in value:
        value["cleaning"] = [list(rule) for rule in value["cleaning"]]
    return value


def _only(value: object, known: set[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"expected an object, found {type(value).__name__}")
    unknown = set(value) - known
    if unknown:
        raise ValueError(f"unknown field {sorted(unknown)}, known are {sorted(known)}")
    return dict(value)


def _exactly(value: object, known: set[str]) -> dict[str, Any]:
    # Defaults may change, so a missing field of a stored contract must not be filled in.
    fields = _only(value, known)
    if known - set(fields):
        raise ValueError(f"field {sorted(known - set(fields))} is missing")
    return fields


def _check_tokenizer(contract: Contract, tokenizer_json: bytes, place: str) -> None:
    found = sha256_hex(tokenizer_json)
    if found != contract.vector.tokenizer_sha256:
        raise MismatchError(
            f"{place} has SHA-256 {found[:12]}, the contract says {contract.vector.tokenizer_sha256[:12]}: "
            "the tokenizer was changed or re-saved; fetch the release again, or build a new one with this tokenizer"
        )
