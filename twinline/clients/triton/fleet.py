"""All Triton servers that serve the same releases, with one model repository for all or one for each.

Every act runs on every server. A server that refuses or is away is named, and does not stop the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from twinline.clients.settings import Settings
from twinline.clients.triton.control import TritonControl
from twinline.clients.triton.transport import addresses
from twinline.contract.errors import ContractError, TransientError

T = TypeVar("T")


@dataclass(frozen=True)
class Replica:
    """One server and the folder that it serves from."""

    address: str
    repository: Path
    control: TritonControl


class TritonFleet:
    """All servers; each act runs on every one."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = tuple(replicas)

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Connect lazily to every server that the settings name."""
        servers, folders = addresses(settings.triton_grpc_address), settings.model_repositories
        of_each = folders if len(folders) > 1 else folders * len(servers)
        return cls([Replica(server, folder, TritonControl(server)) for server, folder in zip(servers, of_each, strict=True)])

    def require_all(self) -> None:
        """Raise TransientError naming the servers that do not answer."""
        away = [replica.address for replica in self.replicas if not replica.control.ready()]
        if away:
            raise TransientError(
                f"no Triton answers at {', '.join(away)} ({len(away)} of {len(self.replicas)}): start it with `twinline up`, or "
                "set TWINLINE_TRITON_GRPC"
            )

    def each(self, call: Callable[[Replica], T]) -> list[T]:
        """Call for every server, and return the answers in their order.

        Raises:
            ContractError: a server refused; the others were called nevertheless.
            TransientError: a server is away, and none refused.
        """
        answers: list[T] = []
        failures: list[ContractError | TransientError] = []
        for replica in self.replicas:
            try:
                answers.append(call(replica))
            except (ContractError, TransientError) as exc:
                failures.append(exc)
        if failures:
            # Permanent failures first, so that callers do not retry for nothing.
            raise min(failures, key=lambda failure: isinstance(failure, TransientError))
        return answers

    def close(self) -> None:
        """Close all connections."""
        for replica in self.replicas:
            replica.control.close()
