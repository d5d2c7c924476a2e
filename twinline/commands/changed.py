"""`twinline changed`: whether the documents changed enough since the production encoder was trained to train another one."""

import json
from pathlib import Path
from typing import Annotated

import typer

from twinline.clients.settings import load_settings
from twinline.contract.errors import SettingsError


def command(
    *,
    snapshot: Annotated[str, typer.Option(help="The stored snapshot to compare; empty: what the next training will read.")] = "",
    min_share: Annotated[float, typer.Option(min=0.0, help="Below this share there is nothing to do.")] = 0.05,
) -> None:
    """Compare a snapshot with the one that the version in stage `prod` was trained on.

    The last line is a JSON object; with a field `skipped`, which says why, when too little has changed.
    """
    settings = load_settings()
    result = decide(settings.snapshots, production_snapshot(settings.find_project()), snapshot, min_share)
    typer.echo(result.get("skipped") or result["why"], err=True)
    typer.echo(json.dumps(result))


def decide(store: Path, trained_on: str | None, snapshot: str, min_share: float) -> dict[str, str | float]:
    """Return why to train, or, under `skipped`, why not.

    Args:
        trained_on: the snapshot of the production encoder; empty for one that was not trained here, None where there is none.
    """
    from etl.changes import count_changes
    from etl.feeds import open_snapshot

    if min_share <= 0:
        return {"why": "asked to train whatever has changed"}
    if trained_on is None:
        return {"why": "no encoder is in production yet"}
    if not trained_on:
        return {"why": "the encoder in production was not trained on a snapshot"}
    if not snapshot:
        return {"why": "no snapshot is named to compare with"}
    after = open_snapshot(snapshot, store)
    try:
        before = open_snapshot(trained_on, store)
    except SettingsError:
        return {"why": f"snapshot {trained_on}, which the encoder in production was trained on, is not in {store}: not compared"}
    changes = count_changes(before, after)
    said = f"{changes.summary()} since {trained_on}, which the encoder in production was trained on"
    figures: dict[str, str | float] = {"since": trained_on, "share": changes.share, "min_share": min_share}
    if changes.share < min_share:
        return {"skipped": f"{said}: less than {min_share:.1%}, nothing to train", **figures}
    return {"why": f"{said}: at least {min_share:.1%}", **figures}


def production_snapshot(repository: Path) -> str | None:
    """Return the snapshot that the version in stage `prod` was trained on, empty where its manifest names none."""
    from twinline.registry.versions import PRODUCTION, RELEASE_FOLDER, Registry

    registry = Registry(repository)
    if not any(PRODUCTION in entry.stages for entry in registry.versions()):
        return None
    manifest = json.loads(registry.revision(PRODUCTION).read_text(f"{RELEASE_FOLDER}/manifest.json"))
    return str(manifest["lineage"].get("snapshot") or "")
