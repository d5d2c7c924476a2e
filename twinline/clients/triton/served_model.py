"""The served `embed` model: its request, its answer and its configuration."""

import json
from dataclasses import dataclass
from typing import Any, Final

from twinline.contract.encoder import tensors
from twinline.contract.encoder.golden import GoldenVector, decode_vector
from twinline.contract.encoder.specification import Role
from twinline.contract.errors import DocumentError, MismatchError

EMBED_OUTPUTS: Final = (tensors.EMBEDDING, tensors.TOKEN_COUNT, tensors.TRUNCATED, tensors.SPACE)
# A person waits for a query, not for a document.
PRIORITIES: Final[dict[Role, int]] = {"query": 1, "document": 2}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The configuration of an `embed` ensemble."""

    space: str
    precision: str
    dimension: int
    max_batch_size: int
    golden: GoldenVector


def read_served_model(config: dict[str, Any], model: str) -> ServedModel:
    """Return the encoder that a model configuration describes.

    Raises:
        MismatchError: it was not written by Twinline.
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
    """Return a text in the form for Triton.

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
