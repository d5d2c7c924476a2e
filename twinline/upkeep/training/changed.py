"""The decision whether documents have changed enough since the production encoder's training for another one."""

import json
from pathlib import Path

from etl.changes import count_changes
from etl.feeds import open_snapshot
from twinline.contract.artefacts import ENCODER
from twinline.contract.errors import SettingsError
from twinline.contract.release.manifest import MANIFEST_FILE
from twinline.registry.revisions import NotHereError
from twinline.registry.versions import PRODUCTION, Registry


def decide(store: Path, trained_on: str | NotHereError | None, snapshot: str, min_share: float) -> dict[str, str | float]:
    """Return the reason to train, or under `skipped` the reason not to.

    Args:
        trained_on: the snapshot of the production encoder; empty for an encoder not trained here, None where there is none, and
            the reason where its files are not on this machine.
    """
    if min_share <= 0:
        return {"why": "asked to train whatever has changed"}
    if trained_on is None:
        return {"why": "no encoder is in production yet"}
    if isinstance(trained_on, NotHereError):
        return {"why": f"the encoder in production is not here, so nothing is compared: {trained_on}"}
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


def production_snapshot(repository: Path) -> str | NotHereError | None:
    """Return the training snapshot of the version in stage `prod`, empty where its manifest names none.

    None without such a version. Where its files are not on this machine, the error that says how to get them: a schedule goes
    on, and says it.
    """
    registry = Registry(repository, ENCODER)
    if registry.in_production() is None:
        return None
    try:
        manifest = json.loads(registry.revision(PRODUCTION).read_text(f"{ENCODER.release}/{MANIFEST_FILE}"))
    except NotHereError as error:
        return error
    return str(manifest["lineage"].get("snapshot") or "")
