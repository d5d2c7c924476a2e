"""Write the packaged generator's golden prompts into the package: ids, and answers where a decoder is given."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from twinline.contract.answers.golden import Decoded, GoldenPrompt, GoldenPrompts, make_golden_prompts
from twinline.contract.answers.packaged_model import packaged_contract
from twinline.contract.answers.tokens import AnswerTokenizer


def write_packaged_prompts(target: Path, decode: Callable[[GoldenPrompt], Decoded] | None = None) -> GoldenPrompts:
    """Write and return the golden prompts of the packaged generator.

    Args:
        target: the file in the package.
        decode: gives the greedy answer to a prompt, in float32; None leaves answers out.
    """
    contract, tokenizer_json = packaged_contract()
    made = make_golden_prompts(contract, AnswerTokenizer(tokenizer_json))
    if decode is not None:
        entries = tuple(entry if entry.refused else replace(entry, decoded=decode(entry)) for entry in made.entries)
        made = GoldenPrompts(made.contract, entries)
    target.write_bytes(gzip.compress(made.to_bytes(), 9, mtime=0))
    return made
