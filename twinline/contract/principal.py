"""Who asks: what a caller may do, and of whose documents. An entry point makes one, and everything below takes it as it is."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, Literal, Self, get_args

from twinline.contract.errors import ContractError

Right = Literal["search", "publish", "erase", "release"]


class NotAllowedError(ContractError):
    """The caller has no right to this act, or none to do it on these documents."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller.

    Args:
        name: what records sign with, such as `user@host`.
        rights: the acts that it may do.
        tenants: those whose documents it may reach; None: every one's, and documents without a tenant.
        sources: the sources that it may reach; None: every one.
    """

    name: str
    rights: frozenset[Right]
    tenants: frozenset[str] | None = None
    sources: frozenset[str] | None = None

    def signing(self, name: str) -> Self:
        """Return the same caller under the name that records are to carry."""
        return replace(self, name=name)

    def require(self, right: Right, *, tenant: str | None = None, source: str | None = None) -> None:
        """Make sure that the caller may do an act.

        Args:
            tenant: whose documents the act reaches; None: every tenant's.
            source: the source that the act reaches; None: every source.

        Raises:
            NotAllowedError: it lacks the right, or the act reaches further than its tenants or sources.
        """
        if right not in self.rights:
            held = ", ".join(sorted(self.rights)) or "none"
            raise NotAllowedError(f"{self.name} has no right to {right} (it has: {held}): ask for the right, or ask as another")
        self._require_within("tenant", tenant, self.tenants, right)
        self._require_within("source", source, self.sources, right)

    def _require_within(self, field: str, wanted: str | None, allowed: Collection[str] | None, right: Right) -> None:
        if allowed is None or wanted in allowed:
            return
        asked = f"every {field}" if wanted is None else f"{field} {wanted!r}"
        named = ", ".join(repr(name) for name in sorted(allowed)) or "none"
        raise NotAllowedError(f"{self.name} may {right} for {field} {named}, not for {asked}: name one of its own")


# The person or scheduler that runs a command on this machine. Access to the machine is access to everything of it.
LOCAL_OPERATOR: Final = Principal("local operator", frozenset(get_args(Right)))
