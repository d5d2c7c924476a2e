"""The broker that people run: Apache Kafka with SASL_SSL and few rights, wrong credentials at every door, and foreign clients."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from proofs.foreign.apache import ApacheKafka, missing_tools
from tests.checkout import CHECKOUT
from twinline.clients.kafka.connect import kafka_errors, make_admin, make_consumer, make_producer
from twinline.clients.settings import Settings
from twinline.contract.errors import SettingsError
from twinline.stack import checks

# A person waits: not the ten seconds in which a broker that is away is asked again.
AT_ONCE_SECONDS = 8.0
needs_java = pytest.mark.skipif(bool(missing_tools()), reason=f"Apache Kafka needs {', '.join(missing_tools())}")


def secure(apache: ApacheKafka, **changes: Any) -> Settings:
    right = {
        "kafka_bootstrap": apache.secure_address,
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": "SCRAM-SHA-256",
        "kafka_sasl_username": "twinline-user",
        "kafka_sasl_password": "correct horse",
        "kafka_ssl_cafile": apache.folder / "ca.pem",
    }
    return Settings(**{**right, **changes})


def mutual(apache: ApacheKafka, **changes: Any) -> Settings:
    right = {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": apache.folder / "ca.pem"}
    return Settings(kafka_bootstrap=apache.mutual_address, **{**right, **changes})


WRONG: dict[str, tuple[Callable[[ApacheKafka], Settings], str]] = {
    "password": (lambda apache: secure(apache, kafka_sasl_password="wrong"), "TWINLINE_KAFKA_SASL_PASSWORD"),
    "user": (lambda apache: secure(apache, kafka_sasl_username="nobody"), "TWINLINE_KAFKA_SASL_USERNAME"),
    "no_authority": (lambda apache: secure(apache, kafka_ssl_cafile=None), "TWINLINE_KAFKA_SSL_CAFILE"),
    "another_authority": (
        lambda apache: secure(apache, kafka_ssl_cafile=apache.folder / "foreign-ca.pem"),
        "TWINLINE_KAFKA_SSL_CAFILE",
    ),
    "plaintext_to_tls": (
        lambda apache: Settings(kafka_bootstrap=apache.secure_address),
        "TWINLINE_KAFKA_SECURITY_PROTOCOL is PLAINTEXT, set SSL",
    ),
    "sasl_plaintext_to_tls": (
        lambda apache: secure(apache, kafka_security_protocol="SASL_PLAINTEXT"),
        "TWINLINE_KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT, set SASL_SSL",
    ),
    "tls_to_plaintext": (
        lambda apache: secure(apache, kafka_bootstrap=apache.address),
        "TWINLINE_KAFKA_SECURITY_PROTOCOL is SASL_SSL, set SASL_PLAINTEXT",
    ),
    "sasl_where_none_is_wanted": (
        lambda apache: secure(apache, kafka_bootstrap=apache.address, kafka_security_protocol="SASL_PLAINTEXT"),
        "TWINLINE_KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT, set PLAINTEXT",
    ),
    "no_sasl_where_it_is_wanted": (
        lambda apache: secure(apache, kafka_security_protocol="SSL"),
        "TWINLINE_KAFKA_SECURITY_PROTOCOL is SSL, set SASL_SSL",
    ),
    "mechanism": (lambda apache: secure(apache, kafka_sasl_mechanism="PLAIN"), "TWINLINE_KAFKA_SASL_MECHANISM"),
    "no_certificate": (mutual, "TWINLINE_KAFKA_SSL_CERTFILE"),
    "a_strangers_certificate": (
        lambda apache: mutual(
            apache, kafka_ssl_certfile=apache.folder / "foreign-ca.pem", kafka_ssl_keyfile=apache.folder / "other.key"
        ),
        "TWINLINE_KAFKA_SSL_KEYFILE",
    ),
}


@needs_java
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_what_no_repetition_changes_is_told_at_once_with_its_setting(apache: ApacheKafka, name: str) -> None:
    make, setting = WRONG[name]
    settings = make(apache)
    doors: dict[str, Callable[[Settings], object]] = {
        "publish": make_producer,
        "consumer": make_consumer,
        "topics": make_admin,
        "doctor": checks._broker_elsewhere,
    }
    for door, enter in doors.items():
        began = time.monotonic()
        if door == "doctor":
            finding = checks._broker_elsewhere(settings)
            assert (finding.verdict, setting in finding.detail) == ("bad", True), finding
        else:
            with pytest.raises(SettingsError) as caught:
                enter(settings)
            assert setting in str(caught.value), door
        assert time.monotonic() - began < AT_ONCE_SECONDS, door


@needs_java
def test_right_credentials_are_let_in(apache: ApacheKafka) -> None:
    certificate = {"kafka_ssl_certfile": apache.folder / "client.crt", "kafka_ssl_keyfile": apache.folder / "client.key"}
    for settings in (Settings(kafka_bootstrap=apache.address), secure(apache), mutual(apache, **certificate)):
        admin = make_admin(settings)
        with kafka_errors(settings):
            admin.list_topics()
        admin.close()
        assert checks._broker_elsewhere(settings).verdict == "good"


@needs_java
@pytest.mark.timeout(600)
def test_the_core_of_the_consumer_holds_for_a_user_with_few_rights() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--broker", "apache-secure"]
    chosen = ["tests/integration/test_streaming.py", "tests/integration/test_foreign_clients.py"]
    done = subprocess.run([*command, *chosen], cwd=CHECKOUT, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@needs_java
@pytest.mark.timeout(400)
@pytest.mark.parametrize("broker", ["apache", "embedded"])
def test_all_that_foreign_clients_write_is_indexed_or_set_aside(broker: str) -> None:
    workspace = CHECKOUT / "var" / "test-cache" / "foreign"
    command = [sys.executable, "-m", "proofs", "foreign", "--short", "--json", "--broker", broker, "--workspace", str(workspace)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["failures"], report["standstill"]) == ([], 0)
    assert report["indexed"] + report["set_aside"] == report["messages"] > 200
    assert set(report["transactions"]) == {"committed", "aborted", "empty", "left_open"}
    assert min(report["by_client"][client] for client in ("librdkafka", "java")) > 0
