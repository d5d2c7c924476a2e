"""`twinline up`: start the embedded stack."""

from typing import Annotated

import typer
from rich.console import Console

from twinline.clients.settings import Settings, load_settings
from twinline.stack import lifecycle

_Without = Annotated[bool, typer.Option(help="Leave this part out.")]


def command(
    *,
    no_broker: _Without = False,
    no_triton: _Without = False,
    no_online: _Without = False,
    no_scheduler: Annotated[bool, typer.Option("--no-scheduler", help="Leave Airflow out.")] = False,
) -> None:
    """Start the embedded stack and wait until every part of it is ready. Run it again at any time."""
    settings = load_settings()
    settings.find_project()
    flags = {"broker": no_broker, "triton": no_triton, "online": no_online, "airflow": no_scheduler}
    console = Console(highlight=False, markup=False, soft_wrap=True)
    lifecycle.up(
        settings,
        without={name for name, left_out in flags.items() if left_out},
        waiting=console.status,
        report=console.print,
    )
    if settings.kafka_bootstrap or not no_broker:
        _show_losses(settings, console)
    if not no_online:
        console.print(f"\nsearch     {settings.search_url}")
    if not no_scheduler:
        console.print(f"schedules  {settings.airflow_url}")
    console.print(f"logs       {settings.home / 'logs'}\n`twinline status` shows more, `twinline down` stops it all.")


def _show_losses(settings: Settings, console: Console) -> None:
    """Name what the topic's configuration will lose, before it is lost."""
    from twinline.clients.log_identity import read_losses
    from twinline.contract.errors import TwinlineError

    try:
        losses = read_losses(settings)
    except TwinlineError as error:
        losses = [f"the configuration of topic {settings.topic} could not be read: {error}"]
    for loss in losses:
        console.print(loss, style="yellow")
