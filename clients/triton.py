"""Embedding by Triton, and control of its models.

An embedder checks before its first use of a server that it runs the encoder that was asked for: the space in the model's config,
and one golden text whose vector the training framework computed. After that every answer brings its space along. Where there
are several servers, each is checked by itself, they take turns, and one that is away or hangs costs no query: somebody waits for
an answer to it, so it has a deadline, of which each server that is asked may take its share.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Final, Self, TypeVar

import numpy as np

from clients.served_model import ServedModel, read_served_model
from clients.triton_pieces import PieceSize, guessed_tokens
from clients.triton_transport import Transport, TransportName, addresses, open_transport
from contract import tensors
from contract.embedding import Embeddings
from contract.errors import ContractError, DocumentError, MismatchError, TransientError
from contract.golden import PARITY_LIMITS
from contract.specification import Role

_OUTPUTS: Final = (tensors.EMBEDDING, tensors.TOKEN_COUNT, tensors.TRUNCATED, tensors.SPACE)
# Who waits at a page goes before who fills an index.
_PRIORITY: Final[dict[Role, int]] = {"query": 1, "document": 2}
# Queries are asked one by one; only trials send many.
_PIECE_QUERIES: Final = 8
# Of one piece of documents on one server: nobody waits for it at a page, and beside queries it may queue for long.
_TIMEOUT_SECONDS: Final = 30.0
# Loading compiles the model and warms it up.
_LOAD_TIMEOUT_SECONDS: Final = 300.0
# A server that did not answer is passed over for so long, twice as long each time: one that hangs holds up whoever asks it.
_FIRST_REST_SECONDS: Final = 1.0
_LONGEST_REST_SECONDS: Final = 60.0
T = TypeVar("T")


class TritonEmbedder:
    """Implements `contract.embedding.Embedder` by the ensemble `embed_<release>`. Thread-safe."""

    def __init__(
        self,
        url: str,
        release: str,
        expected_space: str,
        protocol: TransportName = "grpc",
        *,
        model: str = "",
        query_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        """Connect lazily: nothing is sent before the first use.

        Args:
            url: `host:port` of the endpoint of `protocol`; several servers that serve the same, with commas between them.
            release: whose ensemble to call.
            expected_space: of the release's manifest; any other is refused.
            protocol: gRPC is quicker, HTTP passes more proxies.
            model: another name that must stand for the same encoder, such as `embed`.
            query_seconds: how long a query may wait for its vector, whichever servers hang meanwhile. Whoever answers people says
                less than a trial may take on a busy machine.
        """
        self._model = model or f"embed_{release}"
        self._space = expected_space
        self._replicas = [
            _Replica(address, open_transport(address, protocol, _TIMEOUT_SECONDS), self._model, expected_space)
            for address in addresses(url)
        ]
        self._turns = count()
        self._size = PieceSize()
        self._seconds: Final[dict[Role, float]] = {
            "query": query_seconds,
            "document": _TIMEOUT_SECONDS * len(self._replicas),
        }

    @property
    def space(self) -> str:
        """Return the space that was asked for, which is the only one that this embedder gives."""
        return self._space

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        """Return one vector a text, in order; many texts go in pieces of like length, small ones while people ask.

        Where `token_counts` are not given, lengths are guessed from bytes, and more is padded.

        Raises:
            TransientError: Triton is away, busy (then it says when to try again), or has not loaded the model yet.
            DocumentError: a text cannot be sent at all.
            MismatchError: Triton serves another encoder under this release's name.
        """
        served = self._checked(self._seconds[role])
        vectors = np.empty((len(texts), served.dimension), dtype=np.float32)
        counted = np.empty(len(texts), dtype=np.int32)
        truncated = np.empty(len(texts), dtype=np.bool_)
        encoded = [_utf8(text) for text in texts]
        lengths = token_counts if token_counts is not None else [guessed_tokens(text) for text in encoded]
        for rows in self._pieces(lengths, role, served.max_batch_size):
            answer = self._infer([encoded[row] for row in rows], role)
            vectors[rows] = answer.vectors
            counted[rows] = answer.token_counts
            truncated[rows] = answer.truncated
        return Embeddings(vectors, counted, truncated, self._space)

    def check(self) -> ServedModel:
        """Make sure, once a server, that Triton serves the encoder that was asked for; return what its config says.

        Raises:
            TransientError: Triton is away, or has not loaded the model.
            MismatchError: space or golden vector are another encoder's.
        """
        return self._checked(self._seconds["document"])

    def close(self) -> None:
        """Close the connections."""
        for replica in self._replicas:
            replica.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pieces(self, token_counts: Sequence[int], role: Role, most: int) -> Iterator[list[int]]:
        """Yield rows, shortest texts first: a piece is padded to its longest text. What is done with one is timed."""
        waiting = sorted(range(len(token_counts)), key=lambda row: token_counts[row])
        if role == "query":
            self._size.asked()
            most = min(most, _PIECE_QUERIES)
        while waiting:
            lengths = [token_counts[row] for row in waiting[:most]]
            size = most if role == "query" else self._size.of(lengths, most)
            began = time.monotonic()
            yield waiting[:size]
            if role == "document":
                self._size.took(lengths[:size], time.monotonic() - began)
            waiting = waiting[size:]

    def _checked(self, seconds: float) -> ServedModel:
        # One that was checked speaks for all of them: each is checked again by itself before it is used.
        known = next((replica.checked for replica in self._replicas if replica.checked), None)
        return known or self._on_a_replica(lambda replica, until: replica.check(until), seconds)

    def _infer(self, texts: Sequence[bytes], role: Role) -> Embeddings:
        return self._on_a_replica(lambda replica, until: replica.embed(texts, role, until), self._seconds[role])

    def _on_a_replica(self, call: Callable[["_Replica", float], T], seconds: float) -> T:
        """Return what a call returns on the server whose turn it is, or else on the next one that answers.

        Only what may pass sends a call on: a server with another encoder is refused, not gone around.

        Args:
            call: takes a server, and the moment (of `time.monotonic`) until which it may wait for it.
            seconds: for all servers together; each that is asked has an equal share of what is left for it and those after it.
        """
        failures: list[TransientError] = []
        give_up = time.monotonic() + seconds
        turned = self._in_turn()
        for place, replica in enumerate(turned):
            now = time.monotonic()
            until = now + (give_up - now) / (len(turned) - place)
            replica.asked(until)
            try:
                answer = call(replica, until)
            except TransientError as exc:
                # One that says that it has too much to do has answered, and at once: it is no waste of time to ask it again.
                if exc.retry_after_seconds is None:
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

    def asked(self, until: float) -> None:
        # Back from its rest, it is tried by one caller; all others pass it over for as long as that one waits.
        if self._rest_seconds:
            self._rests_until = until

    def answered(self) -> None:
        self._rest_seconds = self._rests_until = 0.0

    def check(self, until: float) -> ServedModel:
        if self.checked is not None:
            return self.checked
        # Whoever checks may wait for a server that hangs; who waits behind him has a deadline too.
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
            found = self.transport.infer(self._model, sent, _OUTPUTS, _PRIORITY[role], _left(until))
        except TransientError as exc:
            # A server that was away may come back with other files; one that is busy was not away.
            if exc.retry_after_seconds is None:
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

    def _check_golden(self, served: ServedModel, until: float) -> None:
        found = self._infer([_utf8(served.golden.text)], served.golden.role, until).vectors[0]
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


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise DocumentError("lone_surrogate", f"the text has half a surrogate pair at {exc.start}") from exc


def _decoded(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
