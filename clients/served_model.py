"""What a loaded `embed` ensemble says of itself in its configuration."""

import json
from dataclasses import dataclass
from typing import Any

from contract import tensors
from contract.errors import MismatchError
from contract.golden import GoldenVector, decode_vector


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
