"""`python -m triton_models`: `write` a release's models into the repository, `serve` the repository with the embedded Triton."""

from pathlib import Path
from typing import Annotated

import typer

from triton_models.names import STABLE_MODEL, Device, embed_model
from triton_models.server import ServerOptions, exec_server
from twinline.clients.run import run
from twinline.clients.settings import Settings, load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command("write")
def write(
    release: Annotated[Path, typer.Argument(help="A packaged release.")],
    repository: Annotated[Path | None, typer.Option(help="Default: the embedded stack's.")] = None,
    device: Annotated[Device, typer.Option(help="Where the encoder runs.")] = "cpu",
    stable: Annotated[bool, typer.Option(help="Point the ensemble `embed` at this release, too.")] = False,
) -> None:
    """Write a release's models into a model repository."""
    from triton_models.repository import point_stable_model, write_models

    target = repository or load_settings().model_repository
    names = write_models(release, target, device)
    if stable:
        names = (*names, point_stable_model(names[-1].removeprefix(embed_model("")), target))
    typer.echo(f"wrote {', '.join(names)} to {target}")


@app.command("serve")
def serve(
    environment: Annotated[
        Path | None, typer.Option(help="Virtual environment of the server; default: the one of the settings.")
    ] = None,
    load: Annotated[list[str] | None, typer.Option(help="Releases to load; default: all in the repository.")] = None,
) -> None:
    """Run the embedded Triton in the foreground; it replaces this process."""
    settings = load_settings()
    exec_server(_options(settings, environment or settings.server_environment, load), settings.home / "triton" / "backends")


def _options(settings: Settings, environment: Path, load: list[str] | None) -> ServerOptions:
    from triton_models.repository import releases_in

    repository = settings.model_repository
    releases = releases_in(repository) if load is None else load
    models = [embed_model(release) for release in releases]
    if (repository / STABLE_MODEL / "config.pbtxt").is_file():
        models.append(STABLE_MODEL)
    return ServerOptions(
        environment=environment,
        repository=repository,
        host=settings.host,
        http_port=settings.triton_http_port,
        grpc_port=settings.triton_grpc_port,
        metrics_port=settings.triton_metrics_port,
        load=models,
    )


def main() -> None:
    """Run a command."""
    run("triton_models", app, check="all", role="serve")


if __name__ == "__main__":
    main()
