"""Start and stop the stack as a whole.

up      check system libraries and ports, end processes left by a crash, start each part once its dependencies are ready, wait
        until all parts are.
down    stop the sources of work, then the workers, then the stores; then end all leftover processes of the stack.
"""

import json
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from twinline.clients.settings import Settings
from twinline.contract.errors import SettingsError, TransientError
from twinline.stack import broker, ports, processes, requirements
from twinline.stack.parts import Part, parts
from twinline.stack.supervisor import Supervisor

# Airflow first, so that no task starts on a stopping stack; the broker last, so that every offset is committed.
_STOP_ORDER = ("airflow", "online", "triton", "broker")
_POLL_SECONDS = 0.2
_FOLLOW_LIMIT_SECONDS = 15

Waiting = Callable[[str], AbstractContextManager[object]]  # shows a line during a wait
Report = Callable[[str], None]  # prints a lasting line


def up(settings: Settings, without: Collection[str], waiting: Waiting, report: Report) -> None:
    """Start the stack, or its missing parts, and return when every part is ready.

    Args:
        without: names of unwanted parts; a running one of them is left alone.

    Raises:
        SettingsError: this machine lacks a requirement, or a port is taken.
        TransientError: a part did not become ready; carries the end of its log. The others stay up.
    """
    requirements.check_places(settings)
    every = parts(settings)
    wanted = [part for part in every if part.name not in without]
    if any(part.name == "triton" for part in wanted):
        requirements.check_model_server(settings.server_environment)
    if any(part.name == "airflow" for part in wanted):
        requirements.check_airflow()
    supervisor = Supervisor(settings.home)
    if not supervisor.is_running():
        for ended in end_leftovers(settings):
            report(f"ended a leftover of an earlier run: {ended}")
        _check_ports(settings, wanted)
        supervisor.start(every, settings.project)
        _settings_file(settings).write_text(settings.model_dump_json())
    else:
        _check_same_settings(settings)
        running = {name for name, program in supervisor.programs().items() if program.pid}
        _check_ports(settings, [part for part in wanted if part.name not in running])

    began = time.monotonic()
    started: set[str] = set()
    ready: set[str] = set()
    names = {part.name for part in wanted}
    for part in wanted:
        # Every part that can start is started before the first wait.
        for other in wanted:
            if other.name not in started and ready.issuperset(names.intersection(other.needs)):
                supervisor.start_part(other.name)
                started.add(other.name)
        with waiting(f"{part.title} ..."):
            _wait_until_ready(supervisor, part)
        ready.add(part.name)
        addresses = ", ".join(str(port.number) for port in part.ports)
        report(f"{part.name:<8} ready after {time.monotonic() - began:5.1f} s   {part.title}, port {addresses}")


def down(settings: Settings, waiting: Waiting, report: Report) -> None:
    """Stop the stack from any state and leave no process of it behind."""
    supervisor = Supervisor(settings.home)
    if supervisor.is_running():
        programs = supervisor.programs()
        for name in (name for name in _STOP_ORDER if name in programs):
            if programs[name].pid is None and programs[name].state not in ("STARTING", "BACKOFF"):
                continue
            began = time.monotonic()
            with waiting(f"stopping {name} ..."):
                supervisor.stop_part(name)
                # supervisord watches a part's first process only, and Airflow's ends before the others.
                all_gone = processes.wait_until_gone(settings.home, name, _FOLLOW_LIMIT_SECONDS)
                stragglers = {} if all_gone else processes.end(settings.home, name, patience_seconds=5)
            report(f"{name:<8} stopped after {time.monotonic() - began:4.1f} s")
            for straggler in stragglers.values():
                report(f"         had to end its {straggler}")
        supervisor.shut_down()
    with waiting("looking for leftover processes ..."):
        leftovers = end_leftovers(settings)
    for leftover in leftovers:
        report(f"ended a leftover: {leftover}")


def end_leftovers(settings: Settings) -> list[str]:
    """End unsupervised processes of this stack, in the order of a regular stop; return their descriptions."""
    stop_as_group = {part.name for part in parts(settings) if part.stops_as_group}
    ended: dict[int, str] = {}
    for name in _STOP_ORDER:
        if name == "broker" and (left := processes.find(settings.home, name)):
            # Described before they are stopped: the broker's processes are gone afterwards.
            ended |= {process.pid: processes.describe(process) for process in left}
            # The broker's process may outlive our own around it, and a plain signal would lose messages.
            broker.stop_losslessly(settings.home / "kafka")
        ended |= processes.end(settings.home, name, patience_seconds=30, as_group=name in stop_as_group)
    ended |= processes.end(settings.home, None, patience_seconds=10)
    return list(ended.values())


def _check_ports(settings: Settings, listed: Sequence[Part]) -> None:
    ports.check_free(settings.host, (port for part in listed for port in part.ports))


def _settings_file(settings: Settings) -> Path:
    """Return the file with a running stack's settings; secrets are masked in it."""
    return settings.home / "run" / "settings.json"


def _check_same_settings(settings: Settings) -> None:
    """Refuse to add to a stack with other ports or addresses: its parts would not find each other."""
    now, then = json.loads(settings.model_dump_json()), json.loads(_settings_file(settings).read_text())
    changed = [f"{name} was {then.get(name)!r} and is {value!r}" for name, value in now.items() if then.get(name) != value]
    if changed:
        raise SettingsError(
            f"the stack in {settings.home} runs with other settings ({'; '.join(changed)}): `twinline down` first"
        )


def _wait_until_ready(supervisor: Supervisor, part: Part) -> None:
    began = time.monotonic()
    while (problem := part.probe()) is not None:
        waited_seconds = time.monotonic() - began
        program = supervisor.programs()[part.name]
        if program.state == "FATAL":
            problem = f"it ends after every start ({program.problem or 'exit'})"
        elif waited_seconds < part.start_limit_seconds:
            time.sleep(_POLL_SECONDS)
            continue
        raise TransientError(
            f"{part.title} is not ready after {waited_seconds:.0f} s: {problem}\n"
            f"The end of {supervisor.logs / part.name}.log:\n{supervisor.last_lines(part.name)}"
        )
