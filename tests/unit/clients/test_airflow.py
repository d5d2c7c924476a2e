"""What the Airflow client asks for, and what it makes of the answers."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from twinline.clients.airflow import PASSWORDS_FILE, Airflow, TaskRun
from twinline.contract.errors import ContractError, SettingsError, TransientError

Handler = Callable[[httpx.Request], httpx.Response]


def airflow(handler: Handler, home: Path = Path("/nowhere"), *, is_open: bool = True) -> Airflow:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            if request.method == "GET" and not is_open:
                return httpx.Response(401, json={"detail": "who are you?"})
            if request.method == "POST" and json.loads(request.content) != {"username": "admin", "password": "secret"}:
                return httpx.Response(401, json={"detail": "wrong"})
            return httpx.Response(201, json={"access_token": "token-1"})
        assert request.headers["authorization"] == "Bearer token-1"
        return handler(request)

    return Airflow("http://airflow", home, httpx.MockTransport(answer), attempts=1)


def test_runs_that_an_asset_started_are_found_by_the_run_that_updated_it() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert dict(request.url.params) == {"source_dag_id": "ingest_documents", "source_run_id": "r1"}
        started = {"dag_id": "train_encoder", "run_id": "r2", "state": "queued"}
        return httpx.Response(200, json={"asset_events": [{"created_dagruns": []}, {"created_dagruns": [started]}]})

    (found,) = airflow(handler).runs_started_by("ingest_documents", "r1")
    assert (found.dag_id, found.run_id) == ("train_encoder", "r2")


def test_a_log_says_text_and_errors_and_not_its_folding_marks() -> None:
    error = {"event": "Task failed", "error_detail": [{"exc_type": "AirflowFailException", "exc_value": "nDCG too low"}]}
    content = [{"event": "::group::Pre Execute"}, {"event": "working"}, error, "plain"]
    client = airflow(lambda _: httpx.Response(200, json={"content": content}))
    lines = client.log("d", "r", TaskRun("t", "failed", 1, None, None))
    assert lines == ["working", "Task failed", "AirflowFailException: nDCG too low", "plain"]


def test_the_generated_password_is_used_where_airflow_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / PASSWORDS_FILE).write_text('{"admin": "secret"}')
    client = airflow(lambda _: httpx.Response(200, json={"dag_run_id": "r9"}), tmp_path, is_open=False)
    assert client.trigger("ingest_documents", {"source": "pydocs:"}) == "r9"


def test_a_password_that_is_asked_for_and_not_there_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    client = airflow(lambda _: httpx.Response(200, json={}), tmp_path, is_open=False)
    with pytest.raises(SettingsError, match=PASSWORDS_FILE):
        client.trigger("ingest_documents", {})


@pytest.mark.parametrize(
    ("status", "error"),
    [
        # a laptop's database is a file, and locked now and then
        (500, TransientError),
        (409, ContractError),
    ],
)
def test_an_answer_that_may_pass_is_told_from_one_that_will_not(status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=str(status)):
        airflow(lambda _: httpx.Response(status, text="no")).run("d", "r")


def test_a_dag_that_was_not_read_yet_is_simply_not_there() -> None:
    assert airflow(lambda _: httpx.Response(404, json={})).has_dag("d") is False


def test_nobody_there_is_transient() -> None:
    def nobody(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(TransientError, match="does not answer"):
        Airflow("http://airflow", Path("/nowhere"), httpx.MockTransport(nobody), attempts=1).has_dag("d")


def test_reading_is_tried_again_and_triggering_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "token-1"})
        seen.append(request.method)
        return httpx.Response(500, text="database is locked") if len(seen) < 3 else httpx.Response(200, json={"state": "running"})

    monkeypatch.setattr("time.sleep", lambda _: None)
    client = Airflow("http://airflow", Path("/nowhere"), httpx.MockTransport(answer), attempts=5)
    assert client.run("d", "r").state == "running"
    assert seen == ["GET", "GET", "GET"]
    seen.clear()
    with pytest.raises(TransientError, match="locked"):
        client.trigger("d", {})
    assert seen == ["POST"]


def test_the_last_line_of_a_running_task_is_what_its_command_says(tmp_path: Path) -> None:
    client, task = airflow(lambda _: httpx.Response(500), tmp_path), TaskRun("train", "running", 1, None, None)
    assert client.last_line("d", "r", task) == ""
    path = client.log_file("d", "r", task)
    path.parent.mkdir(parents=True)
    said = ["Running stage 'train':", "  1/16 [00:09]\r  2/16 [00:16]\r  3/16 [00:24]"]
    path.write_text("".join(json.dumps({"event": line}) + "\n" for line in said) + '{"event": "half wr')
    assert client.last_line("d", "r", task) == "3/16 [00:24]"
    path.write_text('{"event": "Output:"}\n{"event": "::endgroup::"}\n')
    assert client.last_line("d", "r", task) == ""


def test_of_a_deferred_task_the_triggerer_writes_what_its_command_says(tmp_path: Path) -> None:
    client, task = airflow(lambda _: httpx.Response(500), tmp_path), TaskRun("train", "deferred", 1, None, None)
    path = client.log_file("d", "r", task)
    path.parent.mkdir(parents=True)
    path.write_text('{"event": "Running command: train"}\n{"event": "Pausing task as DEFERRED."}\n')
    path.with_name(path.name + ".trigger.7.log").write_text('{"event": "epoch 1"}\n{"event": "epoch 2"}\n')
    assert client.last_line("d", "r", task) == "epoch 2"


def test_what_a_task_has_left_is_its_return_value() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path.endswith("/dags/d/dagRuns/r/taskInstances/gate/xcomEntries/return_value")
        return httpx.Response(200, json={"value": value})

    value: object = {"refused": "nDCG too low"}
    assert airflow(handler).returned("d", "r", "gate") == {"refused": "nDCG too low"}
    value = json.dumps(value)
    assert airflow(handler).returned("d", "r", "gate") == {"refused": "nDCG too low"}


def test_a_log_says_why_a_task_was_skipped() -> None:
    content = [{"event": "Skipping task.", "reason": "0.0% of 84 documents changed"}]
    client = airflow(lambda _: httpx.Response(200, json={"content": content}))
    assert client.log("d", "r", TaskRun("t", "skipped", 1, None, None)) == ["Skipping task. 0.0% of 84 documents changed"]
