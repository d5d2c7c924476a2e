"""The receipt of an erasure: document, time, operator, removals and remaining holders, chained by the hash of the one before.

It names the document by its hash in the list of erased documents, never by its key: `twinline erase --receipt --document KEY`
finds it again. The hash of the receipt itself goes to the topic of erasures, so that a forged chain is noticed.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from twinline.contract.canonical import JSON
from twinline.contract.errors import MismatchError

FOLDER: Final = "receipts"
_START: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class Receipt:
    """A written receipt: its path and its hash."""

    path: Path
    sha256: str
    value: Mapping[str, JSON]


def write_receipt(erasures: Path, value: Mapping[str, JSON]) -> Receipt:
    """Write a receipt into `erasures/receipts`, chained to the last one there."""
    folder = erasures / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    before = list(read_receipts(erasures))
    number = len(before) + 1
    whole = {"number": number, **value, "previous_sha256": before[-1].sha256 if before else _START}
    content = json.dumps(whole, indent=2, ensure_ascii=False, sort_keys=True).encode() + b"\n"
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = folder / f"{number:05}-{stamp}-{str(value['document'])[:12]}.json"
    beside = folder / f".{path.name}.{uuid4().hex}"
    beside.write_bytes(content)
    beside.replace(path)
    return Receipt(path, hashlib.sha256(content).hexdigest(), whole)


def read_receipts(erasures: Path) -> Iterator[Receipt]:
    """Yield the receipts in their order.

    Raises:
        MismatchError: a receipt was changed or removed: the chain is broken there.
    """
    previous = _START
    for path in sorted((erasures / FOLDER).glob("[0-9]*.json")):
        content = path.read_bytes()
        value: dict[str, Any] = json.loads(content)
        if value.get("previous_sha256") != previous:
            raise MismatchError(
                f"receipt {path} does not follow the one before it: one of the two was changed, or one is missing"
            )
        previous = hashlib.sha256(content).hexdigest()
        yield Receipt(path, previous, value)
