"""Control of one Triton server's models: load, unload, list."""

from typing import Final

import numpy as np

from twinline.clients.triton.served_model import EMBED_OUTPUTS, PRIORITIES, decoded, read_served_model, text_bytes
from twinline.clients.triton.transport import Transport, TransportName, open_transport
from twinline.contract.encoder import tensors
from twinline.contract.encoder.golden import PARITY_LIMITS
from twinline.contract.errors import ContractError, MismatchError, TransientError

# Loading compiles the model and warms it up.
_LOAD_TIMEOUT_SECONDS: Final = 300.0


class TritonControl:
    """Loads, unloads and lists the models of one server."""

    def __init__(self, url: str, protocol: TransportName = "grpc") -> None:
        """Connect lazily to `host:port`."""
        self.address = url
        self._transport: Transport = open_transport(url, protocol, _LOAD_TIMEOUT_SECONDS)

    def ready(self, model: str = "") -> bool:
        """Return whether the server, or one model of it, can be used; False also when there is no answer."""
        try:
            return self._transport.is_ready(model)
        except TransientError:
            return False

    def load(self, model: str) -> None:
        """Load a model and, for an ensemble, its members; a loaded model with changed files is swapped.

        Raises:
            TransientError: Triton is away.
            ContractError: Triton cannot load it; the message says why.
        """
        try:
            self._transport.load(model)
        except TransientError as exc:
            if not self.ready():
                raise
            # Triton refuses: the same files will get the same answer.
            raise ContractError(str(exc)) from exc

    def unload(self, model: str, *, with_members: bool = False) -> None:
        """Unload a model; `with_members` also unloads an ensemble's models, which no other ensemble may use."""
        self._transport.unload(model, with_members)

    def models(self) -> dict[str, str]:
        """Return the state of each model in the repository (`READY`, `UNAVAILABLE`, ...); empty: never loaded."""
        return {entry["name"]: entry.get("state", "") for entry in self._transport.index()}

    def space(self, model: str) -> str:
        """Return the space that a loaded `embed` ensemble serves.

        Raises:
            TransientError: Triton is away, or has not loaded the model.
            MismatchError: config and answers name different spaces: it points at the models of another release.
        """
        served = read_served_model(self._transport.config(model), model)
        text, role = text_bytes(served.golden.text), served.golden.role
        column = {tensors.TEXT: np.array([[text]], np.object_), tensors.ROLE: np.array([[role.encode()]], np.object_)}
        found = self._transport.infer(model, column, EMBED_OUTPUTS, PRIORITIES["query"])
        answered = decoded(found[tensors.SPACE].reshape(-1)[0])
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
