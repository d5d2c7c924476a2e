"""The status of the stack: processes, ports, start times, memory, and served releases."""

import time
from contextlib import closing
from dataclasses import dataclass

import psutil

from triton_models.names import embed_model
from twinline.clients.builds import Build, running_builds
from twinline.clients.online import AdminClient, OnlineStatus
from twinline.clients.settings import Settings
from twinline.clients.triton.fleet import Replica, TritonFleet
from twinline.contract.errors import TransientError
from twinline.stack import processes
from twinline.stack.parts import Part, parts
from twinline.stack.supervisor import Program, Supervisor


@dataclass(frozen=True)
class PartStatus:
    """One part. `state`: ready, starting, failed, stopped, or unsupervised (left by a crash: `twinline down` ends it)."""

    name: str
    title: str
    state: str
    pid: int | None
    ports: tuple[int, ...]
    uptime_seconds: float | None
    memory_bytes: int
    problem: str | None


@dataclass(frozen=True)
class ModelServerStatus:
    """One Triton server of several, or elsewhere: whether it answers, and its releases."""

    address: str
    ready: bool
    releases: tuple[str, ...]


@dataclass(frozen=True)
class StackStatus:
    """The whole stack. `served` is the online process's own report: collections, active release, counts, lag.

    If it runs and gives no report, `served_problem` has the reason.
    """

    home: str
    supervised: bool
    parts: tuple[PartStatus, ...]
    served: OnlineStatus | None
    served_problem: str | None
    model_servers: tuple[ModelServerStatus, ...] = ()
    builds: tuple[Build, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Return whether every part, and every model server elsewhere, is ready, and every served release is being indexed."""
        parts = all(part.state == "ready" for part in self.parts) and all(server.ready for server in self.model_servers)
        return parts and not (self.served and any(collection.faults for collection in self.served.collections))


def read_status(settings: Settings) -> StackStatus:
    """Read the state of every part, and the online process's report."""
    supervisor = Supervisor(settings.home)
    supervised = supervisor.is_running()
    programs = supervisor.programs() if supervised else {}
    listed = tuple(_part_status(settings, part, programs.get(part.name)) for part in parts(settings))
    served, served_problem = _served(settings) if _is_ready(listed, "online") else (None, None)
    return StackStatus(
        home=str(settings.home),
        supervised=supervised,
        parts=listed,
        served=served,
        served_problem=served_problem,
        model_servers=_model_servers(settings) if settings.triton_grpc else (),
        builds=tuple(running_builds(settings.home)),
    )


def _model_servers(settings: Settings) -> tuple[ModelServerStatus, ...]:
    with closing(TritonFleet.connect(settings)) as fleet:
        return tuple(_model_server(server) for server in fleet.replicas)


def _model_server(server: Replica) -> ModelServerStatus:
    if not server.control.ready():
        return ModelServerStatus(server.address, ready=False, releases=())
    prefix = embed_model("")
    loaded = [name for name, state in server.control.models().items() if name.startswith(prefix) and state == "READY"]
    return ModelServerStatus(server.address, ready=True, releases=tuple(name.removeprefix(prefix) for name in sorted(loaded)))


def _is_ready(listed: tuple[PartStatus, ...], name: str) -> bool:
    return any(part.name == name and part.state == "ready" for part in listed)


def _served(settings: Settings) -> tuple[OnlineStatus | None, str | None]:
    with closing(AdminClient(settings.admin_url)) as online:
        try:
            return online.status(), None
        except TransientError as error:  # the process is busy; the rest of the status is still useful
            return None, str(error)


def _part_status(settings: Settings, part: Part, program: Program | None) -> PartStatus:
    found = processes.find(settings.home, part.name)
    state, problem = _state(part, program, found)
    return PartStatus(
        name=part.name,
        title=part.title,
        state=state,
        pid=program.pid if program else next((process.pid for process in processes.oldest(found)), None),
        ports=tuple(port.number for port in part.ports),
        uptime_seconds=time.time() - program.started_at if program and program.pid and program.started_at else None,
        memory_bytes=processes.memory_bytes(found),
        problem=problem,
    )


def _state(part: Part, program: Program | None, found: list[psutil.Process]) -> tuple[str, str | None]:
    if program is None:
        return ("unsupervised", "left by a crash: run `twinline down`") if found else ("stopped", None)
    if program.state == "FATAL":
        return "failed", program.problem or "ends after every start"
    if program.pid is None:
        return ("starting", program.problem) if program.state == "BACKOFF" else ("stopped", None)
    problem = part.probe()
    return ("ready", None) if problem is None else ("starting", problem)
