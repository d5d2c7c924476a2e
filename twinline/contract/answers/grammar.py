r"""The citation grammar, version 1: a mask over tokens, from the first of an answer to its stop id.

    answer    refusal stop | claim ("\n" claim)* stop
    claim     "[" n "]" ' "' quote '"' sentence?
    quote     words of passage n, byte for byte (`quoting.py`)
    sentence  a space, then any text without a quotation mark, a bracket that opens, or a control character

Fixed words are fixed ids, which prompt, grammar and training share. The first token chooses between refusal and claim, so the
refusal's probability is read there. A sentence may hold no `[` and no `"`: nothing but a citation looks like one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from twinline.contract.answers.passages import Shown, label_ids
from twinline.contract.answers.quoting import QUOTE, Quotable
from twinline.contract.answers.specification import AnswerContract
from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.errors import ContractError, MismatchError

Mask = NDArray[np.bool_]
State = Literal["fixed", "quote", "quoted", "sentence", "refused", "done"]

_BARRED: Final = frozenset(b'["\x7f') | frozenset(range(0x20))
_CONTINUATION: Final = frozenset(range(0x80, 0xC0))
_SPACE: Final = b" "
_SENTENCE_ENDS: Final = (".", "!", "?", "…", "。", "！", "？", "।", "؟", "۔")


@dataclass(frozen=True, slots=True)
class Alternative:
    """Fixed ids, and the number of the passage that they lead to; None: the refusal."""

    ids: tuple[int, ...]
    number: int | None


class Grammar:
    """The grammar of one contract and tokenizer, made once. Thread-safe: its caches hold equal values.

    Raises:
        MismatchError: the tokenizer cannot write the fixed words as the grammar needs them.
    """

    def __init__(self, contract: AnswerContract, tokenizer: AnswerTokenizer) -> None:
        self.settings = contract.grammar
        self.tokenizer = tokenizer
        # Made here, not in the first step of the first answer.
        _ = tokenizer.lengths_of
        self.vocabulary = contract.vocabulary
        if tokenizer.vocabulary > contract.vocabulary:
            raise MismatchError(
                f"the tokenizer has {tokenizer.vocabulary} ids, the contract's vocabulary {contract.vocabulary}: the model "
                "cannot give some of them; use the tokenizer that belongs to the model"
            )
        self.stop_ids = contract.stop_ids
        self.open_ids = tokenizer.encode(f" {QUOTE}")
        self.line_ids = tokenizer.encode("\n")
        self.refusal_ids = tokenizer.encode(contract.grammar.refusal)
        closing = tokenizer.encode(QUOTE)
        if len(closing) != 1:
            raise MismatchError(
                f"the tokenizer writes {QUOTE} as {list(closing)}, the grammar needs one id: choose another model"
            )
        self.close_id = closing[0]
        self.label_start = label_ids(tokenizer, 1)[0]
        if self.refusal_ids[0] == self.label_start:
            raise MismatchError(f"the refusal {contract.grammar.refusal!r} begins as a citation does: choose another refusal")
        self.stop_mask = self._shared(self.stop_ids)
        pieces = [
            (identity, piece)
            for identity, piece in enumerate(tokenizer.token_bytes)
            if piece and not _BARRED.intersection(piece) and identity not in contract.stop_ids
        ]
        self._going_on = [(identity, piece) for identity, piece in pieces if piece[0] in _CONTINUATION]
        self._sentence_masks: dict[tuple[bytes, bool], Mask] = {}
        begun = [(identity, piece) for identity, piece in pieces if piece[0] not in _CONTINUATION]
        sound = [(identity, piece) for identity, piece in begun if piece.isascii() or incomplete(piece) is not None]
        self.sentence_mask = self._shared([identity for identity, _ in sound])
        self.first_mask = self._shared([identity for identity, piece in sound if piece.startswith(_SPACE)])

    def mask(self, ids: Sequence[int] | NDArray[np.int64]) -> Mask:
        """Return a mask `(vocabulary,)`."""
        mask = np.zeros(self.vocabulary, dtype=np.bool_)
        mask[list(ids) if not isinstance(ids, np.ndarray) else ids] = True
        return mask

    def pending_mask(self, pending: bytes, *, to_end: bool) -> Mask:
        """Return the tokens that may follow the first bytes of a character; `to_end`: that begin no other character."""
        found = self._sentence_masks.get((pending, to_end))
        if found is None:
            found = self._shared(
                [
                    identity
                    for identity, piece in self._going_on
                    if incomplete(pending + piece) is not None and (not to_end or _CONTINUATION.issuperset(piece))
                ]
            )
            self._sentence_masks[pending, to_end] = found
        return found

    def constraint(self, passages: Sequence[Shown]) -> "AnswerConstraint":
        """Return the constraint of one answer over the passages that its prompt shows."""
        return AnswerConstraint(self, passages)

    def _shared(self, ids: Sequence[int]) -> Mask:
        """Return a mask that many answers use, so nobody may write to it."""
        mask = self.mask(ids)
        mask.flags.writeable = False
        return mask


def incomplete(data: bytes) -> bytes | None:
    """Return the bytes of a last character that is not whole yet; None where the bytes are the beginning of no UTF-8."""
    tail = data[-3:]
    for length in range(1, len(tail) + 1):
        lead = tail[-length]
        if lead >= 0xC0:
            whole = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            if length < whole:
                return tail[-length:] if _is_utf8(data[:-length]) and _begins_character(tail[-length:]) else None
            break
        if lead < 0x80:
            break
    return b"" if _is_utf8(data) else None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _begins_character(start: bytes) -> bool:
    """Return whether some character begins with these bytes: the second byte of three or four has bounds of its own."""
    for second in (0x80, 0x90, 0xA0):
        rest = start if len(start) > 1 else start + bytes([second])
        whole = 2 if start[0] < 0xE0 else 3 if start[0] < 0xF0 else 4
        if _is_utf8(rest + b"\x80" * (whole - len(rest))):
            return True
    return False


@dataclass(slots=True)
class Claim:
    """One citation of an answer: passage, and the bytes of the quote in it."""

    number: int
    start: int = 0
    end: int = 0


@dataclass(slots=True)
class _Quote:
    """A quote on its way: the byte offsets where it may end, its length so far."""

    words: Quotable
    offsets: list[int]
    length: int = 0
    tokens: int = 0


@dataclass(slots=True)
class _Sentence:
    """A sentence on its way: its tokens, and the bytes of a character that is not whole yet."""

    tokens: int = 0
    pending: bytes = b""
    last: bytes = b""


class AnswerConstraint:
    """The constraint of one answer; see `Constraint`. What was decoded so far is in `state` and `claims`."""

    def __init__(self, grammar: Grammar, passages: Sequence[Shown]) -> None:
        self.grammar = grammar
        read = {shown.number: Quotable(shown.text, grammar.tokenizer) for shown in passages}
        self.words = {number: words for number, words in read.items() if words.starts}
        labels = [(number, label_ids(grammar.tokenizer, number)) for number in self.words]
        self._labels = [Alternative((*ids, *grammar.open_ids), number) for number, ids in labels]
        self._alternatives = [Alternative(grammar.refusal_ids, None), *self._labels]
        self._place = 0
        self._quote: _Quote | None = None
        self._sentence = _Sentence()
        self._mask: Mask | None = None
        self.state: State = "fixed"
        self.claims: list[Claim] = []
        self._has_cut = False

    def allowed(self) -> Mask:
        """Return the mask `(vocabulary,)` of the tokens that may come next, valid until `advance`; never all False."""
        if self._mask is None:
            self._mask = self._allowed()
        return self._mask

    def advance(self, token: int) -> None:
        """Take a token.

        Raises:
            ContractError: the grammar does not allow it here.
        """
        if not 0 <= token < self.grammar.vocabulary or not self.allowed()[token]:
            raise ContractError(
                f"token {token} is not allowed in state {self.state} of the citation grammar: decode with the mask, or read the "
                "answer with the prompt that it was made for"
            )
        self._mask = None
        if self.state == "quote" and self._quote is not None:
            self._advance_quote(self._quote, token)
        elif self.state == "fixed":
            self._advance_fixed(token)
        elif token in self.grammar.stop_ids:
            self.state = "refused" if self.state == "refused" else "done"
        elif self.state in ("quoted", "sentence"):
            self._advance_sentence(token)

    def finished(self) -> bool:
        """Return True once nothing may follow but a stop id."""
        return self.state in ("refused", "done") or (
            self.state == "sentence" and self._must_end() and not self._sentence.pending and not self._may_cite()
        )

    @property
    def may_end(self) -> bool:
        """Return whether the answer may end here."""
        return bool(self.allowed()[self.grammar.stop_ids[0]])

    @property
    def is_cut(self) -> bool:
        """Return whether a sentence so far met its limit before its end."""
        text = self._sentence.last.decode(errors="ignore").rstrip()
        return self._has_cut or (self._must_end() and not text.endswith(_SENTENCE_ENDS))

    def _allowed(self) -> Mask:
        grammar = self.grammar
        match self.state:
            case "fixed":
                return grammar.mask([each.ids[self._place] for each in self._alternatives])
            case "quote":
                return self._allowed_in_quote()
            case "quoted":
                return self._with_end(grammar.first_mask)
            case "sentence" if self._sentence.pending:
                return grammar.pending_mask(self._sentence.pending, to_end=self._must_end())
            case "sentence" if self._must_end():
                return self._with_end(np.zeros(grammar.vocabulary, dtype=np.bool_))
            case "sentence":
                return self._with_end(grammar.sentence_mask)
        return grammar.stop_mask

    def _allowed_in_quote(self) -> Mask:
        grammar, quote = self.grammar, self._quote
        if quote is None:
            raise ContractError("the constraint is in a quote without a passage: this is a bug of the grammar")
        words = quote.words
        if not quote.tokens:
            return grammar.mask(words.start_ids)
        may_end = any(words.is_end(offset) for offset in quote.offsets)
        to_word_end = quote.tokens >= grammar.settings.quote_tokens
        mask = np.zeros(grammar.vocabulary, dtype=np.bool_)
        mask[grammar.close_id] = may_end
        if not (may_end and to_word_end):
            for offset in quote.offsets:
                mask[words.ids_at(offset, to_word_end=to_word_end)] = True
        return mask

    def _with_end(self, mask: Mask) -> Mask:
        """Return a mask with the ends of a claim: a stop id, and where another one may follow, the new line before it."""
        ended = mask | self.grammar.stop_mask
        if self._may_cite():
            ended[self.grammar.line_ids[0]] = True
        return ended

    def _may_cite(self) -> bool:
        return len(self.claims) < self.grammar.settings.max_citations

    def _must_end(self) -> bool:
        return self._sentence.tokens >= self.grammar.settings.sentence_tokens

    def _advance_fixed(self, token: int) -> None:
        self._alternatives = [each for each in self._alternatives if each.ids[self._place] == token]
        self._place += 1
        done = next((each for each in self._alternatives if len(each.ids) == self._place), None)
        if done is None:
            return
        if done.number is None:
            self.state = "refused"
            return
        self.claims.append(Claim(done.number))
        words = self.words[done.number]
        self._quote = _Quote(words, words.starts)
        self.state = "quote"

    def _advance_quote(self, quote: _Quote, token: int) -> None:
        words = quote.words
        if token == self.grammar.close_id and quote.tokens:
            end = min(offset for offset in quote.offsets if words.is_end(offset))
            self.claims[-1].start, self.claims[-1].end = end - quote.length, end
            self.state = "quoted"
            return
        piece = self.grammar.tokenizer.token_bytes[token] or b""
        to_word_end = quote.tokens >= self.grammar.settings.quote_tokens
        quote.offsets = [
            offset + len(piece) for offset in quote.offsets if words.follows(offset, piece, to_word_end=to_word_end)
        ]  # fmt: skip
        quote.length += len(piece)
        quote.tokens += 1

    def _advance_sentence(self, token: int) -> None:
        if token == self.grammar.line_ids[0] and not self._sentence.pending:
            self._has_cut = self.is_cut
            self._alternatives = [Alternative((*self.grammar.line_ids, *each.ids), each.number) for each in self._labels]
            self._place, self._sentence, self.state = 0, _Sentence(), "fixed"
            self._advance_fixed(token)
            return
        piece = self.grammar.tokenizer.token_bytes[token] or b""
        sentence = self._sentence
        sentence.tokens += 1
        sentence.pending = incomplete(sentence.pending + piece) or b""
        sentence.last = (sentence.last + piece)[-8:]
        self.state = "sentence"
