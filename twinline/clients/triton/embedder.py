"""Embedding by Triton.

An embedder checks each server before its first use: the space in the model's config, and one golden text whose vector the
training framework computed. After that every answer names its space. Several servers take turns. A query has a deadline, and each
server that is asked gets a share of it: a server that is away or hangs costs no query.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Final, Self, TypeVar

import numpy as np

from twinline.clients.triton.pieces import PieceSize, guessed_tokens
from twinline.clients.triton.replica import Replica
from twinline.clients.triton.served_model import ServedModel, text_bytes
from twinline.clients.triton.transport import TransportName, addresses, open_transport
from twinline.contract.encoder.embedding import Embeddings
from twinline.contract.encoder.limits import MAX_ENCODED_CHARS
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import TransientError

# Queries come one by one; only trials send many.
_PIECE_QUERIES: Final = 8
# For one piece of documents on one server. It may queue for long beside queries, and no person waits for it.
_TIMEOUT_SECONDS: Final = 30.0
T = TypeVar("T")


class TritonEmbedder:
    """Implements `twinline.contract.encoder.embedding.Embedder` by the ensemble `embed_<release>`. Thread-safe."""

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
            url: `host:port` of the endpoint of `protocol`; several equal servers are separated by commas.
            release: the release of the ensemble.
            expected_space: the space in the release's manifest; any other is refused.
            protocol: gRPC is quicker, HTTP passes more proxies.
            model: another name of the same encoder, such as `embed`.
            query_seconds: how long a query may wait for its vector, even when servers hang. Search sets less than a trial may
                take on a busy machine.
        """
        self._model = model or f"embed_{release}"
        self._space = expected_space
        self._replicas = [
            Replica(address, open_transport(address, protocol, _TIMEOUT_SECONDS), self._model, expected_space)
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
        """Return the expected space; this embedder answers in no other."""
        return self._space

    def embed(self, texts: Sequence[str], role: Role, token_counts: Sequence[int] | None = None) -> Embeddings:
        """Return one vector a text, in order. Many texts go in pieces of similar length, in small ones beside queries.

        Without `token_counts`, lengths are guessed from bytes, with more padding.

        Raises:
            TransientError: Triton is away, busy (with a time to try again), or has not loaded the model yet.
            DocumentError: a text cannot be sent at all.
            MismatchError: Triton serves another encoder under this release's name.
        """
        served = self._checked(self._seconds[role])
        vectors = np.empty((len(texts), served.dimension), dtype=np.float32)
        counted = np.empty(len(texts), dtype=np.int32)
        truncated = np.empty(len(texts), dtype=np.bool_)
        encoded = [text_bytes(text[:MAX_ENCODED_CHARS]) for text in texts]
        lengths = token_counts if token_counts is not None else [guessed_tokens(text) for text in encoded]
        for rows in self._pieces(lengths, role, served.max_batch_size):
            answer = self._infer([encoded[row] for row in rows], role)
            vectors[rows] = answer.vectors
            counted[rows] = answer.token_counts
            truncated[rows] = answer.truncated
        # The server never saw what was cut off here.
        truncated |= np.array([len(text) > MAX_ENCODED_CHARS for text in texts], dtype=np.bool_)
        return Embeddings(vectors, counted, truncated, self._space)

    def check(self) -> ServedModel:
        """Make sure, once a server, that Triton serves the expected encoder; return its config.

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
        """Yield rows, shortest texts first: a piece is padded to its longest text. The caller's work on a piece is timed."""
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
        # One checked server suffices here: each of the others is checked before its own first use.
        known = next((replica.checked for replica in self._replicas if replica.checked), None)
        return known or self._on_a_replica(lambda replica, until: replica.check(until), seconds)

    def _infer(self, texts: Sequence[bytes], role: Role) -> Embeddings:
        return self._on_a_replica(lambda replica, until: replica.embed(texts, role, until), self._seconds[role])

    def _on_a_replica(self, call: Callable[["Replica", float], T], seconds: float) -> T:
        """Return the answer of the next server in turn, or else of the first one after it that answers.

        Only a TransientError moves the call to another server: a server with another encoder is refused, not avoided.

        Args:
            call: takes a server, and its deadline by `time.monotonic`.
            seconds: for all servers together; each server gets an equal share of the time left.
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
                # A busy server answers at once: asking it again wastes no time.
                if exc.retry_after_seconds is None:
                    replica.rest()
                failures.append(exc)
            else:
                replica.answered()
                return answer
        raise failures[0]

    def _in_turn(self) -> list["Replica"]:
        first = next(self._turns) % len(self._replicas)
        turned = self._replicas[first:] + self._replicas[:first]
        # A resting server is asked last, when no other answers. Sorting keeps the order of equals.
        return sorted(turned, key=lambda replica: replica.rests())
