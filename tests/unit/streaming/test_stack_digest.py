from collections.abc import Callable

from streaming.stack_digest import stack_digest
from twinline.contract.errors import ContractError


def refuse(text: str) -> None:
    raise ContractError(f"refused: {text}")


def refuse_elsewhere(text: str) -> None:
    raise ContractError(f"refused: {text}")


def caught(raises: Callable[[], object]) -> Exception:
    try:
        raises()
    except (ContractError, ValueError, RecursionError) as exc:
        return exc
    raise AssertionError


def wrapped(text: str) -> None:
    try:
        int(text)
    except ValueError as exc:
        raise ContractError("no number") from exc


def test_failures_of_one_kind_have_one_digest_whatever_they_say() -> None:
    digests = {stack_digest(caught(lambda text=text: refuse(text))) for text in ("a", "b")}  # type: ignore[misc]
    assert len(digests) == 1


def test_another_place_another_type_or_another_cause_has_another_digest() -> None:
    errors = [
        caught(lambda: refuse("a")),
        caught(lambda: refuse_elsewhere("a")),
        caught(lambda: int("x")),
        caught(lambda: wrapped("x")),
        ContractError("never raised"),
    ]
    assert len({stack_digest(error) for error in errors}) == len(errors)


def test_an_error_that_leads_back_to_itself_ends() -> None:
    error = ContractError("a")
    error.__cause__ = error
    assert len(stack_digest(error)) == 12


def test_a_runaway_recursion_is_cut() -> None:
    def recurse() -> None:
        recurse()

    assert len(stack_digest(caught(recurse))) == 12
