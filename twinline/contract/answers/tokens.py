"""The generator's tokenizer: text to ids as data, and the bytes of every id.

No text becomes a control id here: special tokens are looked up by name, and only a chat format does that. One tokenizer knows
two directions, ids for the prompt and bytes for grammar and stream, so the two cannot come from different files.
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from tokenizers import Tokenizer

from twinline.contract.canonical import sha256_hex
from twinline.contract.errors import DocumentError, MismatchError

REPLACEMENT: Final = "\ufffd"
_BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-F]{2})>")


class AnswerTokenizer:
    """`tokenizer.json` of a generator, without truncation and padding. Thread-safe: nothing changes after construction.

    Raises:
        MismatchError: the tokenizer writes bytes in a form that this code does not know, or lets a text forge a control token.
    """

    def __init__(self, tokenizer_json: bytes) -> None:
        self.sha256 = sha256_hex(tokenizer_json)
        value: dict[str, Any] = json.loads(tokenizer_json)
        self._tokenizer = Tokenizer.from_str(tokenizer_json.decode())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        added = self._tokenizer.get_added_tokens_decoder()
        self.special = {token.content: identity for identity, token in added.items() if token.special}
        self.token_bytes: list[bytes | None] = _token_bytes(self._tokenizer, value, {i: t.content for i, t in added.items()})
        for identity in self.special.values():
            self.token_bytes[identity] = None
        self._unspellable = _unspellable({piece[0] for piece in self.token_bytes if piece and len(piece) == 1})
        self._refuse_forgeries()

    @property
    def vocabulary(self) -> int:
        """Return the number of ids."""
        return len(self.token_bytes)

    def special_id(self, name: str, place: str) -> int:
        """Return the id of a special token.

        Raises:
            MismatchError: the tokenizer has no such special token.
        """
        if name not in self.special:
            raise MismatchError(
                f"{place} needs the special token {name}, the tokenizer has {sorted(self.special)[:20]}: "
                "choose the chat format that the model was trained with"
            )
        return self.special[name]

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text as data. A character that the vocabulary cannot spell is encoded as U+FFFD, never dropped.

        Raises:
            DocumentError: the text has half a surrogate pair (`lone_surrogate`).
        """
        return self._encode(text)[0]

    def encode_with_offsets(self, text: str) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
        """Return the ids of a text and their spans in code points."""
        return self._encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; special tokens are left out, bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes[identity] or b"" for identity in ids).decode(errors="replace")

    def spellable(self, text: str) -> bool:
        """Return whether the vocabulary has every byte of a text."""
        return self._unspellable is None or not self._unspellable.search(text)

    @property
    def unspellable(self) -> re.Pattern[str] | None:
        """Return what matches one character without tokens of its own; None: every character has some."""
        return self._unspellable

    @cached_property
    def ids_of(self) -> dict[bytes, tuple[int, ...]]:
        """Return the ids by their bytes; one piece may have two, as where a vocabulary has byte tokens beside pieces."""
        found: dict[bytes, tuple[int, ...]] = {}
        for identity, piece in enumerate(self.token_bytes):
            if piece:
                found[piece] = (*found.get(piece, ()), identity)
        return found

    @cached_property
    def lengths_of(self) -> dict[bytes, tuple[int, ...]]:
        """Return the lengths of pieces of two bytes and more, by their first two bytes."""
        found: dict[bytes, set[int]] = {}
        for piece in self.ids_of:
            if len(piece) > 1:
                found.setdefault(piece[:2], set()).add(len(piece))
        return {first: tuple(sorted(lengths)) for first, lengths in found.items()}

    def _encode(self, text: str) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
        if self._unspellable is not None:
            text = self._unspellable.sub(REPLACEMENT, text)
        try:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as exc:
            at = next(place for place, character in enumerate(text) if "\ud800" <= character <= "\udfff")
            raise DocumentError("lone_surrogate", f"the text has half a surrogate pair at {at}: send valid Unicode") from exc
        return tuple(encoding.ids), encoding.offsets

    def _refuse_forgeries(self) -> None:
        """Raise MismatchError where the name of a special token, written in a text, becomes a control id."""
        controls = set(self.special.values())
        for name in self.special:
            if forged := controls & set(self.encode(f"a {name} b")):
                raise MismatchError(
                    f"tokenizer.json encodes the text {name!r} as the control ids {sorted(forged)}: a document could end a turn; "
                    "choose a tokenizer whose special tokens are marked as special"
                )


def _token_bytes(tokenizer: Tokenizer, value: dict[str, Any], added: dict[int, str]) -> list[bytes | None]:
    """Return the bytes of every id; None for an id without a token."""
    pieces: list[bytes | None] = [None] * (max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1)
    decode = _piece_decoder(value)
    for piece, identity in tokenizer.get_vocab(with_added_tokens=False).items():
        pieces[identity] = decode(piece)
    for identity, content in added.items():
        pieces[identity] = decode(content)
    return pieces


def _piece_decoder(value: dict[str, Any]) -> Any:
    decoder = value.get("decoder") or {}
    steps = decoder.get("decoders", [decoder])
    kinds = [step.get("type") for step in steps]
    if value["model"].get("type") == "BPE" and kinds == ["ByteLevel"]:
        table = _byte_level()
        # As the library decodes: a token with other characters, such as an added one with a space, stands for itself.
        return lambda piece: bytes(table[c] for c in piece) if table.keys() >= set(piece) else piece.encode()
    spaces = [step.get("pattern") == {"String": "\u2581"} and step.get("content") == " " for step in steps]
    if value["model"].get("type") == "BPE" and kinds == ["Replace", "ByteFallback", "Fuse"] and spaces[0]:
        return _fallback_bytes
    raise MismatchError(
        f"tokenizer.json has a {value['model'].get('type')} model with the decoder {kinds}: this code knows byte-level BPE "
        "(ByteLevel), and BPE with byte fallback (Replace, ByteFallback, Fuse); choose a model with one of them"
    )


def _fallback_bytes(piece: str) -> bytes:
    if found := _BYTE_TOKEN.fullmatch(piece):
        return bytes([int(found[1], 16)])
    return piece.replace("\u2581", " ").encode()


def _byte_level() -> dict[str, int]:
    """Return the byte of each character of GPT-2's alphabet: printable Latin-1 stands for itself, the rest from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}


def _unspellable(single: set[int]) -> re.Pattern[str] | None:
    """Return what matches characters with a byte that no token of one byte has; any token may be missing, a byte may not."""
    if not set(range(0x80, 0xC0)) <= single:
        raise MismatchError("tokenizer.json lacks tokens for single bytes from 0x80 to 0xBF: choose a model with all of them")
    ranges = [f"\\x{byte:02x}" for byte in range(0x80) if byte not in single]
    for byte in range(0xC2, 0xF5):
        if byte not in single:
            first, last = _first_character(byte), _first_character(byte + 1)
            ranges.append(f"{re.escape(chr(first))}-{re.escape(chr(min(last, 0x110000) - 1))}")
    return re.compile(f"[{''.join(ranges)}]") if ranges else None


def _first_character(lead: int) -> int:
    """Return the first code point whose UTF-8 begins with a lead byte."""
    if lead < 0xE0:
        return (lead - 0xC0) << 6
    if lead < 0xF0:
        return max((lead - 0xE0) << 12, 0x800)
    return max((lead - 0xF0) << 18, 0x10000)
