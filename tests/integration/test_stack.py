"""The stack comes up, says how it is, and goes down without a trace, also after a crash."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.integration.conftest import Stack
from twinline.stack import ports, processes
from twinline.stack.processes import STACK_VARIABLE

_BROKER_ONLY = ("up", "--no-triton", "--no-online", "--no-scheduler")


@pytest.fixture
def small_stack(make_stack: Callable[[str], Stack], request: pytest.FixtureRequest) -> Stack:
    """A stack for one test, which may break it."""
    return make_stack(f"small-{abs(hash(request.node.name)) % 10**6}")


def publish(stack: Stack, count: int) -> None:
    producer = KafkaProducer(bootstrap_servers=stack.settings.kafka_address)
    for number in range(count):
        producer.send("t", str(number).encode())
    producer.flush()
    producer.close()


def messages_kept(stack: Stack) -> int:
    consumer = KafkaConsumer(bootstrap_servers=stack.settings.kafka_address)
    partitions = [TopicPartition("t", number) for number in consumer.partitions_for_topic("t") or ()]
    kept = sum(consumer.end_offsets(partitions).values())
    consumer.close()
    return kept


def marked_processes(home: Path) -> list[str]:
    """Find processes with the stack's mark; written out here, so that the product's own search does not judge itself."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(STACK_VARIABLE) == str(home):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def kill_supervisor(stack: Stack) -> None:
    pid = int((stack.home / "run" / "supervisord.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)


def test_messages_published_before_down_are_there_after_up_again(small_stack: Stack) -> None:
    assert small_stack.run(*_BROKER_ONLY).returncode == 0
    publish(small_stack, 3000)

    assert small_stack.run("down").returncode == 0
    assert marked_processes(small_stack.home) == []
    assert small_stack.run(*_BROKER_ONLY).returncode == 0

    assert messages_kept(small_stack) == 3000


def test_down_ends_every_process_and_keeps_every_message_after_the_supervisor_was_killed(small_stack: Stack) -> None:
    small_stack.run(*_BROKER_ONLY)
    publish(small_stack, 3000)
    kill_supervisor(small_stack)
    assert marked_processes(small_stack.home) != []

    down = small_stack.run("down")

    assert down.returncode == 0
    assert "ended a leftover" in down.stdout
    assert marked_processes(small_stack.home) == []
    small_stack.run(*_BROKER_ONLY)
    assert messages_kept(small_stack) == 3000


@pytest.mark.timeout(600)
def test_the_whole_stack_comes_up_and_a_crash_leaves_nothing_behind(make_stack: Callable[[str], Stack]) -> None:
    stack = make_stack("whole")

    up = stack.run("up", timeout=400)
    assert up.returncode == 0, up.stderr
    status = json.loads(stack.run("status", "--json").stdout)
    assert {part["name"]: part["state"] for part in status["parts"]} == dict.fromkeys(
        ("broker", "triton", "online", "airflow"), "ready"
    )
    kill_supervisor(stack)
    down = stack.run("down")

    assert down.returncode == 0, down.stderr
    assert marked_processes(stack.home) == []
    for part in status["parts"]:
        for port in part["ports"]:
            assert ports.is_free("127.0.0.1", port), f"{part['name']} still holds {port}"


def test_up_after_a_crash_ends_the_leftovers_and_starts_again(small_stack: Stack) -> None:
    small_stack.run(*_BROKER_ONLY)
    publish(small_stack, 10)
    kill_supervisor(small_stack)

    up = small_stack.run(*_BROKER_ONLY)

    assert up.returncode == 0, up.stderr
    assert messages_kept(small_stack) == 10


def test_up_twice_changes_nothing(small_stack: Stack) -> None:
    small_stack.run(*_BROKER_ONLY)
    before = {process.pid for process in processes.find(small_stack.home)}

    assert small_stack.run(*_BROKER_ONLY).returncode == 0

    assert {process.pid for process in processes.find(small_stack.home)} == before


def test_up_with_other_settings_than_the_running_stack_has_is_refused(small_stack: Stack) -> None:
    small_stack.run(*_BROKER_ONLY)
    small_stack.environment["TWINLINE_SEARCH_PORT"] = "18999"

    up = small_stack.run(*_BROKER_ONLY)

    assert up.returncode == 2
    assert "search_port" in up.stderr
    assert "twinline down" in up.stderr


def test_down_twice_is_not_an_error(small_stack: Stack) -> None:
    small_stack.run(*_BROKER_ONLY)
    assert small_stack.run("down").returncode == 0
    assert small_stack.run("down").returncode == 0


def test_a_port_in_use_is_an_error_that_names_its_holder_and_the_setting(small_stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", small_stack.settings.kafka_port)):
        up = small_stack.run(*_BROKER_ONLY)

    assert up.returncode == 2
    assert f"port {small_stack.settings.kafka_port}" in up.stderr
    assert f"pid {os.getpid()}" in up.stderr
    assert "TWINLINE_KAFKA_PORT" in up.stderr
    assert marked_processes(small_stack.home) == []


def test_a_part_that_ends_at_once_is_reported_with_the_end_of_its_log(make_stack: Callable[[str], Stack], tmp_path: Path) -> None:
    stack = make_stack("broken")
    (stack.home / "kafka").parent.mkdir(parents=True)
    (stack.home / "kafka").write_text("a file where the broker wants a folder")

    up = stack.run(*_BROKER_ONLY)

    assert up.returncode == 1
    assert "Kafka broker is not ready" in up.stderr
    assert "FileExistsError" in up.stderr


def test_status_tells_what_runs_and_what_does_not(small_stack: Stack) -> None:
    stopped = json.loads(small_stack.run("status", "--json").stdout)
    assert {part["state"] for part in stopped["parts"]} == {"stopped"}

    small_stack.run(*_BROKER_ONLY)
    status = small_stack.run("status", "--json")

    parts = {part["name"]: part for part in json.loads(status.stdout)["parts"]}
    assert status.returncode == 1, "not every part is ready"
    assert parts["broker"]["state"] == "ready"
    assert parts["broker"]["ports"] == [small_stack.settings.kafka_port]
    assert psutil.pid_exists(parts["broker"]["pid"])
    assert parts["triton"]["state"] == "stopped"

    kill_supervisor(small_stack)
    orphaned = json.loads(small_stack.run("status", "--json").stdout)
    assert {part["state"] for part in orphaned["parts"] if part["name"] == "broker"} == {"unsupervised"}
