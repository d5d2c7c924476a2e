"""Golden texts: some fifty, chosen to hurt, whose tokens and vectors are stored with a release and checked at every hop."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from contract.errors import MismatchError
from contract.preprocess import Preprocessor
from contract.specification import Role

GOLDEN_FILE = "golden.json"


@dataclass(frozen=True, slots=True)
class GoldenText:
    """A named text and the role under which it is encoded. The text is sent as it is: encoding does not clean."""

    name: str
    role: Role
    text: str


_PLAIN = "The consumer commits its offsets only after every document of the batch is durable in the index."
_WORDS = (
    "a vector store keeps one point for each chunk of a document and answers with the nearest ones while new documents "
    "arrive from the log and old ones are replaced or deleted by their key"
)

_FIXED: tuple[tuple[str, Role, str], ...] = (
    ("one_letter", "query", "a"),
    ("one_word", "query", "offsets"),
    ("one_space", "document", " "),
    ("empty", "document", ""),
    ("punctuation", "query", "?!..."),
    ("question", "query", "How do I roll back a release?"),
    ("same_as_document", "document", "How do I roll back a release?"),
    ("sentence", "document", _PLAIN),
    ("upper_case", "document", _PLAIN.upper()),
    ("title_and_text", "document", "numpy.linalg.norm Return one of eight matrix norms or a vector norm."),
    ("tabs_and_newlines", "document", "first\tsecond\n\nthird\r\nfourth    fifth"),
    ("leading_space", "document", "   three spaces before and after   "),
    ("control_characters", "document", "bell\x07 null\x00 escape\x1b[0m delete\x7f"),
    ("byte_order_mark", "document", "\ufeffstarts with a byte order mark"),
    ("zero_width", "document", "zero\u200bwidth\u200cjoin\u200ders"),
    ("no_break_space", "document", "no\u00a0break\u00a0space and thin\u2009space"),
    ("composed", "document", "caf\u00e9 na\u00efve r\u00e9sum\u00e9"),
    ("decomposed", "document", "cafe\u0301 nai\u0308ve re\u0301sume\u0301"),
    ("many_marks", "document", "Z\u0351\u036b\u0343a\u0321\u034el\u0321g\u0322o\u0329"),
    (
        "turkish",
        "document",
        "\u0130stanbul'da ya\u011fmurlu bir g\u00fcn; \u0131\u015f\u0131k \u00e7ok az, \u015femsiye \u015fart.",
    ),
    ("turkish_query", "query", "I\u011fd\u0131r'da hava nas\u0131l?"),
    ("german", "document", "Die Gr\u00f6\u00dfe der Stra\u00dfe \u00e4ndert sich nicht, wenn \u00dcbung fehlt."),
    ("french", "document", "L\u2019\u0153uvre a \u00e9t\u00e9 d\u00e9pos\u00e9e \u00ab hier \u00bb, d\u00e8s l\u2019aube."),
    ("spanish", "query", "\u00bfD\u00f3nde est\u00e1 el ni\u00f1o?"),
    ("polish", "document", "Za\u017c\u00f3\u0142\u0107 g\u0119\u015bl\u0105 ja\u017a\u0144 bez zw\u0142oki."),
    (
        "russian",
        "document",
        "\u0418\u043d\u0434\u0435\u043a\u0441 \u043e\u0431\u043d\u043e\u0432\u043b\u044f\u0435\u0442\u0441\u044f \u0431\u0435\u0437 \u043e\u0441\u0442\u0430\u043d\u043e\u0432\u043a\u0438.",
    ),
    (
        "greek",
        "document",
        "\u0397 \u03b1\u03bd\u03b1\u03b6\u03ae\u03c4\u03b7\u03c3\u03b7 \u03b5\u03af\u03bd\u03b1\u03b9 \u03b3\u03c1\u03ae\u03b3\u03bf\u03c1\u03b7.",
    ),
    (
        "arabic",
        "document",
        "\u0627\u0644\u0628\u062d\u062b \u0641\u064a \u0627\u0644\u0648\u062b\u0627\u0626\u0642 \u0633\u0631\u064a\u0639.",
    ),
    ("hebrew_in_latin", "document", "The word \u05e9\u05dc\u05d5\u05dd runs right to left."),
    ("hindi", "document", "\u0926\u0938\u094d\u0924\u093e\u0935\u0947\u091c\u093c \u0916\u094b\u091c\u0947\u0902"),
    ("chinese", "document", "\u5411\u91cf\u6570\u636e\u5e93\u4fdd\u5b58\u6bcf\u4e2a\u6587\u6863\u7684\u5757\u3002"),
    ("japanese", "document", "\u691c\u7d22\u30a8\u30f3\u30b8\u30f3\u306f\u901f\u3044\u3067\u3059\u3002"),
    ("korean", "document", "\ubb38\uc11c \uac80\uc0c9\uc740 \ube60\ub985\ub2c8\ub2e4."),
    ("thai", "document", "\u0e04\u0e49\u0e19\u0e2b\u0e32\u0e40\u0e2d\u0e01\u0e2a\u0e32\u0e23"),
    ("emoji", "document", "shipped \U0001f680 and green \u2705"),
    ("emoji_joined", "document", "family \U0001f468\u200d\U0001f469\u200d\U0001f467 flag \U0001f1f9\U0001f1f7"),
    ("full_width", "query", "\uff33\uff45\uff41\uff52\uff43\uff48 \uff11\uff12\uff13"),
    ("ligature", "document", "e\ufb03cient \ufb01le"),
    ("html", "document", '<p class="note">Do &amp; <b>don\'t</b></p><!-- hidden -->'),
    ("markdown", "document", "# Title\n\n- item **one**\n- item `two`\n\n[link](https://example.org/a?b=c#d)"),
    ("python", "document", "def mean(xs: list[float]) -> float:\n\treturn sum(xs) / len(xs)  # not empty"),
    ("json", "document", '{"key": [1, 2.5e-3, null, true], "other": "\\u00e9"}'),
    ("sql", "query", "SELECT COUNT(*) FROM points WHERE tenant = 'a''b';"),
    ("numbers", "document", "3.14159 1,000,000 0x7fff 1e-12 2026-11-22T10:23:00Z"),
    ("url", "query", "https://example.org/search?q=two+words&page=2"),
    ("special_tokens", "document", "[CLS] [SEP] [MASK] [PAD] <s> </s> <|endoftext|>"),
    ("prefix_words", "document", "query: this begins like a role prefix; passage: so does this"),
    ("long_word", "document", "pneumono" * 40),
    ("hyphens", "document", "state-of-the-art, end-to-end, twenty-one"),
    ("repeated", "document", "again " * 60),
)


def golden_texts(preprocessor: Preprocessor) -> tuple[GoldenText, ...]:
    """Return the fixed texts and those made to measure: one under, at, one over and far over the token limit."""
    limit = preprocessor.contract.vector.max_tokens
    measured = tuple(
        GoldenText(name, "document", _text_of(preprocessor, tokens))
        for name, tokens in (
            ("one_under_limit", limit - 1),
            ("at_limit", limit),
            ("one_over_limit", limit + 1),
            ("far_over_limit", 3 * limit),
        )
    )
    return tuple(GoldenText(*fixed) for fixed in _FIXED) + measured


@dataclass(frozen=True, slots=True)
class Golden:
    """Golden texts with the token ids and vectors `(n, dim)` that the training framework gave them."""

    texts: tuple[GoldenText, ...]
    token_ids: tuple[tuple[int, ...], ...]
    vectors: NDArray[np.float32]

    def check_tokens(self, preprocessor: Preprocessor, place: str) -> None:
        """Tokenise every text again and compare.

        Raises:
            MismatchError: this process tokenises a golden text otherwise than the release says.
        """
        for text, expected in zip(self.texts, self.token_ids, strict=True):
            found = tuple(preprocessor.encode([text.text], text.role).token_ids[0])
            if found != expected:
                raise MismatchError(
                    f"{place}: golden text {text.name!r} has {len(found)} tokens {found[:8]}..., the release says "
                    f"{len(expected)} {expected[:8]}...: install the tokenizers version of the release, or build a new one"
                )

    def rows(self, role: Role) -> list[int]:
        """Return the positions of the texts of one role."""
        return [row for row, text in enumerate(self.texts) if text.role == role]

    def save(self, folder: Path) -> None:
        """Write `golden.json`; vectors as base64 of little-endian float32, so that no digit is lost."""
        entries = [
            {"name": text.name, "role": text.role, "text": text.text, "token_ids": list(ids), "vector": _to_base64(vector)}
            for text, ids, vector in zip(self.texts, self.token_ids, self.vectors, strict=True)
        ]
        (folder / GOLDEN_FILE).write_text(json.dumps(entries, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `golden.json`.

        Raises:
            MismatchError: it is missing or is not what `save` writes.
        """
        place = folder / GOLDEN_FILE
        try:
            entries = json.loads(place.read_bytes())
            return cls(
                texts=tuple(GoldenText(entry["name"], entry["role"], entry["text"]) for entry in entries),
                token_ids=tuple(tuple(entry["token_ids"]) for entry in entries),
                vectors=np.stack([np.frombuffer(base64.b64decode(entry["vector"]), dtype="<f4") for entry in entries]),
            )
        except FileNotFoundError as exc:
            raise MismatchError(f"{place} is missing: {folder} is no release") from exc
        except (KeyError, TypeError, ValueError) as exc:
            raise MismatchError(f"{place}: not golden texts: {exc}") from exc


def golden_of(preprocessor: Preprocessor, texts: Sequence[GoldenText], vectors: NDArray[np.float32]) -> Golden:
    """Return golden texts with this process's tokens and the given vectors `(n, dim)`."""
    token_ids = tuple(tuple(preprocessor.encode([text.text], text.role).token_ids[0]) for text in texts)
    return Golden(tuple(texts), token_ids, vectors.astype(np.float32))


def _to_base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _text_of(preprocessor: Preprocessor, tokens: int) -> str:
    """Return a text of exactly so many tokens, or as near as the vocabulary allows; counted without the limit."""
    words: list[str] = []
    source = _WORDS.split()
    while preprocessor.count_tokens(" ".join(words), "document") < tokens:
        words.append(source[len(words) % len(source)])
    # A word of several tokens may have gone past the mark: letters are one token each in every vocabulary met so far.
    while preprocessor.count_tokens(" ".join(words), "document") > tokens:
        words.pop()
    while preprocessor.count_tokens(" ".join(words), "document") < tokens:
        words.append("a")
    return " ".join(words)
