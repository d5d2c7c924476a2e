"""A caller does what it has the right to, on the documents that are its own, and nothing further."""

import pytest

from twinline.contract.errors import ContractError
from twinline.contract.principal import LOCAL_OPERATOR, NotAllowedError, Principal, Right

READER = Principal("ann", frozenset({"search"}), frozenset({"red"}), frozenset({"notes"}))


@pytest.mark.parametrize("right", ["search", "publish", "erase", "release"])
def test_the_local_operator_may_do_everything_everywhere(right: Right) -> None:
    LOCAL_OPERATOR.require(right)
    LOCAL_OPERATOR.require(right, tenant="red", source="notes")


def test_a_right_that_was_not_given_is_refused_with_those_that_were() -> None:
    with pytest.raises(NotAllowedError, match=r"ann has no right to publish \(it has: search\)"):
        READER.require("publish", tenant="red", source="notes")
    with pytest.raises(NotAllowedError, match=r"it has: none"):
        Principal("bob", frozenset()).require("search")


@pytest.mark.parametrize(
    ("tenant", "source", "said"),
    [
        ("blue", "notes", "may search for tenant 'red', not for tenant 'blue'"),
        ("red", "mail", "may search for source 'notes', not for source 'mail'"),
        # that name none, and so reach the documents of all
        (None, "notes", "not for every tenant"),
        ("red", None, "not for every source"),
    ],
)
def test_a_caller_reaches_no_documents_but_its_own(tenant: str | None, source: str | None, said: str) -> None:
    READER.require("search", tenant="red", source="notes")
    with pytest.raises(ContractError, match=said):
        READER.require("search", tenant=tenant, source=source)


def test_a_caller_without_any_tenant_reaches_nothing() -> None:
    with pytest.raises(NotAllowedError, match="may search for tenant none"):
        Principal("eve", frozenset({"search"}), frozenset()).require("search", tenant="red")


def test_the_name_that_records_carry_changes_no_right() -> None:
    signing = READER.signing("ann@host")
    assert signing.name == "ann@host"
    assert (signing.rights, signing.tenants, signing.sources) == (READER.rights, READER.tenants, READER.sources)
