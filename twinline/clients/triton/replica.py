"""One Triton server of an embedder: checked before its first use, skipped for a while after it was away."""

import threading
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from twinline.clients.triton.served_model import EMBED_OUTPUTS, PRIORITIES, ServedModel, decoded, read_served_model, text_bytes
from twinline.clients.triton.transport import Transport
from twinline.contract.encoder import tensors
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.golden import PARITY_LIMITS
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import MismatchError, TransientError

# How long a server without an answer is skipped, doubled each time: a hanging server delays its callers.
_FIRST_REST_SECONDS: Final = 1.0
_LONGEST_REST_SECONDS: Final = 60.0


class Replica:
    """One server: its connection, the result of its check, and the end of its rest."""

    def __init__(self, address: str, transport: Transport, model: str, space: str) -> None:
        self.transport = transport
        self._address = address
        self._model = model
        self._space = space
        self.checked: ServedModel | None = None
        self._lock = threading.Lock()
        self._rest_seconds = 0.0
        self._rests_until = 0.0

    def rests(self) -> bool:
        return time.monotonic() < self._rests_until

    def rest(self) -> None:
        self._rest_seconds = min(max(_FIRST_REST_SECONDS, 2 * self._rest_seconds), _LONGEST_REST_SECONDS)
        self._rests_until = time.monotonic() + self._rest_seconds

    def asked(self, until: float) -> None:
        # After a rest one caller tries it; all others skip it while that one waits.
        if self._rest_seconds:
            self._rests_until = until

    def answered(self) -> None:
        self._rest_seconds = self._rests_until = 0.0

    def check(self, until: float) -> ServedModel:
        if self.checked is not None:
            return self.checked
        # A checking caller may wait for a hanging server; the callers behind it have deadlines too.
        if not self._lock.acquire(timeout=_left(until)):
            raise TransientError(f"Triton at {self._address} does not answer while it is being checked; check `twinline status`")
        try:
            if self.checked is None:
                served = read_served_model(self.transport.config(self._model, _left(until)), self._model)
                self._check_space(served.space)
                self._check_golden(served, until)
                self.checked = served
            return self.checked
        finally:
            self._lock.release()

    def embed(self, texts: Sequence[bytes], role: Role, until: float) -> Embeddings:
        self.check(until)
        return self._infer(texts, role, until)

    def _infer(self, texts: Sequence[bytes], role: Role, until: float) -> Embeddings:
        column = np.array(list(texts), dtype=np.object_)[:, None]
        roles = np.full(column.shape, role.encode(), dtype=np.object_)
        try:
            sent = {tensors.TEXT: column, tensors.ROLE: roles}
            found = self.transport.infer(self._model, sent, EMBED_OUTPUTS, PRIORITIES[role], _left(until))
        except TransientError as exc:
            # A server that was away may come back with other files; a busy one was not away.
            if exc.retry_after_seconds is None:
                self.checked = None
            raise
        for space in {decoded(value) for value in found[tensors.SPACE].reshape(-1)}:
            self._check_space(space)
        return Embeddings(
            vectors=found[tensors.EMBEDDING],
            token_counts=found[tensors.TOKEN_COUNT].reshape(-1),
            truncated=found[tensors.TRUNCATED].reshape(-1),
            space=self._space,
        )

    def _check_space(self, space: str) -> None:
        if space != self._space:
            raise MismatchError(
                f"Triton at {self._address} serves space {space} as `{self._model}`, the release has {self._space}: "
                "publish the release again"
            )

    def _check_golden(self, served: ServedModel, until: float) -> None:
        found = self._infer([text_bytes(served.golden.text)], served.golden.role, until).vectors[0]
        distance, limit = served.golden.distance(found), PARITY_LIMITS[served.precision]
        if distance > limit:
            raise MismatchError(
                f"Triton at {self._address}, `{self._model}`: golden text {served.golden.name!r} comes out {distance:.1e} away "
                f"from the training framework's vector, {served.precision} allows {limit:.0e}: publish the release again, "
                "and check the backend's precision on this machine"
            )


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)
