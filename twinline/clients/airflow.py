"""Airflow's REST API, as far as a command needs it: unpause, trigger, follow, read a log."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx

from twinline.clients.retry import retrying
from twinline.contract.errors import ContractError, SettingsError, TransientError

PASSWORDS_FILE: Final = "simple_auth_manager_passwords.json.generated"
_TIMEOUT_SECONDS: Final = 20.0
_TAIL_BYTES: Final = 16_384
# Lines that Airflow itself logs before the command prints anything.
_OWN_WORDS: Final = (
    "DAG bundles", "Filling up", "Worker startup", "Tmp dir root", "Running command:", "Output:", "Trigger ", "trigger ",
    "Pausing task",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task of a DAG run; `state` is empty until the scheduler has looked at it."""

    task_id: str
    state: str
    attempt: int
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class DagRun:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    state: str


class Airflow:
    """One Airflow, spoken to over HTTP.

    Args:
        url: where its web server answers.
        home: AIRFLOW_HOME, which holds the generated password when Airflow asks for one.
    """

    def __init__(self, url: str, home: Path, transport: httpx.BaseTransport | None = None, attempts: int = 5) -> None:
        self._url = url
        self._home = home
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS, trust_env=False, transport=transport)
        self._token = ""
        # Its database is a file on a laptop, and "locked" is an answer that passes.
        self._again = retrying(attempts=attempts)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def has_dag(self, dag_id: str) -> bool:
        """Say whether Airflow has read the DAG's file by now."""
        return self._send("GET", f"/api/v2/dags/{dag_id}", missing_is_none=True) is not None

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run: Airflow keeps a new one paused."""
        self._send("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any]) -> str:
        """Start a run with some of its parameters, and return the run's id."""
        body = {"logical_date": None, "conf": dict(conf)}
        return str(self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """Return the state of a run."""
        found = self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
        return DagRun(dag_id, run_id, str(found["state"]))

    def is_busy(self, dag_id: str) -> bool:
        """Say whether a run of a DAG has begun and not ended."""
        query = {"state": "running", "limit": 1}
        return bool(self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=query)["dag_runs"])

    def tasks(self, dag_id: str, run_id: str) -> list[TaskRun]:
        """Return the tasks of a run, in no particular order."""
        found = self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return [
            TaskRun(
                task_id=entry["task_id"],
                state=entry["state"] or "",
                attempt=entry["try_number"],
                started_at=_time(entry["start_date"]),
                ended_at=_time(entry["end_date"]),
            )
            for entry in found["task_instances"]
        ]

    def runs(self, dag_id: str, run_type: str) -> list[DagRun]:
        """Return the runs of a DAG that are of one type: `manual`, `scheduled`, `backfill`, `asset_triggered`."""
        found = self._send("GET", f"/api/v2/dags/{dag_id}/dagRuns", params={"run_type": run_type})
        return [DagRun(dag_id, str(run["dag_run_id"]), str(run["state"])) for run in found["dag_runs"]]

    def backfill(self, dag_id: str, day: str, conf: Mapping[str, Any]) -> None:
        """Run a DAG for the interval of one moment of the past."""
        body = {"dag_id": dag_id, "from_date": day, "to_date": day, "dag_run_conf": dict(conf), "max_active_runs": 1}
        self._send("POST", "/api/v2/backfills", json=body)

    def returned(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return a task's result for other tasks, or the reason why it was refused."""
        place = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        value = self._send("GET", place)["value"]
        # Airflow returns the database's form: a result of several fields is JSON inside JSON.
        return json.loads(value) if isinstance(value, str) else value

    def runs_started_by(self, dag_id: str, run_id: str) -> list[DagRun]:
        """Return the runs that the assets updated by a run have started.

        Raises:
            TransientError: also, by a fault of Airflow 3.3, while such a run exists and has not begun.
        """
        query = {"source_dag_id": dag_id, "source_run_id": run_id}
        found = self._send_once("GET", "/api/v2/assets/events", False, {"params": query})
        return [
            DagRun(started["dag_id"], started["run_id"], started["state"])
            for event in found["asset_events"]
            for started in event["created_dagruns"]
        ]

    def log(self, dag_id: str, run_id: str, task: TaskRun) -> list[str]:
        """Return the lines that a task's last attempt has logged."""
        place = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task_id}/logs/{max(task.attempt, 1)}"
        found = self._send("GET", place, params={"full_content": "true"}, missing_is_none=True)
        return [line for entry in found["content"] for line in _lines(entry)] if found else []

    def last_line(self, dag_id: str, run_id: str, task: TaskRun) -> str:
        """Return the last line of a running task's log; empty where the log is not a file of this machine."""
        path = self.log_file(dag_id, run_id, task)
        # The triggerer logs a deferred task to another file beside it.
        found = [*path.parent.glob(f"{path.name}.trigger.*"), *path.parent.glob(path.name)]
        lines = (_last_line(path) for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True))
        return next((line for line in lines if line), "")

    def log_file(self, dag_id: str, run_id: str, task: TaskRun) -> Path:
        """Return where that log lies, for an Airflow on this machine."""
        folder = self._home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task.task_id}"
        return folder / f"attempt={max(task.attempt, 1)}.log"

    def _send(self, method: str, path: str, *, missing_is_none: bool = False, **options: Any) -> Any:
        if method == "POST":
            # A trigger whose answer was lost would start a second run.
            return self._send_once(method, path, missing_is_none, options)
        return self._again(self._send_once, method, path, missing_is_none, options)

    def _send_once(self, method: str, path: str, missing_is_none: bool, options: Mapping[str, Any]) -> Any:
        if not self._token:
            self._token = self._log_in()
        try:
            response = self._http.request(method, path, headers={"Authorization": f"Bearer {self._token}"}, **options)
        except httpx.HTTPError as exc:
            raise TransientError(f"Airflow at {self._url} does not answer ({exc!r}): see `twinline status`") from exc
        if response.status_code == httpx.codes.NOT_FOUND and missing_is_none:
            return None
        return _content(response, f"{method} {path}")

    def _log_in(self) -> str:
        """Return a token. Airflow asks for the generated password, unless it takes every user for an admin."""
        try:
            response = self._http.get("/auth/token")
            if response.is_error:
                response = self._http.post("/auth/token", json=self._credentials())
        except httpx.HTTPError as exc:
            raise TransientError(f"Airflow at {self._url} does not answer ({exc!r}): see `twinline status`") from exc
        return str(_content(response, "/auth/token")["access_token"])

    def _credentials(self) -> dict[str, str]:
        place = self._home / PASSWORDS_FILE
        if not place.is_file():
            raise SettingsError(f"Airflow at {self._url} asks for a password, and {place} does not exist")
        user, password = next(iter(json.loads(place.read_text()).items()))
        return {"username": user, "password": password}


def _content(response: httpx.Response, request: str) -> Any:
    if response.is_success:
        return response.json()
    message = f"Airflow answered {response.status_code} to {request}: {response.text[:300]}"
    raise TransientError(message) if response.is_server_error else ContractError(message)


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        entries = file.read().decode(errors="replace").splitlines()
    for entry in reversed(entries):
        # The first entry may be cut, the last one half written.
        if entry.startswith("{") and entry.endswith("}"):
            said = [line for line in _lines(json.loads(entry)) if not line.startswith(_OWN_WORDS)]
            if said:
                # A progress bar is one line of many states: the newest stands last.
                return said[-1].rstrip().rsplit("\r", 1)[-1].strip()
    return ""


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None


def _lines(entry: str | Mapping[str, Any]) -> Iterator[str]:
    """Yield the readable lines of a log entry: its text and its errors, without Airflow's folding marks."""
    text = entry if isinstance(entry, str) else str(entry.get("event", ""))
    if not isinstance(entry, str) and entry.get("reason"):
        # Why a task was skipped stands beside the words "Skipping task."
        text = f"{text} {entry['reason']}".strip()
    if not text.startswith("::") and text.strip():
        yield text
    if not isinstance(entry, str):
        yield from (f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ())
