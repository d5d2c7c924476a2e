"""The served `embed` model: what is sent to it, what comes back, and what its configuration says."""

import json
from dataclasses import dataclass
from typing import Any, Final

from twinline.contract.encoder import tensors
from twinline.contract.encoder.golden import GoldenVector, decode_vector
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import DocumentError, MismatchError

EMBED_OUTPUTS: Final = (tensors.EMBEDDING, tensors.TOKEN_COUNT, tensors.TRUNCATED, tensors.SPACE)
# A person waits for a query; nobody waits for a document.
PRIORITIES: Final[dict[Role, int]] = {"query": 1, "document": 2}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the configuration of an `embed` ensemble says."""

    space: str
    precision: str
    dimension: int
    max_batch_size: int
    golden: GoldenVector


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


def text_bytes(text: str) -> bytes:
    """Return a text as Triton takes it.

    Raises:
        DocumentError: the text has half a surrogate pair, which UTF-8 cannot carry.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise DocumentError("lone_surrogate", f"the text has half a surrogate pair at {exc.start}") from exc


def decoded(value: bytes | str) -> str:
    """Return one string of an answer, which gRPC gives as bytes and HTTP as text."""
    return value.decode() if isinstance(value, bytes) else value
