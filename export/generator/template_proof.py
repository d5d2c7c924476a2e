"""The proof of a chat format: conversations framed by the contract have the ids that the model's own Jinja template gives.

Jinja runs here, when a release is packaged, and nowhere else. The template runs under two clocks, for one that looks at the time
would make another prompt every day.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from export.generator.packaged import TEMPLATE_FILE
from twinline.contract.answers.chat_formats import ChatFormat, Frame, Role, chat_format
from twinline.contract.answers.prompt import conversation_ids
from twinline.contract.answers.specification import AnswerContract
from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.errors import MismatchError

# System text and turns, the last one a question.
PROBES: Final[tuple[tuple[str, tuple[tuple[Role, str], ...]], ...]] = (
    ("Answer briefly.", (("user", "Hi"),)),
    ("Answer briefly.", (("user", "What is 1 + 1?"), ("assistant", "2."), ("user", "And 12 + 30?"))),
    ("İki dil: Türkçe ve 日本語.", (("user", "Iğdır'da hava nasıl? 🌧️"), ("assistant", "雨です。"), ("user", "שלום (ok)"))),
    ("1. Quote.\n2. Cite.", (("user", "def f(x):\n    return x  # 2024"), ("assistant", "```\nf\n```"), ("user", "| a | b |"))),
    ("Rules\n\n1. one\n\n2. two", (("user", "\"q\""), ("assistant", "a"), ("user", "b"), ("assistant", "c"), ("user", "d?"))),
)  # fmt: skip
_CLOCKS: Final = (datetime(2024, 2, 29, 23, 59, tzinfo=UTC), datetime(2031, 7, 4, 8, 1, tzinfo=UTC))


def read_template(folder: Path) -> str:
    """Return the chat template of a model's folder.

    Raises:
        MismatchError: the folder has none.
    """
    if (folder / TEMPLATE_FILE).is_file():
        return (folder / TEMPLATE_FILE).read_text("utf-8")
    path = folder / "tokenizer_config.json"
    found = json.loads(path.read_bytes()).get("chat_template") if path.is_file() else None
    if isinstance(found, list):
        found = next((each["template"] for each in found if each.get("name") == "default"), None)
    if not isinstance(found, str):
        raise MismatchError(
            f"{folder} has no chat template ({TEMPLATE_FILE}, or `chat_template` in tokenizer_config.json): a model without one "
            "was not trained on turns; choose an instruct model, or add the template that it was trained with"
        )
    return found


def prove_format(contract: AnswerContract, tokenizer_json: bytes, template: str, place: str) -> None:
    """Compare the contract's frame with the model's own template, id by id.

    Args:
        template: the model's, in Jinja.
        place: where it comes from, for errors.

    Raises:
        MismatchError: the template gives other ids, depends on the time, or does not render.
    """
    tokenizer = AnswerTokenizer(tokenizer_json)
    chat = chat_format(contract.chat_format, contract.chat_version, place)
    frame = Frame(chat, tokenizer)
    plain = Tokenizer.from_str(tokenizer_json.decode())
    for system, turns in PROBES:
        text, later = (_render(template, chat, _messages(chat, system, turns), clock, place) for clock in _CLOCKS)
        if text != later:
            at = _first_difference(text, later)
            raise MismatchError(
                f"{place}: the chat template depends on the time ({text[at:][:20]!r}, {later[at:][:20]!r}): prompts "
                "would change by the day; choose another model, or remove the date from its template and train it so"
            )
        theirs = tuple(plain.encode(text, add_special_tokens=False).ids)
        ours = conversation_ids(frame, tokenizer, system, turns)
        if ours != theirs:
            at = _first_difference(ours, theirs)
            raise MismatchError(
                f"{place}: {chat.place} gives {len(ours)} ids, the model's own template {len(theirs)}; they part at {at}: "
                f"{_shown(plain, ours, at)} against {_shown(plain, theirs, at)}. Choose a model whose template is "
                f"{chat.name}'s, or add its format to contract/answers/chat_formats.py"
            )


def _messages(chat: ChatFormat, system: str, turns: Sequence[tuple[Role, str]]) -> list[dict[str, str]]:
    messages = [{"role": role, "content": text} for role, text in turns]
    if chat.has_system:
        return [{"role": "system", "content": system}, *messages]
    messages[0]["content"] = f"{system}{chat.joint}{messages[0]['content']}"
    return messages


def _render(template: str, chat: ChatFormat, messages: Sequence[Mapping[str, str]], clock: datetime, place: str) -> str:
    """Return the text of a conversation by a template, as transformers renders one."""

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.globals |= {"raise_exception": refuse, "strftime_now": clock.strftime}
    begin = chat.begin[0] if chat.begin else ""
    try:
        compiled = environment.from_string(template)
        return compiled.render(messages=messages, add_generation_prompt=True, bos_token=begin, eos_token=chat.stops[0])
    except TemplateError as exc:
        raise MismatchError(f"{place}: the chat template does not render: {exc}; choose another model") from exc


def _shown(tokenizer: Tokenizer, ids: Sequence[int], at: int) -> str:
    return repr(tokenizer.decode(list(ids[max(at - 4, 0) : at + 6]), skip_special_tokens=False))


def _first_difference(first: Sequence[object], second: Sequence[object]) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
