"""Exact names and codes in a text: what is copied from a screen or a label, and has to be found as it stands."""

from typing import Final

import regex

from twinline.contract.sparse.analyzer import pieces

_NAME: Final = regex.compile(
    r".*\p{L}.*\p{Nd}.*"  # a letter, and a digit after it: AB-1234, utf8, v1.2; not 20th, 10mg
    r"|.*_.*"  # max_tokens
    r"|.*\p{Ll}\p{Lu}.*"  # maxTokens; not Inc.The
    r"|\p{L}{2,}(?:\.\p{Ll}\p{L}+)+"  # np.linalg; not e.g
    r"|\p{Nd}+(?:\.\p{Nd}+){2,}|\p{Nd}+(?:-\p{Nd}+){2,}"  # 3.10.2, 12-345-6; not the interval 0.92-0.99
    r"|\p{Nd}{4,}-\p{Nd}{2,}"  # 4711-0815
    r"|(?!(?:19|20)\p{Nd}{2}$)\p{Nd}{4,}"  # 10054; not a year
)
_CAPITALS: Final = regex.compile(r"\p{Lu}{4,}")  # ECONNREFUSED
_SHORTEST: Final = 3
# A longer piece has no joined form in the analyzer.
_LONGEST: Final = 64


def names(text: str) -> list[str]:
    """Return the names and codes of a text as they are written, in their order, repeated ones too.

    A word in capitals is a name, unless the whole text is in capitals.
    """
    found = pieces(text)
    is_shouted = len(found) > 1 and text.isupper()
    return [
        piece
        for piece in found
        if _SHORTEST <= len(piece) <= _LONGEST and (_NAME.fullmatch(piece) or (not is_shouted and _CAPITALS.fullmatch(piece)))
    ]
