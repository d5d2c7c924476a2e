"""`twinline changed`: whether the documents changed enough since the production encoder was trained to train another one."""

import json
from typing import Annotated

import typer

from twinline.clients.settings import load_settings


def command(
    *,
    snapshot: Annotated[str, typer.Option(help="The stored snapshot to compare; empty: what the next training will read.")] = "",
    min_share: Annotated[float, typer.Option(min=0.0, help="Below this share there is nothing to do.")] = 0.05,
) -> None:
    """Compare a snapshot with the training snapshot of the version in stage `prod`.

    The last line is a JSON object. When too little has changed, its field `skipped` says why.
    """
    from twinline.upkeep.training.changed import decide, production_snapshot

    settings = load_settings()
    result = decide(settings.snapshots, production_snapshot(settings.find_project()), snapshot, min_share)
    typer.echo(result.get("skipped") or result["why"], err=True)
    typer.echo(json.dumps(result))
