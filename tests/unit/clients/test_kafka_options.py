import json
import ssl
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from pydantic import SecretStr

import twinline.clients.kafka.connect
import twinline.clients.kafka.options
from twinline.clients.kafka.connect import make_admin, make_consumer, make_producer
from twinline.clients.kafka.options import OBJECTS, OPEN, OWN, read_options
from twinline.clients.settings import Settings, load_settings
from twinline.contract.errors import SettingsError

CLIENTS = {make_consumer: KafkaConsumer, make_producer: KafkaProducer, make_admin: KafkaAdminClient}


class TokenProvider:
    """Stands for a user's own."""

    def token(self) -> str:
        return "a token"


def with_options(**options: Any) -> Settings:
    return Settings(kafka_bootstrap="broker.example:9092", kafka_options=SecretStr(json.dumps(options)))


def test_every_setting_of_kafka_python_is_either_open_or_known_to_be_ours() -> None:
    known = set().union(*(client.DEFAULT_CONFIG for client in CLIENTS.values()))
    assert known == OPEN | OWN
    assert not OPEN & OWN
    security = {name for name in known if name.startswith(("sasl_", "ssl_", "security_"))}
    assert security <= OPEN


@pytest.mark.parametrize("make", CLIENTS, ids=lambda make: make.__name__)
def test_every_open_setting_reaches_every_client_that_has_it(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    vendor = CLIENTS[make]
    parts = {"DEFAULT_CONFIG": vendor.DEFAULT_CONFIG, "_fetcher": SimpleNamespace()}
    fake = type(vendor.__name__, (), {**parts, "__init__": lambda _, **given: seen.update(given)})
    monkeypatch.setattr(twinline.clients.kafka.connect, vendor.__name__, fake)
    options: dict[str, Any] = {name: f"value of {name}" for name in OPEN - OBJECTS}
    options |= {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "OAUTHBEARER",
        **dict.fromkeys(("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile"), __file__),
        "sasl_oauth_token_provider": f"{__name__}:TokenProvider",
        "ssl_context": "ssl:create_default_context",
        "api_version": [2, 6],
    }
    make(with_options(**options))
    expected = {name: value for name, value in options.items() if name in vendor.DEFAULT_CONFIG and name not in OBJECTS}
    assert {name: seen[name] for name in expected} == {**expected, "api_version": (2, 6)}
    assert isinstance(seen["ssl_context"], ssl.SSLContext)
    assert seen["sasl_oauth_token_provider"].token() == "a token"
    assert set(seen) <= set(vendor.DEFAULT_CONFIG)


def test_an_option_goes_before_the_setting_of_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(KafkaAdminClient, "__init__", lambda _, **given: seen.update(given))
    settings = with_options(sasl_mechanism="GSSAPI", sasl_kerberos_service_name="brokers")
    make_admin(settings.model_copy(update={"kafka_sasl_mechanism": "PLAIN"}))
    assert (seen["sasl_mechanism"], seen["sasl_kerberos_service_name"]) == ("GSSAPI", "brokers")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"ssl_cafiel": "x"}', "did you mean ssl_cafile"),
        ('{"enable_auto_commit": true}', "Twinline decides"),
        ('{"sasl_oauth_token_provider": "no_such_module:x"}', "module:name"),
        ('{"ssl_context": "ssl"}', "module:name"),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_the_remedy(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_options(text)


def test_no_options_are_none() -> None:
    assert read_options("") == read_options("{}") == {}


def test_a_password_in_the_options_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINLINE_KAFKA_OPTIONS", '{"sasl_plain_password": "hidden"}')
    assert "hidden" not in repr(load_settings())


@pytest.mark.parametrize("error", [FileNotFoundError("no.pem"), ValueError("bad"), AssertionError("bad"), ImportError("gssapi")])
def test_settings_of_which_no_client_can_be_made_are_named(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(KafkaProducer, "__init__", refuse)
    with pytest.raises(SettingsError, match=r"TWINLINE_KAFKA_OPTIONS"):
        make_producer(with_options(ssl_cafile="no.pem"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"security_protocol": "SSL", "ssl_crlfile": "/no/such/file.pem"}, "ssl_crlfile is '/no/such/file.pem'"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-1"}, "SCRAM-SHA-512"),
        ({"security_protocol": "SASL_SSL"}, "sasl_mechanism is None"),
    ],
)
def test_security_that_cannot_work_is_not_reported_as_a_broker_that_is_away(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make_consumer(with_options(**options))


def test_kerberos_without_its_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twinline.clients.kafka.options, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install gssapi"):
        make_consumer(with_options(security_protocol="SASL_SSL", sasl_mechanism="GSSAPI"))
