"""supervisord keeps the parts running: its configuration, its start, and the few calls to it.

Its unix socket lies in a folder that only this user may open; nothing listens on the network.
"""

import http.client
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport

from twinline.clients.run import DEBUG_VARIABLE
from twinline.clients.settings import in_project
from twinline.contract.errors import SettingsError, TransientError
from twinline.stack.parts import Part
from twinline.stack.processes import PART_VARIABLE, STACK_VARIABLE

_START_LIMIT_SECONDS = 15
_LONGEST_SOCKET_PATH = 100  # Linux allows 107 bytes, and supervisord appends its pid while it binds


@dataclass(frozen=True)
class Program:
    """supervisord's view of a part. `state` is its word: RUNNING, STARTING, BACKOFF, FATAL, EXITED, STOPPED ..."""

    name: str
    state: str
    pid: int | None
    started_at: float | None
    problem: str


class Supervisor:
    """The supervisord of one stack."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._run = home / "run"
        self.logs = home / "logs"
        self._configuration = self._run / "supervisord.conf"
        self._socket = self._run / "supervisor.sock"
        if len(str(self._socket)) > _LONGEST_SOCKET_PATH:
            raise SettingsError(
                f"{self._socket} is longer than the {_LONGEST_SOCKET_PATH} characters that a unix socket's path may have: "
                "set TWINLINE_HOME to a shorter path"
            )

    def is_running(self) -> bool:
        """Return whether a supervisord answers for this stack."""
        try:
            self._call("getState")
        except TransientError:
            return False
        return True

    def start(self, parts: Iterable[Part], project: Path) -> None:
        """Start supervisord, which starts no part by itself; parts run in the project's folder.

        Raises:
            TransientError: it did not answer in time; the message names its log.
        """
        for folder in (self._run, self.logs):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._run.chmod(0o700)
        with self._configuration.open("w") as file:
            self._render(parts, project).write(file)
        environment = in_project(project) | {
            STACK_VARIABLE: str(self._home),
            "TWINLINE_HOME": str(self._home),
            # What parts print goes into their logs, which are the place for tracebacks.
            DEBUG_VARIABLE: "1",
        }
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", self._configuration],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if started.returncode != 0:
            raise TransientError(f"supervisord did not start: {(started.stderr or started.stdout).strip()[-500:]}")
        give_up = time.monotonic() + _START_LIMIT_SECONDS
        while not self.is_running():
            if time.monotonic() > give_up:
                raise TransientError(f"supervisord does not answer: see {self.logs / 'supervisord.log'}")
            time.sleep(0.05)

    def programs(self) -> dict[str, Program]:
        """Return supervisord's view of each part, by name."""
        return {info["name"]: _program(info) for info in self._call("getAllProcessInfo")}

    def start_part(self, name: str) -> None:
        """Start one part, unless it is started already."""
        self._call("startProcess", name, False, accept=Faults.ALREADY_STARTED)

    def stop_part(self, name: str) -> None:
        """Stop one part and wait until it has ended."""
        self._call("stopProcess", name, True, accept=Faults.NOT_RUNNING)

    def shut_down(self) -> None:
        """End supervisord itself and wait until it is gone."""
        pid = self._call("getPID")
        self._call("shutdown")
        give_up = time.monotonic() + _START_LIMIT_SECONDS
        while Path(f"/proc/{pid}").exists() and time.monotonic() < give_up:
            time.sleep(0.05)

    def last_lines(self, name: str, count: int = 15) -> str:
        """Return the end of a part's log, for an error message."""
        log = self.logs / f"{name}.log"
        if not log.exists():
            return f"({log} does not exist)"
        lines = log.read_bytes()[-8192:].decode(errors="replace").splitlines()
        return "\n".join(lines[-count:])

    def _render(self, parts: Iterable[Part], project: Path) -> RawConfigParser:
        # No part starts by itself: `up` starts each once its dependencies are ready. supervisord restarts a part that ends. It
        # gives up after four ends within ten seconds of a start; `up` and `status` then show the reason.
        configuration = RawConfigParser()
        configuration["unix_http_server"] = {"file": _escaped(self._socket), "chmod": "0700"}
        configuration["supervisord"] = {
            "pidfile": _escaped(self._run / "supervisord.pid"),
            "logfile": _escaped(self.logs / "supervisord.log"),
            "logfile_maxbytes": "5MB",
            "logfile_backups": "2",
            "childlogdir": _escaped(self.logs),
            "umask": "077",
        }
        configuration["rpcinterface:supervisor"] = {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        }
        for part in parts:
            configuration[f"program:{part.name}"] = {
                "command": _escaped(shlex.join(part.command)),
                "directory": _escaped(project),
                "environment": f'{PART_VARIABLE}="{part.name}"',
                "autostart": "false",
                "autorestart": "true",
                "startsecs": "10",
                "startretries": "3",
                "stopwaitsecs": str(part.stop_limit_seconds),
                "stopasgroup": str(part.stops_as_group).lower(),
                "killasgroup": "true",
                "redirect_stderr": "true",
                "stdout_logfile": _escaped(self.logs / f"{part.name}.log"),
                "stdout_logfile_maxbytes": "10MB",
                "stdout_logfile_backups": "2",
            }
        return configuration

    def _call(self, method: str, *arguments: object, accept: int | None = None) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == accept:
                return None
            raise TransientError(f"supervisord refuses {method}{arguments}: {fault.faultString}") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise TransientError(f"no supervisord answers at {self._socket}: {error}") from error
        finally:
            transport.close()


def _escaped(value: str | Path) -> str:
    """Return a value that supervisord's %-expansion leaves unchanged."""
    return str(value).replace("%", "%%")


def _program(info: dict[str, Any]) -> Program:
    return Program(
        name=info["name"],
        state=info["statename"],
        pid=info["pid"] or None,
        started_at=info["start"] or None,
        problem=info["spawnerr"],
    )
