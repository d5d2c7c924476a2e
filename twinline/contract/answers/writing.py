"""Writing an answer as the grammar reads it: the ids that a generator is trained on and compared with.

Each segment is encoded apart, as the mask makes it: joined text would merge tokens across a quotation mark, and training would
show ids that serving never gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from twinline.contract.answers.grammar import Grammar
from twinline.contract.answers.passages import Shown, label_ids
from twinline.contract.errors import ContractError, DocumentError


@dataclass(frozen=True, slots=True)
class Statement:
    """A quote of passage `number`, and the sentence behind it, which may be empty."""

    number: int
    quote: str
    sentence: str = ""


def answer_ids(grammar: Grammar, passages: Sequence[Shown], statements: Sequence[Statement]) -> tuple[int, ...]:
    """Return the ids of an answer, the first stop id last; without statements, of the refusal.

    Args:
        passages: as the prompt shows them.

    Raises:
        DocumentError: the grammar does not allow the answer (`no_answer`), such as a quote that its passage does not have.
    """
    ids: list[int] = []
    for statement in statements:
        ids += grammar.line_ids if ids else ()
        ids += (*label_ids(grammar.tokenizer, statement.number), *grammar.open_ids)
        ids += (*grammar.tokenizer.encode(statement.quote), grammar.close_id)
        ids += grammar.tokenizer.encode(f" {statement.sentence}") if statement.sentence else ()
    ids = [*(ids or grammar.refusal_ids), grammar.stop_ids[0]]
    constraint = grammar.constraint(passages)
    for place, token in enumerate(ids):
        try:
            constraint.advance(token)
        except ContractError as exc:
            said = grammar.tokenizer.decode(ids[: place + 1])
            raise DocumentError("no_answer", f"the grammar ends the answer at token {place}, {said[-60:]!r}: {exc}") from exc
    return tuple(ids)
