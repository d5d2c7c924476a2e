"""The golden texts: some fifty, chosen to hurt a tokenizer, a pooling or a limit that differs somewhere.

They are a constant of the platform; the tokens and vectors that a release gives them are facts of that release (`golden.py`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twinline.contract.encoder.specification import Role

if TYPE_CHECKING:
    from twinline.contract.encoder.preprocess import Preprocessor


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

_FIXED: Final[tuple[tuple[str, Role, str], ...]] = (
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
        "İstanbul'da yağmurlu bir gün; ışık çok az, şemsiye şart.",
    ),
    ("turkish_query", "query", "Iğdır'da hava nasıl?"),
    ("german", "document", "Die Größe der Straße ändert sich nicht, wenn Übung fehlt."),
    ("french", "document", "L’œuvre a été déposée « hier », dès l’aube."),
    ("spanish", "query", "¿Dónde está el niño?"),
    ("polish", "document", "Zażółć gęślą jaźń bez zwłoki."),
    (
        "russian",
        "document",
        "Индекс обновляется без остановки.",
    ),
    (
        "greek",
        "document",
        "Η αναζήτηση είναι γρήγορη.",
    ),
    (
        "arabic",
        "document",
        "البحث في الوثائق سريع.",
    ),
    ("hebrew_in_latin", "document", "The word שלום runs right to left."),
    ("hindi", "document", "दस्तावेज़ खोजें"),
    ("chinese", "document", "向量数据库保存每个文档的块。"),
    ("japanese", "document", "検索エンジンは速いです。"),
    ("korean", "document", "문서 검색은 빠릅니다."),
    ("thai", "document", "ค้นหาเอกสาร"),
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

GOLDEN_TEXTS: Final[tuple[GoldenText, ...]] = tuple(GoldenText(*fixed) for fixed in _FIXED)


def golden_texts(preprocessor: "Preprocessor") -> tuple[GoldenText, ...]:
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
    return GOLDEN_TEXTS + measured


def _text_of(preprocessor: "Preprocessor", tokens: int) -> str:
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
