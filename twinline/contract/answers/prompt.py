"""`build_prompt`: the one place where a prompt's ids are made, for training, evaluation, golden prompts and serving.

Pure: no clock, no setting, no template language. Ids are joined, never strings, and every text is encoded as data. The head
(system text) is the same for all prompts of a release; passages and question come last, so that what is equal can be cached.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from twinline.contract.answers.chat_formats import Frame, Role, chat_format
from twinline.contract.answers.languages import language_note
from twinline.contract.answers.messages import Message, check_history, question_text
from twinline.contract.answers.packing import Packed, pack
from twinline.contract.answers.passages import Passage, Shown, no_passage_ids, question_ids
from twinline.contract.answers.specification import AnswerContract
from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.canonical import JSON, fingerprint
from twinline.contract.errors import ContractError, DocumentError, MismatchError

Part = Literal["frame", "system", "history", "passage", "question"]
PROMPT_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Segment:
    """The ids `[start, end)` of a prompt that are one part; `number` is a passage's."""

    part: Part
    start: int
    end: int
    number: int | None = None


@dataclass(frozen=True, slots=True)
class PassageReport:
    """What a prompt shows of one passage."""

    number: int
    tokens: int
    is_cut: bool
    is_title_cut: bool


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """Tokens of each part, and everything that was left out: nothing is cut without a line here.

    `history` counts the frames of earlier turns too, `frame` the rest of them.
    """

    system: int
    history: int
    question: int
    frame: int
    passages: tuple[PassageReport, ...]
    total: int
    history_left_out: int
    passages_left_out: int

    @property
    def is_whole(self) -> bool:
        """Return whether the prompt has everything that was given."""
        cut = any(each.is_cut or each.is_title_cut for each in self.passages)
        return not (cut or self.history_left_out or self.passages_left_out)

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form."""
        return {**asdict(self), "passages": [asdict(each) for each in self.passages]}


@dataclass(frozen=True, slots=True)
class Prompt:
    """Ids for the engine, and all that is needed to read the answer.

    Attributes:
        head: how many of the first ids are the same for every prompt of the release.
        question: as the prompt has it.
        history: the turns that the prompt has.
        note: what is to be said beside the answer; empty for nothing.
        contract: fingerprint of the prompt contract.
    """

    ids: tuple[int, ...]
    head: int
    segments: tuple[Segment, ...]
    budget: BudgetReport
    question: str
    history: tuple[Message, ...]
    passages: tuple[Shown, ...]
    note: str
    contract: str

    @property
    def fingerprint(self) -> str:
        """Return the hash of contract and ids: 64 hexadecimal digits."""
        return fingerprint({"schema": PROMPT_SCHEMA, "contract": self.contract, "ids": list(self.ids)})


def build_prompt(
    contract: AnswerContract,
    tokenizer: AnswerTokenizer,
    question: str,
    history: Sequence[Message] = (),
    passages: Sequence[Passage] = (),
) -> Prompt:
    """Return the prompt of a question, its history and its passages.

    Args:
        contract: its system text is the only one.
        history: questions and answers in turn, without the question itself. The oldest are left out where it is over its budget.
        passages: best first, packed by the contract's rule.

    Raises:
        DocumentError: the question is empty or over its budget, or the history is none; see `messages`.
        MismatchError: the tokenizer is not the contract's.
    """
    if tokenizer.sha256 != contract.tokenizer_sha256:
        raise MismatchError(
            f"the tokenizer has the hash {tokenizer.sha256}, the prompt contract names {contract.tokenizer_sha256}: "
            "open the release again"
        )
    frame = Frame(chat_format(contract.chat_format, contract.chat_version, "the prompt contract"), tokenizer)
    asked = question_text(question)
    before, question_tokens = question_ids(tokenizer, asked)
    if len(question_tokens) > contract.budgets.question:
        raise DocumentError(
            "question_too_long",
            f"the question has {len(question_tokens)} tokens, the budget is {contract.budgets.question}: ask in fewer words",
        )
    turns, history_tokens, kept = _history(frame, tokenizer, check_history(history), contract.budgets.history)
    packed = pack(tokenizer, passages, contract.budgets.passages)
    last = [_Piece("passage", shown.ids, shown.number) for shown in packed.shown]
    last += [] if packed.shown else [_Piece("frame", no_passage_ids(tokenizer))]
    last += [_Piece("frame", before), _Piece("question", question_tokens)]
    system = _Piece("system", tokenizer.encode(contract.system_text))
    pieces = list(lay_out(frame, system, [*turns, ("user", last)]))
    ids = tuple(identity for piece in pieces for identity in piece.ids)
    report = _report(packed, history_tokens, len(question_tokens), len(system.ids), len(ids), len(history) - len(kept))
    if report.total + contract.budgets.answer > contract.budgets.context:
        raise ContractError(
            f"the prompt has {report.total} tokens, {contract.budgets.answer} are kept for the answer, the context has "
            f"{contract.budgets.context}: lower a budget of the prompt contract"
        )
    segments = tuple(_segments(pieces))
    return Prompt(
        ids=ids,
        head=next(segment.end for segment in segments if segment.part == "system"),
        segments=segments,
        budget=report,
        question=asked,
        history=kept,
        passages=packed.shown,
        note=language_note(asked, contract.languages),
        contract=contract.fingerprint,
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    part: Part
    ids: tuple[int, ...]
    number: int | None = None


_Turn = tuple[Role, Sequence[_Piece]]


def lay_out(frame: Frame, system: _Piece, turns: Sequence[_Turn]) -> Iterator[_Piece]:
    """Yield the pieces of a conversation in order, the header of the answer last."""
    yield _Piece("frame", frame.begin)
    if frame.chat.has_system:
        yield from (_Piece("frame", frame.headers["system"]), system, _Piece("frame", frame.footer))
    for place, (role, content) in enumerate(turns):
        yield _Piece("frame", frame.headers[role])
        if place == 0 and not frame.chat.has_system:
            yield from (system, _Piece("frame", frame.joint))
        yield from content
        yield _Piece("frame", frame.footer)
    yield _Piece("frame", frame.headers["assistant"])


def conversation_ids(frame: Frame, tokenizer: AnswerTokenizer, system: str, turns: Sequence[tuple[Role, str]]) -> tuple[int, ...]:
    """Return the ids of plain turns, as `build_prompt` would frame them: for the proof against a model's own template."""
    pieces: list[_Turn] = [(role, [_Piece("history", tokenizer.encode(text))]) for role, text in turns]
    laid = lay_out(frame, _Piece("system", tokenizer.encode(system)), pieces)
    return tuple(identity for piece in laid for identity in piece.ids)


