"""Chat formats: the control ids and words around each turn, versions in code. No template language runs where prompts are made.

A format is proved against the model's own template when a release is packaged. A model whose template says something else, such
as a date or a text of its own, is refused there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.errors import MismatchError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """One version of one format. A piece in angle brackets is a special token, any other piece is text.

    Attributes:
        begin: before the first turn.
        header: before the content of a turn; `{role}` stands for the role's name.
        footer: after the content of a turn.
        roles: the names of the roles; without `system`, the system text is put before the first user's text, and `joint` between.
        stops: special tokens that end an answer, the one that training appends first.
    """

    name: str
    version: int
    begin: tuple[str, ...]
    header: tuple[str, ...]
    footer: tuple[str, ...]
    roles: Mapping[Role, str]
    stops: tuple[str, ...]
    joint: str = "\n\n"

    @property
    def place(self) -> str:
        """Return how an error names the format."""
        return f"chat format {self.name}@{self.version}"

    @property
    def has_system(self) -> bool:
        """Return whether the system text is a turn of its own."""
        return "system" in self.roles


_PLAIN_ROLES: Final[Mapping[Role, str]] = {"system": "system", "user": "user", "assistant": "assistant"}
_FORMATS: Final = (
    ChatFormat("chatml", 1, (), ("<|im_start|>", "{role}\n"), ("<|im_end|>", "\n"), _PLAIN_ROLES, ("<|im_end|>",)),
    ChatFormat(
        "llama3", 1, ("<|begin_of_text|>",), ("<|start_header_id|>", "{role}", "<|end_header_id|>", "\n\n"), ("<|eot_id|>",),
        _PLAIN_ROLES, ("<|eot_id|>", "<|end_of_text|>"),
    ),
    ChatFormat(
        "gemma", 1, ("<bos>",), ("<start_of_turn>", "{role}\n"), ("<end_of_turn>", "\n"), {"user": "user", "assistant": "model"},
        ("<end_of_turn>", "<eos>"),
    ),
)  # fmt: skip
CHAT_FORMATS: Final[Mapping[tuple[str, int], ChatFormat]] = {(each.name, each.version): each for each in _FORMATS}


def chat_format(name: str, version: int, place: str) -> ChatFormat:
    """Return a format.

    Raises:
        MismatchError: this code has no such format or version.
    """
    try:
        return CHAT_FORMATS[name, version]
    except KeyError:
        known = ", ".join(f"{known}@{number}" for known, number in sorted(CHAT_FORMATS))
        raise MismatchError(
            f"{place}: chat format is {name}@{version}, this code has {known}: run the version of Twinline that made the "
            "release, or choose a model with one of these formats"
        ) from None


class Frame:
    """A chat format in the ids of one tokenizer: the only place from which control ids come into a prompt."""

    def __init__(self, chat: ChatFormat, tokenizer: AnswerTokenizer) -> None:
        self.chat = chat
        self.begin = tuple(self._ids(chat.begin, tokenizer, ""))
        self.footer = tuple(self._ids(chat.footer, tokenizer, ""))
        self.joint = tokenizer.encode(chat.joint)
        self.headers = {role: tuple(self._ids(chat.header, tokenizer, name)) for role, name in chat.roles.items()}
        self.stop_ids = tuple(tokenizer.special_id(name, chat.place) for name in chat.stops)

    def _ids(self, pieces: Sequence[str], tokenizer: AnswerTokenizer, role: str) -> Iterator[int]:
        for piece in pieces:
            if piece.startswith("<"):
                yield tokenizer.special_id(piece, self.chat.place)
            else:
                yield from tokenizer.encode(piece.format(role=role))


def find_format(tokenizer: AnswerTokenizer, place: str) -> ChatFormat:
    """Return the format whose special tokens a tokenizer has.

    Raises:
        MismatchError: it has those of none.
    """
    for chat in _FORMATS:
        pieces = (*chat.begin, *chat.header, *chat.footer, *chat.stops)
        if all(piece in tokenizer.special for piece in pieces if piece.startswith("<")):
            return chat
    known = ", ".join(chat.name for chat in _FORMATS)
    raise MismatchError(
        f"{place}: the tokenizer's special tokens {sorted(tokenizer.special)[:20]} are of no known chat format ({known}): "
        "choose a model with one of them"
    )
