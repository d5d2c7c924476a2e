"""The parts of the stack, and what is written for the programs that run them. No process is started."""

import socket
from configparser import RawConfigParser
from contextlib import nullcontext
from pathlib import Path

import pytest

from twinline.clients.settings import Settings
from twinline.contract.errors import SettingsError
from twinline.stack import airflow, checks, lifecycle, ports, requirements
from twinline.stack.parts import parts
from twinline.stack.ports import Port
from twinline.stack.supervisor import Supervisor


def names(settings: Settings) -> list[str]:
    return [part.name for part in parts(settings)]


def test_the_embedded_stack_has_four_parts() -> None:
    assert names(Settings()) == ["broker", "triton", "online", "airflow"]


def test_a_part_that_is_elsewhere_is_not_started_here() -> None:
    assert names(Settings(kafka_bootstrap="kafka.example:9092")) == ["triton", "online", "airflow"]
    assert names(Settings(triton_grpc="gpu.example:8001")) == ["broker", "online", "airflow"]


def test_every_port_names_the_setting_that_moves_it() -> None:
    moved = {
        "TWINLINE_KAFKA_PORT": Settings(kafka_port=1),
        "TWINLINE_TRITON_HTTP_PORT": Settings(triton_http_port=1),
        "TWINLINE_TRITON_GRPC_PORT": Settings(triton_grpc_port=1),
        "TWINLINE_TRITON_METRICS_PORT": Settings(triton_metrics_port=1),
        "TWINLINE_SEARCH_PORT": Settings(search_port=1),
        "TWINLINE_ADMIN_PORT": Settings(admin_port=1),
        "TWINLINE_AIRFLOW_PORT": Settings(airflow_port=1),
    }
    for setting, settings in moved.items():
        listed = [port for part in parts(settings) for port in part.ports if port.number == 1]
        assert listed == [Port(1, setting)]


def test_only_airflow_is_stopped_as_a_group() -> None:
    # The broker's own process must be first: a signal to the server itself loses messages.
    assert [part.name for part in parts(Settings()) if part.stops_as_group] == ["airflow"]


def test_every_taken_port_is_named_with_its_holder_and_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken = [Port(opened.getsockname()[1], f"TWINLINE_{index}") for index, opened in enumerate((first, second))]
        with pytest.raises(SettingsError) as refusal:
            ports.check_free("127.0.0.1", taken)

    for port in taken:
        assert f"port {port.number} is held by" in str(refusal.value)
        assert f"set {port.setting}" in str(refusal.value)
    assert "pid" in str(refusal.value)


def test_an_address_that_is_not_ours_is_an_error_about_the_address() -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        ports.check_free("192.0.2.1", [Port(18080, "TWINLINE_SEARCH_PORT")])


def test_a_home_too_deep_for_a_socket_is_refused_with_the_setting() -> None:
    with pytest.raises(SettingsError, match="TWINLINE_HOME"):
        Supervisor(Path("/" + "deep/" * 30))


def test_a_percent_sign_in_a_path_survives_the_supervisor(tmp_path: Path) -> None:
    home = Path("/tmp/100%/home")  # noqa: S108  never made
    rendered: RawConfigParser = Supervisor(home)._render(parts(Settings(home=home)), home)

    assert "/tmp/100%%/home/kafka" in rendered["program:broker"]["command"]  # noqa: S108


@pytest.mark.parametrize(
    ("host", "open_to_all"),
    [("127.0.0.1", "True"), ("localhost", "True"), ("0.0.0.0", "False"), ("search.example", "False")],  # noqa: S104
)
def test_airflow_asks_for_a_password_wherever_others_can_reach_it(host: str, open_to_all: str) -> None:
    variables = airflow.environment(Settings(host=host), Path("/bin"))
    assert variables["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == open_to_all


def test_airflow_reads_the_dags_of_the_project_and_its_tasks_work_there(tmp_path: Path) -> None:
    variables = airflow.environment(Settings(project=tmp_path), Path("/bin"))
    assert variables["AIRFLOW__CORE__DAGS_FOLDER"] == str(tmp_path / "dags")
    assert variables["TWINLINE_PROJECT"] == str(tmp_path)
    assert variables["PYTHONPATH"].split(":")[0] == str(tmp_path / "dags")


def test_airflow_is_found_through_our_stand_in_first() -> None:
    first = airflow.environment(Settings(), Path("/elsewhere"))["PATH"].split(":")[0]
    assert (Path(first) / "airflow").stat().st_mode & 0o111


ODD = [
    "my proj",
    "v1 (copy)",
    "it's",
    'say "x"',
    "$(id)",
    "100%",
    "a&b",
    "a;b",
    "C#",
    "[x]",
    "{x}",
    "caf\u00e9",
    "~",
    "a\\b",
    "a,b",
    "a=b",
]


@pytest.mark.parametrize("name", ODD)
def test_a_folder_may_have_any_name_that_every_part_can_read(name: str) -> None:
    place = Path("/srv") / name / "twinline"
    requirements.check_places(Settings(project=place))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a:b", "PATH"),
        ("what?", "SQLite"),
        ("my #1 project", "supervisord"),
        ("a ;b", "supervisord"),
        ("a\nb", "configuration file"),
        ("a\tb", "configuration file"),
        ("a\x1bb", "configuration file"),
        ("caf\udce9", "locale"),
    ],
)
@pytest.mark.parametrize("setting", ["project", "home"])
def test_a_folder_that_a_part_would_misread_is_refused_before_anything_starts(name: str, reason: str, setting: str) -> None:
    settings = Settings(**{setting: Path("/srv") / name / "twinline"})
    with pytest.raises(SettingsError, match=reason):
        requirements.check_places(settings)
    finding = checks._places(settings)
    assert (finding.verdict, reason in finding.detail) == ("bad", True)
    with pytest.raises(SettingsError, match=reason):
        lifecycle.up(settings, (), lambda _: nullcontext(), print)
