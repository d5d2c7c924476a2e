"""The one entry into the prompt contract: a question to ids, ids to an answer.

Training, export, the model server, the answer API and `trace` all come through here:

    question, history, passages ──prompt──> ids ──engine, with the constraint──> ids ──reader──> text, citations, outcome
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from twinline.contract.answers.chat_formats import Frame, chat_format
from twinline.contract.answers.grammar import AnswerConstraint, Grammar
from twinline.contract.answers.messages import Message
from twinline.contract.answers.passages import Passage, question_ids
from twinline.contract.answers.prompt import Prompt, build_prompt
from twinline.contract.answers.reading import AnswerReader
from twinline.contract.answers.selfcheck import check_answers_in_code
from twinline.contract.answers.specification import FRAME_TOKENS, AnswerContract, check_stop_ids
from twinline.contract.answers.tokens import AnswerTokenizer
from twinline.contract.errors import MismatchError


class AnswerRules:
    """A prompt contract made runnable. Thread-safe.

    Raises:
        MismatchError: the tokenizer is not the contract's, or contract and tokenizer do not fit each other.
    """

    def __init__(self, contract: AnswerContract, tokenizer_json: bytes) -> None:
        check_answers_in_code()
        self.contract = contract
        self.tokenizer_json = tokenizer_json
        self.tokenizer = AnswerTokenizer(tokenizer_json)
        if self.tokenizer.sha256 != contract.tokenizer_sha256:
            raise MismatchError(
                f"tokenizer.json has the hash {self.tokenizer.sha256}, the prompt contract names {contract.tokenizer_sha256}: "
                "put back the file that the release was made with"
            )
        self.grammar = Grammar(contract, self.tokenizer)
        self._check_frame()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `prompt_contract.json` and `tokenizer.json` of a generator or a release of one."""
        return cls(*AnswerContract.load(folder))

    def prompt(self, question: str, history: Sequence[Message] = (), passages: Sequence[Passage] = ()) -> Prompt:
        """Return a question's prompt; see `build_prompt`."""
        return build_prompt(self.contract, self.tokenizer, question, history, passages)

    def constraint(self, prompt: Prompt) -> AnswerConstraint:
        """Return the constraint of one answer to a prompt."""
        return self.grammar.constraint(prompt.passages)

    def reader(self, prompt: Prompt) -> AnswerReader:
        """Return the reader of one answer to a prompt."""
        return AnswerReader(self.grammar, prompt)

    def _check_frame(self) -> None:
        contract = self.contract
        frame = Frame(chat_format(contract.chat_format, contract.chat_version, "the prompt contract"), self.tokenizer)
        check_stop_ids(contract, frame.stop_ids, f"chat format {contract.chat_format}@{contract.chat_version}")
        if contract.stop_ids[0] != frame.stop_ids[0]:
            raise MismatchError(
                f"the prompt contract's first stop id is {contract.stop_ids[0]}, the chat format ends a turn with "
                f"{frame.stop_ids[0]}: training would append an id that ends no turn"
            )
        if contract.pad_id >= self.tokenizer.vocabulary or self.tokenizer.token_bytes[contract.pad_id] is not None:
            raise MismatchError(f"pad_id {contract.pad_id} is no special token: padding would count as text")
        system = len(self.tokenizer.encode(contract.system_text))
        if system > contract.budgets.system:
            raise MismatchError(f"the system text has {system} tokens, its budget is {contract.budgets.system}: raise the budget")
        framed = len(self.prompt("?").ids) - system - len(question_ids(self.tokenizer, "?")[1])
        if framed > FRAME_TOKENS:
            raise MismatchError(f"the frame has {framed} tokens, {FRAME_TOKENS} are kept for it: the tokenizer does not fit")
