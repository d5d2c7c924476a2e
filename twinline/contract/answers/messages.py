"""Messages: what a caller sends, and the rules for it. The system text is the contract's; a caller has none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from twinline.contract.documents.strict_json import short
from twinline.contract.encoder.limits import MAX_ENCODED_CHARS, MAX_QUERY_CHARS
from twinline.contract.errors import DocumentError

MAX_MESSAGES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Message:
    """One earlier turn of a conversation. White space at either end does not count: templates strip it too."""

    role: Literal["user", "assistant"]
    text: str


def question_text(question: str) -> str:
    """Return a question as the prompt has it.

    Raises:
        DocumentError: it is empty (`empty_question`) or too long (`question_too_long`).
    """
    if len(question) > MAX_QUERY_CHARS:
        raise DocumentError(
            "question_too_long",
            f"the question has {len(question)} characters, the limit is {MAX_QUERY_CHARS}: ask in fewer words",
        )
    stripped = question.strip()
    if not stripped:
        raise DocumentError("empty_question", "the question is empty: type at least one word")
    return stripped


def check_history(history: Sequence[Message]) -> tuple[Message, ...]:
    """Return a history as the prompt has it: questions and answers in turn, a question first, an answer last.

    Raises:
        DocumentError: `system_message`, `wrong_history`, or `message_too_long`.
    """
    if len(history) > MAX_MESSAGES:
        raise DocumentError("wrong_history", f"the history has {len(history)} messages, the limit is {MAX_MESSAGES}")
    for place, message in enumerate(history):
        if message.role in ("system", "developer"):
            raise DocumentError(
                "system_message",
                f"message {place} has the role {message.role!r}: the system text belongs to the release; leave it out",
            )
        wanted = "assistant" if place % 2 else "user"
        if message.role != wanted:
            raise DocumentError(
                "wrong_history", f"message {place} has the role {short(message.role)}, {wanted!r} comes there: send turn by turn"
            )
        if not message.text.strip():
            raise DocumentError("wrong_history", f"message {place} is empty: leave its question and its answer out")
        if len(message.text) > MAX_ENCODED_CHARS:
            raise DocumentError(
                "message_too_long", f"message {place} has {len(message.text)} characters, the limit is {MAX_ENCODED_CHARS}"
            )
    if len(history) % 2:
        raise DocumentError("wrong_history", "the history ends with a question: its answer is missing")
    return tuple(Message(message.role, message.text.strip()) for message in history)


def read_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[tuple[Message, ...], str]:
    """Return history and question from messages as OpenAI's clients send them: `role` and `content`, the question last.

    Raises:
        DocumentError: `wrong_messages`, or as `check_history` and `question_text`.
    """
    read = []
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            raise DocumentError("wrong_messages", f"message {place} is {short(message)}: give `role` and `content` and no more")
        if not isinstance(message["role"], str) or not isinstance(message["content"], str):
            raise DocumentError("wrong_messages", f"message {place}: role and content must be texts, not {short(dict(message))}")
        read.append(Message(message["role"], message["content"]))  # type: ignore[arg-type]  # checked below
    if not read or read[-1].role != "user":
        raise DocumentError("wrong_messages", "the last message must have the role 'user': it is the question")
    return check_history(read[:-1]), question_text(read[-1].text)
