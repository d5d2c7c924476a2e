"""Names of a release's Triton models and devices; importing them loads nothing else."""

from typing import Literal

Device = Literal["cpu", "gpu"]

STABLE_MODEL = "embed"


def tokenizer_model(release: str) -> str:
    """Return the name of the release's tokenizer model."""
    return f"tokenizer_{release}"


def encoder_model(release: str) -> str:
    """Return the name of the release's encoder model."""
    return f"encoder_{release}"


def generate_model(release: str) -> str:
    """Return the name of the generator's model of a release."""
    return f"generate_{release}"


def embed_model(release: str) -> str:
    """Return the name of the release's ensemble."""
    return f"embed_{release}"
