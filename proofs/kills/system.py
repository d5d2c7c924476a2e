"""The system for the kills: it is brought to the start of a step, and checked after it."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.release_commands import Done, require, run_release, to_promote, to_retire, to_roll_back
from bench.workspace import Workspace, make_workspace, running_stack
from proofs.kills.cases import State, Step
from proofs.kills.kill_at import Plan
from proofs.switch.load import wait_until
from proofs.switch.run import Releases, make_releases
from triton_models.names import embed_model
from triton_models.repository import is_stable, is_whole
from twinline.clients.online import AdminClient
from twinline.clients.settings import PROJECT_FILES, Settings
from twinline.clients.triton.control import TritonControl
from twinline.contract.errors import ContractError, TransientError, TwinlineError
from twinline.contract.release.manifest import Manifest, collection_name
from twinline.registry.git import git
from twinline.registry.versions import PRODUCTION
from twinline.release.kinds import ENCODER

_SOURCE: Final = "pydocs:json,html"
_BACK_SECONDS: Final = 120.0


@dataclass(frozen=True)
class KillSystem:
    """A running stack with active release A, and the facts about B."""

    workspace: Workspace
    settings: Settings
    releases: Releases
    registry: Path
    snapshot: str

    @property
    def b(self) -> str:
        """Return the release that comes and goes."""
        return self.releases.b.release

    def run(self, arguments: list[str], plan: Plan | None = None) -> Done:
        """Run a command of `release`, with a kill if there is a plan."""
        placed = plan or Plan(str(self.registry))
        return run_release(self.workspace, arguments, ("-m", "proofs.kills.kill_at", placed.to_json(), "twinline.release"))

    def command(self, step: Step) -> list[str]:
        """Return the command of a step."""
        commands: dict[Step, list[str]] = {
            "fetch": ["fetch", str(self.releases.folders["b"])],
            "publish": ["publish", self.b],
            "build": ["build", self.b],
            "build from a snapshot": ["build", self.b, "--snapshot", self.snapshot],
            "verify": ["verify", self.b],
            "promote": to_promote(self.b),
            "roll back": to_roll_back(self.releases.a.release),
            "retire": to_retire(self.b),
        }
        return commands[step]

    def active_after(self, step: Step) -> Manifest:
        """Return the active release after a step."""
        return self.releases.b if step == "promote" else self.releases.a

    def bring_to(self, state: State) -> None:
        """Bring B to the state that a step needs, by plain commands."""
        if self._active() == collection_name(self.b) and state != "active":
            require(self.run(to_roll_back(self.releases.a.release)))
        if state in ("nothing", "fetched", "published") and self._is_served():
            require(self.run(to_retire(self.b)))
        if state in ("nothing", "fetched") and self._is_published():
            require(self.run(to_retire(self.b)))
        if state == "nothing":
            shutil.rmtree(self.settings.releases / self.b, ignore_errors=True)
            return
        require(self.run(self.command("fetch")))
        if state in ("published", "built", "active") and not self._is_published():
            require(self.run(["publish", self.b]))
        if state in ("built", "active") and not self._is_served():
            require(self.run(["build", self.b]))
            require(self.run(["verify", self.b]))
        if state == "active" and self._active() != collection_name(self.b):
            require(self.run(to_promote(self.b)))

    def wait_until_back(self) -> None:
        """Wait until the victim answers again.

        Raises:
            TransientError: it does not answer in time.
        """
        if not wait_until(self._is_back, _BACK_SECONDS):
            raise TransientError(f"the stack at {self.settings.home} does not answer {_BACK_SECONDS:.0f} s after the kill")

    def faults(self, active: Manifest) -> list[str]:
        """Return every difference from a system with one complete active release, after a finished step."""
        found = [f"half-written: {path.relative_to(self.settings.home)}" for path in leftovers(self.settings)]
        if self._active() != collection_name(active.release):
            found.append(f"the alias is at {self._active()}, not at release {active.release}")
        if not is_stable(active.release, self.settings.model_repository):
            found.append(f"the config of `embed` does not name release {active.release}")
        if not is_whole(active.release, self.settings.model_repository):
            found.append(f"the models of release {active.release} are not whole")
        with closing(TritonControl(self.settings.triton_grpc_address)) as control:
            try:
                if (space := control.space("embed")) != active.space:
                    found.append(f"`embed` serves space {space}")
            except TwinlineError as error:
                found.append(f"`embed`: {error}")
        registry = ENCODER.registry(self.registry)
        if (stage := registry.release_of(registry.find(PRODUCTION))) != active.release:
            found.append(f"stage {PRODUCTION} is at release {stage}")
        return found

    def _is_back(self) -> bool:
        try:
            with closing(AdminClient(self.settings.admin_url)) as admin:
                status = admin.status()
        except TwinlineError:
            return False
        listed = status.collection(status.active or "")
        with closing(TritonControl(self.settings.triton_grpc_address)) as control:
            return listed is not None and listed.consumer_running and control.ready("embed")

    def _active(self) -> str | None:
        with closing(AdminClient(self.settings.admin_url)) as admin:
            return admin.status().active

    def _is_served(self) -> bool:
        with closing(AdminClient(self.settings.admin_url)) as admin:
            return admin.status().collection(collection_name(self.b)) is not None

    def _is_published(self) -> bool:
        with closing(TritonControl(self.settings.triton_grpc_address)) as control:
            return control.ready(embed_model(self.b))


def leftovers(settings: Settings) -> list[Path]:
    """Return files that only a step cut short leaves."""
    places = (
        (settings.releases, "*.partial"),
        (settings.model_repository.parent, f".{settings.model_repository.name}-*"),
        (settings.store_folder, ".dropped-*"),
        (settings.store_folder / ".building", "*"),
    )
    return [path for folder, pattern in places for path in sorted(folder.glob(pattern))]


@contextmanager
def running_kill_system(folder: Path) -> Iterator[KillSystem]:
    """Run the system while the block runs; its packaged releases are reused."""
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    workspace = make_workspace(folder, {})
    releases = make_releases(workspace)
    registry = _make_registry(home / "registry", releases)
    with running_stack(workspace):
        workspace.module("twinline", "publish", "--source", _SOURCE, "--all")
        workspace.module("etl", "ingest", "--source", "kafka:", "--store")
        settings = workspace.settings()
        snapshot = next((path.parent.name for path in settings.snapshots.glob("*/snapshot.json")), "")
        if not snapshot:
            raise ContractError(f"no snapshot was stored in {settings.snapshots}: nothing to build from")
        system = KillSystem(workspace, settings, releases, registry, snapshot)
        require(system.run(["deploy", str(releases.folders["a"])]))
        yield system


def _make_registry(folder: Path, releases: Releases) -> Path:
    """Make a Git repository with tags that register both releases as versions."""
    import gto

    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for name, value in (("user.name", "bench"), ("user.email", "bench@localhost")):
        git(folder, "config", name, value)
    # What a project is known by.
    for name in PROJECT_FILES:
        (folder / name).touch()
    for number, manifest in enumerate((releases.a, releases.b), start=1):
        (folder / "release").write_text(manifest.release)
        git(folder, "add", "release")
        git(folder, "commit", "--quiet", "-m", f"release {manifest.release}")
        gto.api.register(
            str(folder), ENCODER.artifact.name, "HEAD", version=f"v{number}.0.0", message=f"release {manifest.release}",
            author="bench", author_email="bench@localhost",
        )  # fmt: skip
    return folder
