"""The stream of an answer's text: whole characters only, and joined the same as decoded at once."""

import codecs

from twinline.contract.answers.tokens import AnswerTokenizer


class Detokenizer:
    """Ids in, text out; the bytes of a character that is not whole yet are held back."""

    def __init__(self, tokenizer: AnswerTokenizer) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def take(self, token: int) -> str:
        """Return the text that a token completes; special tokens have none."""
        return self._decoder.decode(self._token_bytes[token] or b"")

    def finish(self) -> str:
        """Return the rest: U+FFFD for a character that stayed incomplete."""
        return self._decoder.decode(b"", final=True)
