"""Triton by gRPC or HTTP, with the vendor's errors turned into ours; nothing else touches `tritonclient`."""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from twinline.clients.loopback import is_this_machine
from twinline.contract.errors import ContractError, SettingsError, TransientError

TransportName: TypeAlias = Literal["grpc", "http"]
Tensors: TypeAlias = Mapping[str, NDArray[Any]]

# The values of tritonclient, but for the last two. gRPC's own waits between attempts to connect grow to two minutes, in which a
# server that is back still counts as away.
_CHANNEL: Final = (
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
# The same request would get these answers again. All others (away, busy, still loading, a crashed backend) may pass.
_FINAL_STATUSES: Final = frozenset({"StatusCode.INVALID_ARGUMENT", "StatusCode.UNIMPLEMENTED", "400", "501"})
# Triton's message for a full queue.
_QUEUE_IS_FULL: Final = "Exceeds maximum queue size"
_RETRY_SECONDS: Final = 1.0


class Transport(Protocol):
    """The operations of both protocols."""

    def infer(
        self, model: str, inputs: Tensors, outputs: Sequence[str], priority: int, timeout_seconds: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run a model; inputs of bytes are object arrays. Priority 1 goes before 2. Without a time: the transport's own."""

    def config(self, model: str, timeout_seconds: float | None = None) -> dict[str, Any]:
        """Return a model's configuration, in the protobuf's JSON form."""

    def is_ready(self, model: str) -> bool:
        """Return whether the model, or with an empty name the server, can be used."""

    def load(self, model: str) -> None:
        """Load a model, or load it again from changed files."""

    def unload(self, model: str, with_members: bool) -> None:
        """Unload a model, and with it the members of an ensemble."""

    def index(self) -> list[dict[str, str]]:
        """Return name, state and reason of each model in the repository."""

    def close(self) -> None:
        """Close all connections."""


def addresses(listed: str) -> list[str]:
    """Return the addresses in a list with commas between them.

    Raises:
        SettingsError: one is not `host:port`.
    """
    found = [address.strip() for address in listed.split(",")]
    parted = [(address, *address.rpartition(":")) for address in found]
    wrong = next((address for address, host, _, port in parted if not host or not port.isdecimal()), None)
    if wrong is not None:
        raise SettingsError(f"{wrong!r} in {listed!r} is no address of a Triton: host:port, with commas between several")
    return found


def channel_options(address: str) -> tuple[tuple[str, int], ...]:
    """Return the options of a gRPC channel: to this machine it never goes through a proxy."""
    here = is_this_machine(address.rpartition(":")[0])
    return (*_CHANNEL, ("grpc.enable_http_proxy", 0)) if here else _CHANNEL


def open_transport(address: str, protocol: TransportName, timeout_seconds: float) -> Transport:
    """Return a transport to `host:port`; no connection is made yet."""
    return _Grpc(address, timeout_seconds) if protocol == "grpc" else _Http(address, timeout_seconds)


class _Grpc:
    """One channel, shared by all threads."""

    def __init__(self, address: str, timeout_seconds: float) -> None:
        import grpc
        import tritonclient.grpc as triton_grpc
        from tritonclient.grpc import service_pb2_grpc

        from twinline.clients.triton import messages as triton_messages

        self._messages = triton_messages
        self._grpc_error = grpc.RpcError
        self._address = address
        self._timeout = timeout_seconds
        options = channel_options(address)
        self._client = triton_grpc.InferenceServerClient(address, channel_args=list(options))
        # For inference alone, whose requests are made by `messages`. Channels of the same address and arguments share one
        # connection.
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def infer(
        self, model: str, inputs: Tensors, outputs: Sequence[str], priority: int, timeout_seconds: float | None = None
    ) -> dict[str, NDArray[Any]]:
        request = self._messages.infer_request(model, inputs, outputs, priority)
        seconds = self._timeout if timeout_seconds is None else timeout_seconds
        with _our_errors(self._address, model):
            try:
                response = self._stub.ModelInfer(request, timeout=seconds)
            except self._grpc_error as exc:
                raise InferenceServerException(exc.details(), str(exc.code())) from exc
        return self._messages.arrays_of(response, outputs)

    def config(self, model: str, timeout_seconds: float | None = None) -> dict[str, Any]:
        seconds = self._timeout if timeout_seconds is None else timeout_seconds
        with _our_errors(self._address, model):
            found = self._client.get_model_config(model, as_json=True, client_timeout=seconds)
        config: dict[str, Any] = found["config"]
        return config

    def is_ready(self, model: str) -> bool:
        with _our_errors(self._address, model):
            if model:
                return bool(self._client.is_model_ready(model, client_timeout=self._timeout))
            return bool(self._client.is_server_ready(client_timeout=self._timeout))

    def load(self, model: str) -> None:
        with _our_errors(self._address, model):
            self._client.load_model(model, client_timeout=self._timeout)

    def unload(self, model: str, with_members: bool) -> None:
        with _our_errors(self._address, model):
            self._client.unload_model(model, unload_dependents=with_members, client_timeout=self._timeout)

    def index(self) -> list[dict[str, str]]:
        with _our_errors(self._address, ""):
            found = self._client.get_model_repository_index(as_json=True, client_timeout=self._timeout)
        return list(found.get("models", []))

    def close(self) -> None:
        self._client.close()
        self._channel.close()


class _Http:
    """One client a thread and time limit: the vendor's client is bound to its thread, and to one limit."""

    def __init__(self, address: str, timeout_seconds: float) -> None:
        import tritonclient.http as triton_http

        self._module = triton_http
        self._address = address
        self._timeout = timeout_seconds
        self._local = threading.local()

    @property
    def _client(self) -> Any:
        return self._client_of(None)

    def _client_of(self, timeout_seconds: float | None) -> Any:
        # Whole seconds, rounded up: each request has another time left, and would otherwise need a connection of its own.
        seconds = self._timeout if timeout_seconds is None else float(math.ceil(max(timeout_seconds, 0.001)))
        clients: dict[float, Any] = self._local.__dict__.setdefault("clients", {})
        if seconds not in clients:
            clients[seconds] = self._module.InferenceServerClient(
                self._address, connection_timeout=seconds, network_timeout=seconds
            )
        return clients[seconds]

    def infer(
        self, model: str, inputs: Tensors, outputs: Sequence[str], priority: int, timeout_seconds: float | None = None
    ) -> dict[str, NDArray[Any]]:
        sent = _infer_inputs(self._module, inputs)
        wanted = [self._module.InferRequestedOutput(name) for name in outputs]
        with _our_errors(self._address, model):
            result = self._client_of(timeout_seconds).infer(model, sent, outputs=wanted, priority=priority)
        return _arrays(result, outputs)

    def config(self, model: str, timeout_seconds: float | None = None) -> dict[str, Any]:
        with _our_errors(self._address, model):
            config: dict[str, Any] = self._client_of(timeout_seconds).get_model_config(model)
        return config

    def is_ready(self, model: str) -> bool:
        with _our_errors(self._address, model):
            return bool(self._client.is_model_ready(model) if model else self._client.is_server_ready())

    def load(self, model: str) -> None:
        with _our_errors(self._address, model):
            self._client.load_model(model)

    def unload(self, model: str, with_members: bool) -> None:
        with _our_errors(self._address, model):
            self._client.unload_model(model, unload_dependents=with_members)

    def index(self) -> list[dict[str, str]]:
        with _our_errors(self._address, ""):
            return list(self._client.get_model_repository_index())

    def close(self) -> None:
        # Clients of other threads are closed when their threads end.
        clients: dict[float, Any] = self._local.__dict__.pop("clients", {})
        for client in clients.values():
            client.close()


def _infer_inputs(module: Any, inputs: Tensors) -> list[Any]:
    sent = []
    for name, array in inputs.items():
        tensor = module.InferInput(name, list(array.shape), "BYTES")
        tensor.set_data_from_numpy(array)
        sent.append(tensor)
    return sent


def _arrays(result: Any, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    arrays = {}
    for name in outputs:
        array = result.as_numpy(name)
        if array is None:
            raise ContractError(f"Triton's answer has no output {name}: publish the release again")
        arrays[name] = np.asarray(array)
    return arrays


@contextmanager
def _our_errors(address: str, model: str) -> Iterator[None]:
    place = f"Triton at {address}" + (f", model `{model}`" if model else "")
    try:
        yield
    except InferenceServerException as exc:
        message = f"{place}: {exc.message()}"
        if _QUEUE_IS_FULL in message:
            raise TransientError(
                f"{place} is overloaded, its queue is full ({exc.message()}): try again later", _RETRY_SECONDS
            ) from exc
        if exc.status() in _FINAL_STATUSES:
            raise ContractError(message) from exc
        raise TransientError(f"{message}; check `twinline status`") from exc
    # By HTTP the sockets' own errors come through: refused, reset, timed out, unknown host.
    except OSError as exc:
        raise TransientError(f"{place}: {type(exc).__name__}: {exc}; check `twinline status`") from exc
