"""One Airflow task is one command in the project's folder: `CommandTask`.

A command prints the next task's input as a JSON object on its last line. The task returns it, and attaches it to the asset that
it updates. A field `skipped` says why there was nothing to do, and the task is shown as skipped. A field `refused` says why it
must not go on, beside the evidence. Commands are argument lists, never shell lines, so no parameter of a run can become shell
syntax.

A long command is detached (`detached.py`): the task defers and holds no worker. It survives the death of worker and triggerer,
since the command runs on by itself and is found again.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import Asset, BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferralTimeout

from twinline.clients.run import DEBUG_VARIABLE, REFUSED, USED_WRONGLY
from twinline.clients.settings import PROJECT_VARIABLE, in_project
from twinline.scheduling import detached
from twinline.scheduling.trigger import CommandEnd

# The extra of an asset's event carries the next DAG's input: a snapshot's id, an encoder's version.
CORPUS = Asset("corpus")
ENCODER = Asset("encoder")

# Refused or used wrongly: the same call would end the same way.
FINAL_EXIT_CODES = frozenset({USED_WRONGLY, REFUSED})
# A manual run for an interval that ended longer ago than the schedule's own is about the past, like a back-fill.
PRESENT = timedelta(days=1)

# The cost of a deferral: not worth it for a command that ends sooner.
_PATIENCE_SECONDS = 5.0
_LINES_SHOWN = 200


class CommandTask(BaseOperator):
    """Run one command in the project's folder, with the platform's interpreter first on the path.

    Args:
        command: the argument list; templates and outputs of other tasks are filled in.
        updates: the asset that is up to date once the command succeeds.
        final_exit_codes: the codes after which the same call would end the same way; any other failure is retried.
        skip_reason: a template; a non-empty result is the reason for not running the command.
        takes_long: whether the command is detached, and the task deferred until it ends.
    """

    template_fields: Sequence[str] = ("command", "skip_reason")
    ui_color = "#e6efe9"

    def __init__(
        self,
        *,
        command: Sequence[Any],
        updates: Asset | None = None,
        final_exit_codes: Collection[int] = FINAL_EXIT_CODES,
        skip_reason: str = "",
        takes_long: bool = False,
        **options: Any,
    ) -> None:
        # multiple_outputs: each field of the result by its own name, as in `ingest.output["snapshot"]`.
        super().__init__(outlets=[updates] if updates else [], multiple_outputs=True, **options)
        self.command = list(command)
        self.updates = updates
        self.final_exit_codes = frozenset(final_exit_codes)
        self.skip_reason = skip_reason
        self.takes_long = takes_long
        self._process = SubprocessHook()
        self._folder: Path | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Run the command and return the JSON object of its last line.

        Raises:
            AirflowFailException: it was refused or used wrongly, or the run has unknown parameters; Airflow does not retry that.
            AirflowSkipException: it says that there was nothing to do.
            AirflowException: it failed otherwise.
        """
        if wrong := unknown_parameters(context):
            raise AirflowFailException(wrong)
        if self.skip_reason:
            raise AirflowSkipException(self.skip_reason)
        command = [str(part) for part in self.command]
        project = project_folder(os.environ)
        environment = {**in_project(project), **command_environment(context)}
        if not self.takes_long:
            done = self._process.run_command(command, env=environment, cwd=str(project))
            return self._conclude(context, done.exit_code, done.output)
        self._folder = command_folder(context, os.environ)
        self.log.info("Running command: %s in a session of its own, %s", command, self._folder)
        state = detached.start(self._folder, command, environment, project)
        if not detached.wait(self._folder, _PATIENCE_SECONDS):
            self.defer(trigger=CommandEnd(str(self._folder)), method_name="resume", timeout=self._time_left(state.started_at))
        return self._collect(context, self._folder)

    def resume(self, context: Any, event: Any) -> dict[str, Any]:
        """Finish like `execute` when the command has ended."""
        return self._collect(context, command_folder(context, os.environ))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """End the command when its time is over; no other process would."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            detached.end(command_folder(context, os.environ))
            raise

    def on_kill(self) -> None:
        """End the command and its child processes."""
        if self._folder is not None:
            detached.end(self._folder)
        else:
            self._process.send_sigterm()  # type: ignore[no-untyped-call]

    def _time_left(self, started_at: float) -> timedelta | None:
        # A retried task has found its command again, and a part of the command's time is over.
        if self.execution_timeout is None:
            return None
        passed = datetime.now(UTC).timestamp() - started_at
        return max(timedelta(seconds=1), self.execution_timeout - timedelta(seconds=passed))

    def _collect(self, context: Any, folder: Path) -> dict[str, Any]:
        state, lines = detached.look(folder), detached.tail(folder, _LINES_SHOWN)
        for line in lines:
            self.log.info("%s", line)
        if state.phase == "running":
            raise AirflowException(f"the command of {folder} runs still: this try ends, the next one finds it")
        detached.end(folder)
        if state.exit_code is None:
            raise AirflowException(f"{shlex.join(map(str, self.command))} was killed, and nobody saw how it ended")
        return self._conclude(context, state.exit_code, lines[-1] if lines else "")

    def _conclude(self, context: Any, exit_code: int, last_line: str) -> dict[str, Any]:
        if exit_code in self.final_exit_codes:
            raise AirflowFailException(self._refusal(context, last_line))
        if exit_code != 0:
            raise AirflowException(f"{shlex.join(map(str, self.command))} ended with {exit_code}: {last_line}")
        result = read_result(last_line)
        if result.get("skipped"):
            raise AirflowSkipException(str(result["skipped"]))
        if self.updates is not None:
            extra = {**result, "about_the_past": about_the_past(context.get("dag_run"), datetime.now(UTC))}
            context["outlet_events"][self.updates].extra = extra
        return result

    def _refusal(self, context: Any, last_line: str) -> str:
        """Return why the command was refused; its evidence stays with the task, like a result."""
        try:
            result = json.loads(last_line)
        except ValueError:
            return last_line
        if not isinstance(result, dict) or "refused" not in result:
            return last_line
        context["ti"].xcom_push(key="return_value", value=result)
        return f"refused: {result['refused']}"


def read_result(last_line: str) -> dict[str, Any]:
    """Return the JSON object on a command's last line."""
    try:
        result = json.loads(last_line)
    except ValueError as exc:
        raise AirflowFailException(f"the last line must be a JSON object, found {last_line[:200]!r}") from exc
    if not isinstance(result, dict):
        raise AirflowFailException(f"the last line must be a JSON object, found {last_line[:200]!r}")
    return result


