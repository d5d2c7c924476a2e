"""A caller is answered from the documents that are its own; a question that reaches further is refused before it is embedded."""

import pytest

from tests.unit.search.conftest import World
from twinline.contract.principal import LOCAL_OPERATOR, NotAllowedError, Principal
from twinline.search.query import Question, answer, answer_from

RED = Principal("ann", frozenset({"search"}), tenants=frozenset({"red"}))


def keys(world: World, question: Question, principal: Principal) -> list[str]:
    return [hit.key for hit in answer(world.releases, question, principal).hits]


@pytest.fixture
def tenants(world: World) -> World:
    world.release("r2")
    world.add("r2", "of-red", "cats", tenant="red")
    world.add("r2", "of-blue", "cats run", tenant="blue")
    world.store.active_name = "documents_r2"
    return world


def test_the_local_operator_is_answered_from_every_tenant_and_another_caller_from_its_own(tenants: World) -> None:
    assert keys(tenants, Question("cats"), LOCAL_OPERATOR) == ["of-red", "of-blue"]
    assert keys(tenants, Question("cats", tenant="red"), RED) == ["of-red"]


@pytest.mark.parametrize("question", [Question("cats"), Question("cats", tenant="blue")])
def test_a_question_that_reaches_further_is_refused_before_it_is_embedded(tenants: World, question: Question) -> None:
    served = tenants.served["r2"]
    with pytest.raises(NotAllowedError, match="ann may search for tenant 'red'"):
        answer(tenants.releases, question, RED)
    with pytest.raises(NotAllowedError, match="ann may search for tenant 'red'"):
        answer_from(served, question, RED)
    assert served.embedder.texts == []  # type: ignore[attr-defined]
