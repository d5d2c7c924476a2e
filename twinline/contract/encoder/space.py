"""The space: the identity of an encoder. Two vectors may be compared only if their space is the same."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from twinline.contract.canonical import canonical_json, fingerprint
from twinline.contract.errors import ContractError

# The limit of the format's own reader.
_MAX_HEADER_BYTES = 100_000_000
_BLOCK_BYTES = 1 << 20


def weights_hash(tensors: Iterable[tuple[str, str, list[int], bytes]]) -> str:
    """Return the hash of tensors `(name, dtype, shape, bytes)`, sorted by name, without the file's layout and metadata."""
    digest = hashlib.sha256()
    for name, dtype, shape, content in sorted(tensors):
        digest.update(canonical_json([name, dtype, shape, len(content)]))
        digest.update(content)
    return digest.hexdigest()


def hash_safetensors(path: Path) -> str:
    """Return `weights_hash` of a safetensors file, read in blocks.

    Format: 8 bytes little-endian header length, a JSON header with dtype, shape and byte span of each tensor, the bytes
    (huggingface.co/docs/safetensors).

    Raises:
        ContractError: the file is not a safetensors file.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _MAX_HEADER_BYTES:
                raise ContractError(f"{path}: not a safetensors file: its header would have {length} bytes")
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for name in sorted(header):
                entry = header[name]
                start, end = entry["data_offsets"]
                digest.update(canonical_json([name, entry["dtype"], entry["shape"], end - start]))
                file.seek(8 + length + start)
                left = end - start
                while left > 0:
                    block = file.read(min(left, _BLOCK_BYTES))
                    if not block:
                        raise ContractError(f"{path}: ends inside tensor {name!r}: the file is cut off")
                    digest.update(block)
                    left -= len(block)
    except (ValueError, KeyError, TypeError) as exc:
        raise ContractError(f"{path}: not a safetensors file: {exc}") from exc
    return digest.hexdigest()


def space_id(vector_fingerprint: str, weights_sha256: str) -> str:
    """Return the space of an encoder: 64 hexadecimal digits."""
    return fingerprint({"vector": vector_fingerprint, "weights": weights_sha256})
