"""Text that grows by words, with the breaks of its layout between them."""

import re
from typing import Final, Literal

Gap = Literal["", " ", "\t", "\n", "\n\n"]

# The wider break wins where several meet.
_WIDTH: Final[dict[str, int]] = {"": 0, " ": 1, "\t": 2, "\n": 3, "\n\n": 4}
# What HTML calls white space. A no-break space is none of it.
_SPACES: Final = re.compile(r"[ \t\n\f\r]+")


class Words:
    """Collects text: breaks between cells, lines and blocks, none at either end, white space as one space."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._gap: Gap = ""

    def add(self, text: str) -> None:
        """Add text of one line; its white space is one space wherever it stands."""
        joined = _SPACES.sub(" ", text)
        words = joined.strip(" ")
        if not self._gap and joined[:1] == " ":
            self._gap = " "
        if words:
            self._parts += (self._gap, words)
            self._gap = " " if joined[-1] == " " else ""

    def add_as_written(self, text: str) -> None:
        """Add text whose spaces and line ends count, such as code."""
        lines = text.strip("\r\n")
        if text[:1] in ("\r", "\n"):
            self.part("\n")
        if lines:
            self._parts += (self._gap, lines)
            self._gap = ""
        if text[-1:] in ("\r", "\n"):
            self.part("\n")

    def part(self, gap: Gap) -> None:
        """Keep what follows apart from what is there."""
        if _WIDTH[gap] > _WIDTH[self._gap]:
            self._gap = gap

    def text(self) -> str:
        """Return everything added so far."""
        return "".join(self._parts).strip()
