"""`twinline skew`: do training and serving still agree, hop by hop?"""

import json
from typing import Annotated

import typer

from twinline.clients.run import VerdictError
from twinline.contract.errors import ContractError, MismatchError, SettingsError, TransientError

# Beside 0 (all well) and 1 (skew found): it could not be measured.
EXIT_UNMEASURED = 2


class SkewError(VerdictError):
    """Training and serving disagree; the message names the first hop that broke."""


def command(
    *,
    release: Annotated[str, typer.Option(help="A release that is served; the active one by default.")] = "",
    sample: Annotated[int, typer.Option(min=0, max=1_000, help="How many stored documents to make again from the log.")] = 100,
    seed: Annotated[int, typer.Option(help="Another seed chooses other documents.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, on one line.")] = False,
) -> None:
    """Measure every hop from text to stored vector. Exit code 0: all well; 1: skew found; 2: it could not be measured."""
    from twinline.clients.settings import load_settings
    from twinline.upkeep.skew.opening import measure_release

    try:
        report = measure_release(load_settings(), release, sample, seed)
    except TransientError as exc:
        typer.secho(f"twinline: skew could not be measured: {exc}", err=True, fg=typer.colors.RED)
        raise typer.Exit(EXIT_UNMEASURED) from exc
    except (MismatchError, SettingsError):
        raise
    except ContractError as exc:
        # An unreadable artefact is a fault: another measurement would find it again.
        raise SkewError(str(exc)) from exc
    if report is None:
        reason = "no release is active, so there is nothing to measure yet: twinline release deploy"
        typer.echo(json.dumps({"release": None, "ok": None, "skipped": reason}) if as_json else reason)
        return
    if as_json:
        typer.echo(json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False))
    else:
        from rich.console import Console

        from twinline.upkeep.skew.show import show

        show(report, Console(highlight=False))
    if not report.ok:
        raise SkewError(report.sentence())
