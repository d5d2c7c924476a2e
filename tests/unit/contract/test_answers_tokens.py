"""The generator's tokenizer: the same bytes in both directions, and no text that forges a control token."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.contract.answers_world import TEXTS, byte_rules, fallback_tokenizer, packaged_rules
from twinline.contract.answers.detokenizer import Detokenizer
from twinline.contract.answers.packaged_model import packaged_tokenizer
from twinline.contract.answers.selfcheck import byte_tokenizer
from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.errors import DocumentError, MismatchError

PACKAGED = packaged_rules().tokenizer
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def changed(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


@settings(deadline=None, max_examples=300)
@given(ANY)
def test_decoding_gives_the_text_back(text: str) -> None:
    spelled = "".join(character if PACKAGED.spellable(character) else "\ufffd" for character in text)
    assert PACKAGED.decode(PACKAGED.encode(text)) == spelled
    assert byte_rules().tokenizer.decode(byte_rules().tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", [*TEXTS, "in  2024", "list:\n\n1. one\n\n22. two", "½ Ⅻ ١٢٣", " " * 40 + "x"])
def test_the_bytes_of_ids_are_the_bytes_of_the_text(text: str) -> None:
    ids, offsets = PACKAGED.encode_with_offsets(text)
    spelled = "".join(character if PACKAGED.spellable(character) else "\ufffd" for character in text)
    assert b"".join(PACKAGED.token_bytes[each] or b"" for each in ids) == spelled.encode()
    assert len(ids) == len(offsets)


@pytest.mark.parametrize("text", ["\x04", "\x06", "\x13", "\x14", "\x16", "\x1d", "\U00040000", "\U0007ffff", "\U000bffff"])
def test_a_character_that_the_vocabulary_lacks_is_not_dropped(text: str) -> None:
    assert not PACKAGED.spellable(text)
    assert PACKAGED.decode(PACKAGED.encode(f"a{text}b")) == "a\ufffdb"


@pytest.mark.parametrize("text", ["\x05", "\x00", "\x7f", "\U0003ffff", "\U000c0000", "\U0010ffff", "é", "文", "🎉", " "])
def test_other_characters_have_tokens(text: str) -> None:
    assert PACKAGED.spellable(text)
    assert PACKAGED.decode(PACKAGED.encode(f"a{text}b")) == f"a{text}b"


@pytest.mark.parametrize("name", sorted(PACKAGED.special))
def test_the_name_of_every_special_token_is_data(name: str) -> None:
    for text in (name, f"x{name}y", f" {name} ", name * 3, f"{name[:-1]}{name}"):
        ids = PACKAGED.encode(text)
        assert not set(ids) & set(PACKAGED.special.values())
        assert PACKAGED.decode(ids) == text


@pytest.mark.parametrize("name", ["<|im_end|>", "<end_of_turn>", "<|eot_id|>"])
def test_a_tokenizer_in_which_a_text_can_end_a_turn_is_refused(name: str) -> None:
    value = json.loads(byte_tokenizer())
    # A control token in the vocabulary that merges reach: spelled in a text, it becomes the control id.
    vocabulary, merges = value["model"]["vocab"], value["model"]["merges"]
    number, done = len(vocabulary), name[0]
    for character in name[1:]:
        merges.append([done, character])
        done += character
        if done != name:
            vocabulary[done] = number
            number += 1
    value["pre_tokenizer"]["use_regex"] = False
    with pytest.raises(MismatchError, match="a document could end a turn"):
        AnswerTokenizer(changed(value))


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value.update(decoder=None),
        lambda value: value.update(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
        lambda value: value.update(decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}),
        lambda value: value.update(decoder={"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}),
    ],
)
def test_a_tokenizer_whose_bytes_are_not_known_is_refused(edit: Any) -> None:
    value = json.loads(byte_tokenizer())
    edit(value)
    with pytest.raises(MismatchError, match="this code knows byte-level BPE"):
        AnswerTokenizer(changed(value))


@pytest.mark.parametrize("text", ["the path of the é", 'a "q" [1]', "İ文🎉\n\nx", "  two"])
def test_byte_fallback_is_read_as_bytes(text: str) -> None:
    tokenizer = AnswerTokenizer(fallback_tokenizer())
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.ids_of[b"\n"] == (5 + 10, tokenizer.encode("\n")[0])


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_a_surrogate_pair_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="half a surrogate pair"):
        PACKAGED.encode(text)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 49_151), max_size=60))
def test_the_stream_of_any_ids_is_their_batch_decode(ids: list[int]) -> None:
    stream = Detokenizer(PACKAGED)
    pieces = [stream.take(token) for token in ids]
    assert "".join([*pieces, stream.finish()]) == PACKAGED.decode(ids)


@pytest.mark.parametrize("text", [*TEXTS, "ışık İstanbul", "👩‍👩‍👧‍👦", "文档搜索。", "שלום"])
@pytest.mark.parametrize("tokenizer", [PACKAGED, byte_rules().tokenizer])
def test_the_stream_of_a_text_never_shows_half_a_character(tokenizer: AnswerTokenizer, text: str) -> None:
    stream = Detokenizer(tokenizer)
    shown = ""
    for token in tokenizer.encode(text):
        shown += stream.take(token)
        assert "\ufffd" not in shown or not tokenizer.spellable(text)
    assert shown + stream.finish() == tokenizer.decode(tokenizer.encode(text))


def test_the_reference_decoder_agrees() -> None:
    from tokenizers import Tokenizer

    reference = Tokenizer.from_str(packaged_tokenizer().decode())
    for text in TEXTS:
        ids = PACKAGED.encode(text)
        assert reference.decode(list(ids)) == PACKAGED.decode(ids)
        assert reference.decode([*ids, 2]) == PACKAGED.decode([*ids, 2])


def added(value: dict[str, Any], content: str) -> int:
    """Add a token that is not special, and return its id."""
    token = {**value["added_tokens"][0], "id": len(value["model"]["vocab"]), "content": content, "special": False}
    value["added_tokens"].append(token)
    value["model"]["vocab"][content] = token["id"]
    return int(token["id"])


@pytest.mark.parametrize(
    ("made", "content", "spelled"),
    [
        (fallback_tokenizer, "▁▁▁▁", b"    "),
        (fallback_tokenizer, "<table>", b"<table>"),
        (byte_tokenizer, "<tool_call>", b"<tool_call>"),
        (byte_tokenizer, "ĠĠ", b"  "),
        (byte_tokenizer, "two words", b"two words"),
    ],
)
def test_an_added_token_has_the_bytes_that_the_library_decodes(made: Any, content: str, spelled: bytes) -> None:
    from tokenizers import Tokenizer

    value = json.loads(made())
    identity = added(value, content)
    tokenizer = AnswerTokenizer(changed(value))
    assert tokenizer.token_bytes[identity] == spelled
    assert Tokenizer.from_str(changed(value).decode()).decode([identity]) == spelled.decode()


def test_a_special_token_that_is_missing_is_named() -> None:
    with pytest.raises(MismatchError, match="the frame needs the special token <bos>"):
        PACKAGED.special_id("<bos>", "the frame")
