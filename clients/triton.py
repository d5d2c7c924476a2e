"""Embedding by Triton, and control of its models.

An embedder checks before its first use of a server that it runs the encoder that was asked for: the space in the model's config,
and one golden text whose vector the training framework computed. After that every answer brings its space along. Where there
are several servers, each is checked by itself, they take turns, and one that is away costs no query.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Final, Self, TypeVar

import numpy as np

from clients.served_model import ServedModel, read_served_model
from clients.triton_transport import Transport, TransportName, addresses, open_transport
from contract import tensors
from contract.embedding import Embeddings
from contract.errors import ContractError, DocumentError, MismatchError, TransientError
from contract.golden import PARITY_LIMITS
from contract.specification import Role

_OUTPUTS: Final = (tensors.EMBEDDING, tensors.TOKEN_COUNT, tensors.TRUNCATED, tensors.SPACE)
# Who waits at a page goes before who fills an index.
_PRIORITY: Final[dict[Role, int]] = {"query": 1, "document": 2}
# A query waits for at most the one batch that is running: small pieces keep that wait short, and on a CPU are no slower.
_PIECE_TEXTS: Final = 8
_TIMEOUT_SECONDS: Final = 30.0
# Loading compiles the model and warms it up.
_LOAD_TIMEOUT_SECONDS: Final = 300.0
# A server that did not answer is passed over for so long, twice as long each time: one that hangs holds up whoever asks it.
_FIRST_REST_SECONDS: Final = 1.0
_LONGEST_REST_SECONDS: Final = 60.0
T = TypeVar("T")


class TritonEmbedder:
    """Implements `contract.embedding.Embedder` by the ensemble `embed_<release>`. Thread-safe."""

    def __init__(self, url: str, release: str, expected_space: str, protocol: TransportName = "grpc", *, model: str = "") -> None:
        """Connect lazily: nothing is sent before the first use.

        Args:
            url: `host:port` of the endpoint of `protocol`; several servers that serve the same, with commas between them.
            release: whose ensemble to call.
            expected_space: of the release's manifest; any other is refused.
            protocol: gRPC is quicker, HTTP passes more proxies.
            model: another name that must stand for the same encoder, such as `embed`.
        """
        self._model = model or f"embed_{release}"
        self._space = expected_space
        self._replicas = [
            _Replica(address, open_transport(address, protocol, _TIMEOUT_SECONDS), self._model, expected_space)
            for address in addresses(url)
        ]
        self._turns = count()

    @property
    def space(self) -> str:
        """Return the space that was asked for, which is the only one that this embedder gives."""
        return self._space

    def embed(self, texts: Sequence[str], role: Role) -> Embeddings:
        """Return one vector a text, in order; many texts go in small pieces of like length.

        Raises:
            TransientError: Triton is away, busy, or has not loaded the model yet.
            DocumentError: a text cannot be sent at all.
            MismatchError: Triton serves another encoder under this release's name.
        """
        served = self.check()
        vectors = np.empty((len(texts), served.dimension), dtype=np.float32)
        token_counts = np.empty(len(texts), dtype=np.int32)
        truncated = np.empty(len(texts), dtype=np.bool_)
        encoded = [_utf8(text) for text in texts]
        for rows in _pieces(encoded, min(_PIECE_TEXTS, served.max_batch_size)):
            answer = self._infer([encoded[row] for row in rows], role)
            vectors[rows] = answer.vectors
            token_counts[rows] = answer.token_counts
            truncated[rows] = answer.truncated
        return Embeddings(vectors, token_counts, truncated, self._space)

    def check(self) -> ServedModel:
        """Make sure, once a server, that Triton serves the encoder that was asked for; return what its config says.

        Raises:
            TransientError: Triton is away, or has not loaded the model.
            MismatchError: space or golden vector are another encoder's.
        """
        # One that was checked speaks for all of them: each is checked again by itself before it is used.
        known = next((replica.checked for replica in self._replicas if replica.checked), None)
        return known or self._on_a_replica(lambda replica: replica.check())

    def close(self) -> None:
        """Close the connections."""
        for replica in self._replicas:
            replica.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _infer(self, texts: Sequence[bytes], role: Role) -> Embeddings:
        return self._on_a_replica(lambda replica: replica.embed(texts, role))

    def _on_a_replica(self, call: Callable[["_Replica"], T]) -> T:
        """Return what a call returns on the server whose turn it is, or else on the next one that answers.

        Only what may pass sends a call on: a server with another encoder is refused, not gone around.
        """
        failures: list[TransientError] = []
        for replica in self._in_turn():
            try:
                answer = call(replica)
            except TransientError as exc:
                replica.rest()
                failures.append(exc)
            else:
                replica.answered()
                return answer
        raise failures[0]

    def _in_turn(self) -> list["_Replica"]:
        first = next(self._turns) % len(self._replicas)
        turned = self._replicas[first:] + self._replicas[:first]
        # One that rests is asked last, and so only when nobody else answers. Sorting keeps the order of equals.
        return sorted(turned, key=lambda replica: replica.rests())


class _Replica:
    """One server: its connection, whether it was found to serve the right encoder, and until when it is passed over."""

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

    def answered(self) -> None:
        self._rest_seconds = self._rests_until = 0.0

    def check(self) -> ServedModel:
        with self._lock:
            if self.checked is None:
                served = read_served_model(self.transport.config(self._model), self._model)
                self._check_space(served.space)
                self._check_golden(served)
                self.checked = served
            return self.checked

    def embed(self, texts: Sequence[bytes], role: Role) -> Embeddings:
        self.check()
        return self._infer(texts, role)

    def _infer(self, texts: Sequence[bytes], role: Role) -> Embeddings:
        column = np.array(list(texts), dtype=np.object_)[:, None]
        roles = np.full(column.shape, role.encode(), dtype=np.object_)
        try:
            found = self.transport.infer(self._model, {tensors.TEXT: column, tensors.ROLE: roles}, _OUTPUTS, _PRIORITY[role])
        except TransientError:
            # A server that was away may come back with other files.
            self.checked = None
            raise
        for space in {_decoded(value) for value in found[tensors.SPACE].reshape(-1)}:
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

    def _check_golden(self, served: ServedModel) -> None:
        found = self._infer([_utf8(served.golden.text)], served.golden.role).vectors[0]
        distance, limit = served.golden.distance(found), PARITY_LIMITS[served.precision]
        if distance > limit:
            raise MismatchError(
                f"Triton at {self._address}, `{self._model}`: golden text {served.golden.name!r} comes out {distance:.1e} away "
                f"from the training framework's vector, {served.precision} allows {limit:.0e}: publish the release again, "
                "and check the backend's precision on this machine"
            )


class TritonControl:
    """Loads and unloads models of one server, and says what is there."""

    def __init__(self, url: str, protocol: TransportName = "grpc") -> None:
        """Connect lazily to `host:port`."""
        self.address = url
        self._transport: Transport = open_transport(url, protocol, _LOAD_TIMEOUT_SECONDS)

    def ready(self, model: str = "") -> bool:
        """Return whether the server, or one model of it, can be used; False as well when nobody answers."""
        try:
            return self._transport.is_ready(model)
        except TransientError:
            return False

    def load(self, model: str) -> None:
        """Load a model and, for an ensemble, its members; a model that is loaded and whose files changed is swapped.

        Raises:
            TransientError: Triton is away.
            ContractError: Triton cannot load it; the message says why.
        """
        try:
            self._transport.load(model)
        except TransientError as exc:
            if not self.ready():
                raise
            # Triton is there and says no. The same files will get the same answer.
            raise ContractError(str(exc)) from exc

    def unload(self, model: str, *, with_members: bool = False) -> None:
        """Unload a model; `with_members` takes an ensemble's own models along, which must not serve another one."""
        self._transport.unload(model, with_members)

    def models(self) -> dict[str, str]:
        """Return the state of each model in the repository (`READY`, `UNAVAILABLE`, ...); empty: never loaded."""
        return {entry["name"]: entry.get("state", "") for entry in self._transport.index()}

    def space(self, model: str) -> str:
        """Return the space that a loaded `embed` ensemble serves.

        Raises:
            TransientError: Triton is away, or has not loaded the model.
            MismatchError: its config names another space than its answers: it points at the models of another release.
        """
        served = read_served_model(self._transport.config(model), model)
        text, role = _utf8(served.golden.text), served.golden.role
        column = {tensors.TEXT: np.array([[text]], np.object_), tensors.ROLE: np.array([[role.encode()]], np.object_)}
        found = self._transport.infer(model, column, _OUTPUTS, _PRIORITY["query"])
        answered = _decoded(found[tensors.SPACE].reshape(-1)[0])
        distance = served.golden.distance(found[tensors.EMBEDDING][0])
        if answered != served.space or distance > PARITY_LIMITS[served.precision]:
            raise MismatchError(
                f"Triton's model `{model}` says space {served.space} in its config, answers from space {answered}, and is "
                f"{distance:.1e} away on golden text {served.golden.name!r}: its config is stale; switch to its release again"
            )
        return served.space

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def _pieces(texts: Sequence[bytes], size: int) -> Iterator[list[int]]:
    """Yield rows, at most `size` at a time, shortest texts first: a piece is padded to its longest text."""
    by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(by_length), size):
        yield by_length[start : start + size]


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise DocumentError("lone_surrogate", f"the text has half a surrogate pair at {exc.start}") from exc


def _decoded(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
