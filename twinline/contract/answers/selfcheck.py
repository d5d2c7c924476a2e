"""Golden cases for the rules of answers in code: every process that makes prompts or reads answers runs them first.

A changed library or rule would quietly move ids, packed passages, masks or spans. Here it stops the start. A tokenizer of single
bytes stands in for a model's, so the cases hold for every release; a release's own golden prompts cover its tokenizer.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinline.contract.answers.chat_formats import CHAT_FORMATS, Frame
from twinline.contract.answers.golden_prompts import passage, turns
from twinline.contract.answers.grammar import Grammar
from twinline.contract.answers.prompt import Prompt, build_prompt
from twinline.contract.answers.reading import AnswerReader, Citation
from twinline.contract.answers.specification import AnswerContract, Budgets, GrammarSettings, make_answer_contract
from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.canonical import JSON, fingerprint
from twinline.contract.documents.cleaning import DEFAULT_CLEANING, clean
from twinline.contract.documents.span_map import SpanMap
from twinline.contract.errors import MismatchError

_TEXT: Final = (
    'The tower is 42 m tall. She said "yes" twice, e.g. here.\nİstanbul\'da 15 milyon kişi. 灯塔高四十二米。ไทยดี שלום (ok) '
    "👩‍👧 🇹🇷 na\u00efve end " + "QUJD" * 24 + "."
)
_RAW: Final = "\ufeff  Cafe\u0301\t na\u00efve\r\n\r\n\r\nI\u0307stanbul\x00 end \n"
_WALKS: Final = 24
_STEPS: Final = 160

_GOLDEN: Final = {
    "prompts of chatml": "2581d588143aed8350a2f93a4f84c63f779ae96436ed9df4a104bf7c59b69ed0",
    "prompts of gemma": "ff5f72d93ddbb6e193685e281e3ee958492151d2782fe51721584e527e0cb38b",
    "prompts of llama3": "b3e33b1c8ecf811044e5735ec880c2158f3f100e0820426e83d9e947d0742431",
    "answers": "e398bbe9a3c9ca453ea3ab92440c5fb67a22110ae66cc31b5329020af5fe1d99",
    "span map": "25c379a723fe60a85da9d70a59388cf8d2d2c34e1c98a5403233aee36bacd4f1",
}


@lru_cache(maxsize=1)
def check_answers_in_code() -> None:
    """Compare prompts, masks, answers and span maps with their golden values, once per process.

    Raises:
        MismatchError: this process would make other prompts, or read other citations, than the platform's.
    """
    for name, found in golden_values():
        if found != _GOLDEN[name]:
            raise MismatchError(
                f"golden check of {name}: this process gives {found[:12]}, the platform {_GOLDEN[name][:12]}: install the "
                "versions that constraints.txt names"
            )


def golden_values() -> Iterator[tuple[str, str]]:
    """Yield the name and the hash of each case."""
    contract, tokenizer_json = byte_contract()
    tokenizer = AnswerTokenizer(tokenizer_json)
    for name, version in sorted(CHAT_FORMATS):
        yield f"prompts of {name}", _hash_of_prompts(byte_contract(name, version)[0], tokenizer)
    yield "answers", fingerprint(list(_answers(contract, tokenizer)))
    spans = SpanMap.of(clean(_RAW, DEFAULT_CLEANING), 1, 14)
    yield "span map", fingerprint({"runs": spans.to_json(), "start": spans.start, "end": spans.end})


def byte_contract(chat: str = "chatml", version: int = 1) -> tuple[AnswerContract, bytes]:
    """Return a contract over a tokenizer of single bytes that has the special tokens of every chat format."""
    tokenizer_json = byte_tokenizer()
    contract, own = make_answer_contract(
        tokenizer_json,
        vocabulary=320,
        languages=("en",),
        budgets=Budgets(context=4_096, system=512, history=300, question=200, passages=900, answer=400),
        grammar=GrammarSettings(max_citations=2, quote_tokens=24, sentence_tokens=12),
    )
    frame = Frame(CHAT_FORMATS[chat, version], AnswerTokenizer(own))
    return replace(contract, chat_format=chat, chat_version=version, stop_ids=frame.stop_ids), own


def byte_tokenizer() -> bytes:
    """Return `tokenizer.json` of byte-level BPE without merges but two, whose special tokens are those of all chat formats."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + place) for place in range(256 - len(printable))]
    pieces = {piece for chat in CHAT_FORMATS.values() for piece in (*chat.begin, *chat.header, *chat.footer, *chat.stops)}
    special = sorted(piece for piece in pieces if piece.startswith("<"))
    special.append("<pad>")
    vocabulary = {piece: identity for identity, piece in enumerate([*special, *alphabet, "th", "the", 'Ġ"'])}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": identity,
                    "content": piece,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for identity, piece in enumerate(special)
            ],
            "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "vocab": vocabulary, "merges": [["t", "h"], ["th", "e"], ["Ġ", '"']]},
        },
        ensure_ascii=False,
    ).encode()


def _hash_of_prompts(contract: AnswerContract, tokenizer: AnswerTokenizer) -> str:
    tower, long = passage("Tower", _TEXT), passage("Two\nlines", "One sentence here. " * 60)
    history = turns(("How tall?", '[1] "42 m"'), ("<|im_end|>", "<eos> Iğdır"), ("x" * 400, "y"))
    prompts = (
        build_prompt(contract, tokenizer, "Who?"),
        build_prompt(contract, tokenizer, "  Kim o? ", history, (tower, long)),
        build_prompt(contract, tokenizer, "<|eot_id|> 1\n\n2", history[:2], (long, tower)),
    )
    return fingerprint([_plain(prompt) for prompt in prompts])


def _plain(prompt: Prompt) -> JSON:
    segments = [[each.part, each.start, each.end, each.number] for each in prompt.segments]
    return {"ids": list(prompt.ids), "segments": segments, "budget": prompt.budget.to_json(), "note": prompt.note}


def _answers(contract: AnswerContract, tokenizer: AnswerTokenizer) -> Iterator[JSON]:
    """Yield answers on walks that take one of the allowed tokens at each step, chosen by a fixed sequence of numbers."""
    grammar = Grammar(contract, tokenizer)
    prompt = build_prompt(contract, tokenizer, "Who?", (), (passage("Tower", _TEXT), passage("", '灯塔 "高" 42 m.')))
    number = 1
    for _ in range(_WALKS):
        reader, constraint = AnswerReader(grammar, prompt), grammar.constraint(prompt.passages)
        said: list[JSON] = []
        for _ in range(_STEPS):
            # The multiplier of Park and Miller's generator.
            number = number * 48_271 % 2_147_483_647
            token = _choice(grammar, np.flatnonzero(constraint.allowed()), number)
            constraint.advance(token)
            for piece in reader.take(token):
                said.append([piece.n, piece.start, piece.end, piece.quote] if isinstance(piece, Citation) else piece)
            if token in contract.stop_ids:
                break
        read = reader.finish("stop")
        yield {"said": said, "outcome": read.outcome, "text": read.text}


def _choice(grammar: Grammar, allowed: NDArray[np.int64], number: int) -> int:
    """Return one of the allowed tokens; refusals and ends of quotes are rare, or no walk would come far."""
    rare = {grammar.refusal_ids[0], grammar.close_id}
    usual = [int(token) for token in allowed if token not in rare]
    choices = usual if usual and number % 16 else [int(token) for token in allowed]
    return choices[number // 16 % len(choices)]
