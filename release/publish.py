"""Publish a release to Triton: models into the repository, loaded, warm, and answering golden texts as in training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from contract.embedding import Embedder
from contract.golden import GoldenVector, read_golden
from contract.manifest import Manifest
from release.checks import Check
from triton_models.names import Device, embed_model
from triton_models.repository import write_models


class ModelControl(Protocol):
    """What we ask of a model server."""

    def ready(self, model: str) -> bool:
        """Say whether a model is loaded."""

    def load(self, model: str) -> None:
        """Load a model and what it is made of; return when it answers."""


def publish(folder: Path, manifest: Manifest, repository: Path, control: ModelControl, device: Device) -> bool:
    """Make sure that Triton serves a release; return whether anything had to be done.

    A model that is loaded is left alone: it is immutable, and its tokenizer checked its files when it started.
    """
    name = embed_model(manifest.release)
    if control.ready(name):
        return False
    write_models(folder, repository, device)
    control.load(name)
    return True


def golden_checks(folder: Path, manifest: Manifest, embedder: Embedder) -> list[Check]:
    """Send every golden text through the live encoder and compare with what the training framework gave.

    The limit is that of the served format's precision.
    """
    limit = manifest.serving_format().parity.limit
    golden = read_golden(folder)
    queries = [entry for entry in golden if entry.role == "query"]
    documents = [entry for entry in golden if entry.role == "document"]
    return [_golden_check(entries, embedder, limit) for entries in (queries, documents) if entries]


def _golden_check(entries: Sequence[GoldenVector], embedder: Embedder, limit: float) -> Check:
    role = entries[0].role
    found = embedder.embed([entry.text for entry in entries], role)
    distances = [entry.distance(vector) for entry, vector in zip(entries, found.vectors, strict=True)]
    other_tokens = [
        entry.name
        for entry, count, truncated in zip(entries, found.token_counts, found.truncated, strict=True)
        if count != len(entry.token_ids) or bool(truncated) != entry.truncated
    ]
    worst = int(np.argmax(distances))
    detail = (
        f"{len(entries)} texts, worst cosine distance {distances[worst]:.2e} ({entries[worst].name}), limit {limit:.0e}, "
        f"other token counts: {', '.join(other_tokens) or 'none'}"
    )
    return Check(f"golden {role} texts", distances[worst] <= limit and not other_tokens, detail)
