"""Golden cases for the rules that are code: every process runs them before it touches a document.

A changed library or a changed rule under an old version number would quietly move spans, ids or hashes. Here it stops the start.
"""

from functools import lru_cache

from contract.canonical import fingerprint
from contract.cleaning import DEFAULT_CLEANING, clean
from contract.errors import MismatchError
from contract.ids import head_id, point_id

_RAW = "\ufeff  Cafe\u0301\t\u00a0 na\u00efve\r\n\r\n\r\n\r\nI\u0307stanbul\x00 \u1100\u1161\u11a8 end \n"
_CLEAN = "Caf\u00e9 na\u00efve\n\n\u0130stanbul \uac01 end"


@lru_cache(maxsize=1)
def check_rules_in_code() -> None:
    """Compare cleaning, ids and the canonical form with their golden values, once per process.

    Raises:
        MismatchError: this process would write other ids, spans or fingerprints than the platform's.
    """
    cleaned = clean(_RAW, DEFAULT_CLEANING)
    found_at = cleaned.text.index("\u0130stanbul")
    start, end = cleaned.raw_span(found_at, found_at + len("\u0130stanbul"))
    cases = (
        ("cleaning", cleaned.text, _CLEAN),
        ("spans", _RAW[start:end], "I\u0307stanbul"),
        ("point_id", str(point_id("a_b", "c", 1)), "9ce9d804-11aa-54eb-8264-18bfd80fec03"),
        ("head_id", str(head_id("a", "b_c")), "62e6ea39-f94b-5e2a-9f25-163efe2738d3"),
        (
            "canonical form",
            fingerprint({"b": [1, True, None], "a": "\u20ac\n"}),
            "7ad9931befe6fe2b202e793b37f0d1a5e85fe3c32e1c1eb16ca87dde66254ab8",
        ),
    )
    for name, found, expected in cases:
        if found != expected:
            raise MismatchError(
                f"golden check of {name}: this process gives {found!r}, the platform {expected!r}: "
                "install the versions that constraints.txt names"
            )
