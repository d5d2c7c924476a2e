"""Golden cases for the rules in code: every process runs them before it touches a document.

A changed library, or a changed rule under an old version, would quietly move spans, ids or hashes. Here it stops the start.
"""

from functools import lru_cache
from typing import Final

from twinline.contract.canonical import fingerprint
from twinline.contract.documents.cleaning import DEFAULT_CLEANING, clean
from twinline.contract.documents.ids import golden_id, head_id, point_id
from twinline.contract.errors import MismatchError

_RAW = "\ufeff  Cafe\u0301\t\u00a0 na\u00efve\r\n\r\n\r\n\r\nI\u0307stanbul\x00 \u1100\u1161\u11a8 end \n"
_CLEAN = "Caf\u00e9 na\u00efve\n\n\u0130stanbul \uac01 end"

_WORDS_AS_TOKENS: Final = (
    b'{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,'
    b'"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,'
    b'"model":{"type":"WordLevel","vocab":{"[PAD]":0,"[UNK]":1},"unk_token":"[UNK]"}}'
)
# Every kind of seam for a splitter: paragraph, line, list, sentence, word; scripts without spaces, joined emoji.
_TO_CUT: Final = (
    "A heading\n\nThe first sentence is short. "
    "The second one, though, goes on for rather longer than a chunk may be, so it is cut.\n"
    "- a list item\n- another: with a colon; and a semicolon\n\n"
    "\u0130stanbul'da ya\u011fmur. \u6587\u6863 \u641c\u7d22\u3002\u7b2c\u4e8c\u53e5\u3002 na\u00efve "
    "\U0001f469\u200d\U0001f467 e.g. 3.14 ends!\n\n" + "word " * 30 + "end."
)
_CHUNKS: Final = [
    (0, 9), (11, 39), (40, 109), (95, 138), (125, 179), (181, 211), (207, 237), (239, 318), (299, 378), (359, 393),
]  # fmt: skip
_CHUNKS_2: Final = [
    (0, 39), (21, 94), (72, 124), (114, 167), (155, 211), (207, 237), (232, 308), (289, 368), (349, 393),
]  # fmt: skip
_LONG: Final = "One more sentence of the log, and its offset. " * 400
_LONG_CHUNKS: Final = "8905e602487dc58f8697e93cff428ef892b8ad3eb264d8952111c384d7043889"
# More joined emoji than fit, each of which stays whole, and a word of more characters than a chunk may have.
_UNBROKEN: Final = "First, a line.\nThen " + "\U0001f469\u200d\U0001f467" * 12 + " and " + "x" * 9_000 + " ends."
_UNBROKEN_CHUNKS_2: Final = [
    (0, 19), (15, 42), (42, 60), (61, 4157), (4157, 8253), (8253, 9067),
]  # fmt: skip
_LONG_CHUNKS_2: Final = "bba5e952363ed79e7f359e84e2513044dd5223541fa470c1b82dd51a21904524"


@lru_cache(maxsize=1)
def check_rules_in_code() -> None:
    """Compare cleaning, ids and the canonical form with their golden values, once per process.

    Raises:
        MismatchError: this process would write ids, spans or fingerprints that differ from the platform's.
    """
    cleaned = clean(_RAW, DEFAULT_CLEANING)
    # First, because the cases below look for places in it.
    _compare("cleaning", cleaned.text, _CLEAN)
    found_at = cleaned.text.index("\u0130stanbul")
    start, end = cleaned.raw_span(found_at, found_at + len("\u0130stanbul"))
    cases = (
        ("spans", _RAW[start:end], "I\u0307stanbul"),
        ("point_id", str(point_id("a_b", "c", 1)), "9ce9d804-11aa-54eb-8264-18bfd80fec03"),
        ("head_id", str(head_id("a", "b_c")), "62e6ea39-f94b-5e2a-9f25-163efe2738d3"),
        ("golden_id", str(golden_id("a")), "1ff63586-7500-5692-bb59-a76e3bbddf78"),
        (
            "canonical form",
            fingerprint({"b": [1, True, None], "a": "\u20ac\n"}),
            "7ad9931befe6fe2b202e793b37f0d1a5e85fe3c32e1c1eb16ca87dde66254ab8",
        ),
    )
    for name, found, expected in cases:
        _compare(name, found, expected)


@lru_cache(maxsize=1)
def check_chunks_in_code() -> None:
    """Compare the chunks of two texts with their golden values, once per process. The model server cuts nothing.

    Raises:
        MismatchError: this process would cut documents in another way than the platform's, most likely by another splitter.
    """
    # The model server does not have the libraries for cutting.
    from twinline.contract.encoder.chunking import Chunker
    from twinline.contract.encoder.specification import CHUNKER_VERSIONS, ChunkerSettings, make_contract

    splitter, offsets = (
        Chunker(*make_contract(_WORDS_AS_TOKENS, max_tokens=16, dimension=2, chunker=settings))
        for settings in (ChunkerSettings(version=version, overlap_tokens=4, title_max_tokens=4) for version in CHUNKER_VERSIONS)
    )
    title = "a title of more than four words"
    for name, found, expected in (
        ("chunks", splitter.spans(_TO_CUT, ""), _CHUNKS),
        ("chunks of a long text", _hash(splitter.spans(_LONG, splitter.lead(title))), _LONG_CHUNKS),
        ("chunks, version 2", offsets.spans(_TO_CUT, ""), _CHUNKS_2),
        ("chunks of a long text, version 2", _hash(offsets.spans(_LONG, offsets.lead(title))), _LONG_CHUNKS_2),
        ("chunks of a long word, version 2", offsets.spans(_UNBROKEN, ""), _UNBROKEN_CHUNKS_2),
    ):
        _compare(name, found, expected)


def check_process() -> None:
    """Run all golden cases; a process that touches documents calls this first.

    Raises:
        MismatchError: see the two checks.
    """
    check_rules_in_code()
    check_chunks_in_code()


def _hash(spans: list[tuple[int, int]]) -> str:
    return fingerprint([list(span) for span in spans])


def _compare(name: str, found: object, expected: object) -> None:
    if found != expected:
        raise MismatchError(
            f"golden check of {name}: this process gives {found!r}, the platform {expected!r}: "
            "install the versions that constraints.txt names"
        )