def _history(
    frame: Frame, tokenizer: AnswerTokenizer, history: tuple[Message, ...], budget: int
) -> tuple[list[_Turn], int, tuple[Message, ...]]:
    """Return the newest whole turns within a budget, their tokens with frames, and their messages."""
    turns: list[_Turn] = []
    tokens = 0
    for place in range(len(history) - 2, -1, -2):
        pair = [(message.role, tokenizer.encode(message.text)) for message in history[place : place + 2]]
        cost = sum(len(frame.headers[role]) + len(ids) + len(frame.footer) for role, ids in pair)
        if tokens + cost > budget:
            break
        tokens += cost
        turns = [*((role, [_Piece("history", ids)]) for role, ids in pair), *turns]
    return turns, tokens, history[len(history) - len(turns) :]


def _report(packed: Packed, history: int, question: int, system: int, total: int, left_out: int) -> BudgetReport:
    return BudgetReport(
        system=system,
        history=history,
        question=question,
        frame=total - system - history - question - packed.tokens,
        passages=tuple(PassageReport(each.number, len(each.ids), each.is_cut, each.is_title_cut) for each in packed.shown),
        total=total,
        history_left_out=left_out,
        passages_left_out=packed.left_out,
    )


def _segments(pieces: Sequence[_Piece]) -> Iterator[Segment]:
    start = 0
    for piece in pieces:
        if piece.ids:
            yield Segment(piece.part, start, start + len(piece.ids), piece.number)
        start += len(piece.ids)
