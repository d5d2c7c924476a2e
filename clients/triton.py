"""Embedding by Triton, and control of its models.

An embedder checks before its first use that the server runs the encoder that was asked for: the space in the model's config,
and one golden text whose vector the training framework computed. After that every answer brings its space along.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from clients.triton_transport import Transport, TransportName, open_transport
from contract import tensors
from contract.embedding import Embeddings
from contract.errors import ContractError, DocumentError, MismatchError, TransientError
from contract.golden import PARITY_LIMITS, GoldenVector, decode_vector
from contract.specification import Role

_OUTPUTS: Final = (tensors.EMBEDDING, tensors.TOKEN_COUNT, tensors.TRUNCATED, tensors.SPACE)
# Who waits at a page goes before who fills an index.
_PRIORITY: Final[dict[Role, int]] = {"query": 1, "document": 2}
# A query waits for at most the one batch that is running: small pieces keep that wait short, and on a CPU are no slower.
_PIECE_TEXTS: Final = 8
_TIMEOUT_SECONDS: Final = 30.0
# Loading compiles the model and warms it up.
_LOAD_TIMEOUT_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the configuration of an `embed` ensemble says."""

    space: str
    precision: str
    dimension: int
    max_batch_size: int
    golden: GoldenVector


class TritonEmbedder:
    """Implements `contract.embedding.Embedder` by the ensemble `embed_<release>`. Thread-safe."""

    def __init__(self, url: str, release: str, expected_space: str, protocol: TransportName = "grpc", *, model: str = "") -> None:
        """Connect lazily: nothing is sent before the first use.

        Args:
            url: `host:port` of the endpoint of `protocol`.
            release: whose ensemble to call.
            expected_space: of the release's manifest; any other is refused.
            protocol: gRPC is quicker, HTTP passes more proxies.
            model: another name that must stand for the same encoder, such as `embed`.
        """
        self._url = url
        self._model = model or f"embed_{release}"
        self._space = expected_space
        self._transport: Transport = open_transport(url, protocol, _TIMEOUT_SECONDS)
        self._checked: ServedModel | None = None
        self._lock = threading.Lock()

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
        """Make sure, once, that Triton serves the encoder that was asked for; return what its config says.

        Raises:
            TransientError: Triton is away, or has not loaded the model.
            MismatchError: space or golden vector are another encoder's.
        """
        with self._lock:
            if self._checked is None:
                served = read_served_model(self._transport.config(self._model), self._model)
                self._check_space(served.space)
                self._check_golden(served)
                self._checked = served
            return self._checked

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _infer(self, texts: Sequence[bytes], role: Role) -> Embeddings:
        column = np.array(list(texts), dtype=np.object_)[:, None]
        roles = np.full(column.shape, role.encode(), dtype=np.object_)
        try:
            found = self._transport.infer(self._model, {tensors.TEXT: column, tensors.ROLE: roles}, _OUTPUTS, _PRIORITY[role])
        except TransientError:
            # A server that was away may come back with other files.
            self._checked = None
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
                f"Triton at {self._url} serves space {space} as `{self._model}`, the release has {self._space}: "
                "publish the release again"
            )

    def _check_golden(self, served: ServedModel) -> None:
        found = self._infer([_utf8(served.golden.text)], served.golden.role).vectors[0]
        distance, limit = served.golden.distance(found), PARITY_LIMITS[served.precision]
        if distance > limit:
            raise MismatchError(
                f"Triton at {self._url}, `{self._model}`: golden text {served.golden.name!r} comes out {distance:.1e} away "
                f"from the training framework's vector, {served.precision} allows {limit:.0e}: publish the release again, "
                "and check the backend's precision on this machine"
            )


class TritonControl:
    """Loads and unloads models, and says what is there."""

    def __init__(self, url: str, protocol: TransportName = "grpc") -> None:
        """Connect lazily to `host:port`."""
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


def read_served_model(config: dict[str, Any], model: str) -> ServedModel:
    """Return what a model configuration says of its encoder.

    Raises:
        MismatchError: when it was not written by Twinline.
    """
    try:
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        golden = json.loads(parameters["golden"])
        dims = next(output["dims"] for output in config["output"] if output["name"] == tensors.EMBEDDING)
        return ServedModel(
            space=parameters["space"],
            precision=parameters["precision"],
            dimension=int(dims[0]),
            max_batch_size=int(config["max_batch_size"]),
            golden=GoldenVector(
                name=golden["name"],
                role=golden["role"],
                text=golden["text"],
                token_ids=(),
                truncated=False,
                vector=decode_vector(golden["vector"]),
            ),
        )
    except (KeyError, ValueError, StopIteration) as exc:
        raise MismatchError(
            f"Triton's model `{model}` has no {exc} in its configuration: it was not published by Twinline; publish the release"
        ) from exc


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
