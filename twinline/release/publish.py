"""Publish a release to Triton: models into every repository, loaded on every server, warm, and answering as in training.

All servers or none: where one refuses or is away, the others stay unchanged, and continue to serve the old release.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from triton_models.names import Device
from triton_models.repository import is_stable, is_whole, remove_models, write_models
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.contract.encoder.embedding import Embedder
from twinline.contract.encoder.golden import GoldenVector, read_golden
from twinline.contract.errors import SettingsError, TransientError, TwinlineError
from twinline.contract.release.checks import Check, require_pass
from twinline.contract.release.manifest import Manifest

REMEDY = "No server was switched and the old release goes on serving; repair this one, and publish again"


class ModelControl(Protocol):
    """The calls to a model server."""

    def ready(self, model: str = "") -> bool:
        """Say whether the server, or a model, can be used."""

    def load(self, model: str) -> None:
        """Load a model and its parts; return when it is warm."""

    def unload(self, model: str, *, with_members: bool = False) -> None:
        """Unload a model and its parts."""


class Server(Protocol):
    """One model server and its folder."""

    @property
    def address(self) -> str:
        """Return its name in messages."""

    @property
    def repository(self) -> Path:
        """Return its model repository, which several servers may share."""

    @property
    def control(self) -> ModelControl:
        """Return the control of its models."""


def publish(
    folder: Path,
    manifest: Manifest,
    model: str,
    servers: Sequence[Server],
    device: Device,
    confirm: Callable[[str], Sequence[Check]],
) -> list[str]:
    """Make sure that every server serves a release; return the addresses of the servers that loaded it now.

    A loaded model stays as it is: it is immutable, and its tokenizer checked its files at the start.

    Args:
        folder: of the release.
        manifest: of the release.
        model: the model that a server loads for it, with its parts.
        servers: all of them.
        device: the device that they run it on.
        confirm: checks the loaded model at a server's address, and returns the checks.

    Raises:
        RefusedError: a server's answers differ from the release's.
        ContractError: a server cannot load the models.
        TransientError: a server is away.
    """
    lacking = [server for server in servers if not server.control.ready(model)]
    new: list[Path] = []
    loaded: list[Server] = []
    try:
        for repository in dict.fromkeys(server.repository for server in lacking):
            in_use = any(server.repository == repository and server not in lacking for server in servers)
            new += [] if in_use else [repository]
            # Whole ones stay unchanged: a server may be loading them for an earlier, interrupted call.
            if not is_whole(manifest.release, repository, None if in_use else device):
                write_models(folder, repository, device)
        for server in lacking:
            # Counted before: a failed load may have succeeded in part.
            loaded.append(server)
            server.control.load(model)
        for server in servers:
            require_pass(confirm(server.address), f"release {manifest.release} in Triton at {server.address}", REMEDY)
    except TwinlineError as exc:
        left = _undo(manifest.release, model, loaded, new)
        where = f" (of {len(servers)} servers)" if len(servers) > 1 else ""
        exc.args = (f"{exc}{where}" + (f"; not undone: {'; '.join(left)}" if left else ""), *exc.args[1:])
        raise
    return [server.address for server in lacking]


def _undo(release: str, model: str, loaded: Sequence[Server], new: Sequence[Path]) -> list[str]:
    """Unload from the servers of this call, and empty the repositories without a serving server; return the failures."""
    left = []
    for server in loaded:
        try:
            server.control.unload(model, with_members=True)
        except TwinlineError as exc:
            left.append(str(exc))
    for repository in new:
        # `embed` may point to it where a lost repository is being made again.
        if not is_stable(release, repository):
            remove_models(release, repository)
    return left


def require_everywhere(release: str, model: str, servers: Sequence[Server]) -> None:
    """Make sure, before a switch, that every reachable server has loaded the release; others load it at their start.

    Raises:
        SettingsError: a server does not have it.
        TransientError: no server answers.
    """
    there = [server for server in servers if server.control.ready()]
    if not there:
        raise TransientError(f"no Triton answers at {', '.join(server.address for server in servers)}: start it, then switch")
    lacking = [server.address for server in there if not server.control.ready(model)]
    if lacking:
        raise SettingsError(f"Triton at {', '.join(lacking)} has not loaded release {release}: publish it, then switch")


def prove_golden_texts(address: str, folder: Path, manifest: Manifest) -> list[Check]:
    """Compare the answers of the loaded release at an address with the golden texts of its folder."""
    with TritonEmbedder(address, manifest.release, manifest.space) as embedder:
        return golden_checks(folder, manifest, embedder)


def golden_checks(folder: Path, manifest: Manifest, embedder: Embedder) -> list[Check]:
    """Send every golden text through the live encoder and compare with the training framework's vectors.

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
