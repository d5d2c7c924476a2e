"""One Airflow task is one command of this checkout: `CommandTask`.

A command says what the next task needs as a JSON object on its last line; the task returns it, and attaches it to the asset
that it updates. A field `skipped` in it says why there was nothing to do, and the task is shown as skipped. Commands are
argument lists, never shell lines, so that no parameter of a run can become shell syntax.
"""

import json
import os
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

CHECKOUT = Path(__file__).resolve().parents[1]

# Assets carry what the next DAG needs in the extra of each event: a snapshot's id, an encoder's version.
CORPUS = Asset("corpus")
ENCODER = Asset("encoder")

# The command was refused, or was told something wrong: the same call would end the same way.
FINAL_EXIT_CODES = frozenset({2, 3})


class CommandTask(BaseOperator):
    """Run one command in the checkout, with the platform's interpreter first on the path.

    Args:
        command: the argument list; templates and outputs of other tasks are filled in.
        updates: the asset that this task has brought up to date when the command succeeds.
        final_exit_codes: those after which the same call would end the same way; any other failure is tried again.
    """

    template_fields: Sequence[str] = ("command",)
    ui_color = "#e6efe9"

    def __init__(
        self,
        *,
        command: Sequence[Any],
        updates: Asset | None = None,
        final_exit_codes: Collection[int] = FINAL_EXIT_CODES,
        **options: Any,
    ) -> None:
        # multiple_outputs: each field of the result by its own name, as in `ingest.output["snapshot"]`.
        super().__init__(outlets=[updates] if updates else [], multiple_outputs=True, **options)
        self.command = list(command)
        self.updates = updates
        self.final_exit_codes = frozenset(final_exit_codes)
        self._process = SubprocessHook()

    def execute(self, context: Any) -> dict[str, Any]:
        """Run the command and return the JSON object of its last line.

        Raises:
            AirflowFailException: it was refused or used wrongly; Airflow does not try that again.
            AirflowSkipException: it says that there was nothing to do.
            AirflowException: it failed otherwise.
        """
        command = [str(part) for part in self.command]
        environment = {**os.environ, **command_environment(context)}
        done = self._process.run_command(command, env=environment, cwd=str(CHECKOUT))
        if done.exit_code in self.final_exit_codes:
            raise AirflowFailException(done.output)
        if done.exit_code != 0:
            raise AirflowException(f"{shlex.join(command)} ended with {done.exit_code}: {done.output}")
        result = read_result(done.output)
        if result.get("skipped"):
            raise AirflowSkipException(str(result["skipped"]))
        if self.updates is not None:
            context["outlet_events"][self.updates].extra = result
        return result

    def on_kill(self) -> None:
        """End the command and what it started."""
        self._process.send_sigterm()


def read_result(last_line: str) -> dict[str, Any]:
    """Return the JSON object that a command ends with."""
    try:
        result = json.loads(last_line)
    except ValueError as exc:
        raise AirflowFailException(f"the last line must be a JSON object, found {last_line[:200]!r}") from exc
    if not isinstance(result, dict):
        raise AirflowFailException(f"the last line must be a JSON object, found {last_line[:200]!r}")
    return result


def command_environment(context: Mapping[str, Any]) -> dict[str, str]:
    """Return what a command finds in its environment beside Airflow's own: the interpreter, and which run it belongs to."""
    scripts = Path(sys.prefix) / "bin"
    return {
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        # Airflow's own names for these two: manifests and message headers carry them on.
        "AIRFLOW_CTX_DAG_ID": str(context["dag"].dag_id),
        "AIRFLOW_CTX_DAG_RUN_ID": str(context["run_id"]),
    }


def event_field(events: Mapping[Any, Sequence[Any]], name: str) -> str:
    """Return a field of the newest asset event that started this run; empty when a person started it."""
    started_by = [event for of_asset in events.values() for event in of_asset]
    return str(started_by[-1].extra[name]) if started_by else ""


def dag_options(doc: str, tags: Sequence[str]) -> dict[str, Any]:
    """Return the options that every DAG here shares: one run at a time, nothing made up for, errors tried again."""
    return {
        "catchup": False,
        "max_active_runs": 1,
        "doc_md": doc,
        "tags": ["twinline", *tags],
        "default_args": {"retries": 2, "retry_delay": timedelta(seconds=20), "retry_exponential_backoff": 3},
        "user_defined_macros": {"event_field": event_field},
        "render_template_as_native_obj": False,
    }