def command_environment(context: Mapping[str, Any]) -> dict[str, str]:
    """Return a command's environment beside Airflow's own: the interpreter, and the names of the run."""
    scripts = Path(sys.prefix) / "bin"
    return {
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        # A command's output goes into the task's log, the place for tracebacks.
        DEBUG_VARIABLE: "1",
        # Airflow's own names for these two, which manifests and message headers record.
        "AIRFLOW_CTX_DAG_ID": str(context["dag"].dag_id),
        "AIRFLOW_CTX_DAG_RUN_ID": str(context["run_id"]),
    }


def project_folder(environment: Mapping[str, str]) -> Path:
    """Return the tasks' working folder: TWINLINE_PROJECT, else the parent of this Airflow's DAGs folder."""
    named = environment.get(PROJECT_VARIABLE)
    return Path(named).resolve() if named else Path(str(conf.get("core", "dags_folder"))).resolve().parent


def unknown_parameters(context: Mapping[str, Any]) -> str:
    """Return which parameters of a run its DAG does not have, with the known ones; empty where there is none.

    Airflow takes any, and a mistyped one would leave the default in force.
    """
    given = getattr(context.get("dag_run"), "conf", None) or {}
    if not given:
        return ""
    known = [*context["dag"].params]
    unknown = [str(name) for name in given if name not in known]
    listed = f"known are {', '.join(known)}" if known else "this DAG has none"
    return f"unknown parameter {', '.join(map(repr, unknown))} in the run's conf: {listed}" if unknown else ""


def command_folder(context: Mapping[str, Any], environment: Mapping[str, str]) -> Path:
    """Return the folder of a task's detached command: the same in every try of the task, in worker and triggerer."""
    home = Path(environment.get("TWINLINE_HOME") or project_folder(environment) / "var").resolve()
    parts = (context["dag"].dag_id, context["run_id"], context["task"].task_id)
    return home.joinpath("commands", *(re.sub(r"[^A-Za-z0-9_.+-]", "-", str(part)) for part in parts))


def about_the_past(dag_run: Any, now: datetime) -> str:
    """Return why a run's result is about the past and must not reach production; empty where it is not."""
    run_type = str(getattr(dag_run.run_type, "value", dag_run.run_type)) if dag_run is not None else ""
    if run_type == "backfill":
        return f"run {dag_run.run_id} is a back-fill"
    if run_type == "manual" and dag_run.logical_date is not None and now - dag_run.logical_date > PRESENT:
        return f"run {dag_run.run_id} was started by hand for {dag_run.logical_date:%Y-%m-%d %H:%M}, an interval of the past"
    return ""


def event_field(events: Mapping[Any, Sequence[Any]], name: str) -> str:
    """Return a field of the newest present asset event that started this run; empty for a manual run."""
    started_by = [event for event in _events(events) if not event.extra.get("about_the_past")]
    return str(started_by[-1].extra[name]) if started_by else ""


def past_reason(events: Mapping[Any, Sequence[Any]]) -> str:
    """Return why the run is not needed: all events that started it are about the past. Empty otherwise."""
    reasons = [str(event.extra.get("about_the_past") or "") for event in _events(events)]
    return reasons[-1] if reasons and all(reasons) else ""


def _events(events: Mapping[Any, Sequence[Any]]) -> list[Any]:
    return [event for of_asset in events.values() for event in of_asset]


def dag_options(doc: str, tags: Sequence[str]) -> dict[str, Any]:
    """Return the options that all DAGs here share: one run at a time, no catch-up, errors retried."""
    return {
        "catchup": False,
        "max_active_runs": 1,
        "doc_md": doc,
        "tags": ["twinline", *tags],
        "default_args": {"retries": 2, "retry_delay": timedelta(seconds=20), "retry_exponential_backoff": 3},
        "user_defined_macros": {"event_field": event_field, "past_reason": past_reason},
        "render_template_as_native_obj": False,
    }
