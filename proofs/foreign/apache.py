"""Apache Kafka in one process (KRaft), from Maven's jars: plain, SASL_SSL with SCRAM, and mutual TLS, with an authorizer.

Whoever comes by the plain listener may do everything. By the others, each user may do what was granted.
"""

import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType
from kafka.errors import KafkaError

from bench.checkout import CHECKOUT
from bench.workspace import free_ports
from twinline.contract.errors import SettingsError

VERSION: Final = "4.2.1"
USER, PASSWORD = "twinline-user", "correct horse"
MECHANISM: Final = "SCRAM-SHA-256"
_REPLICATED: Final = ("default", "offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
# The least that the platform needs beside its own embedded parts; docs/kafka.md names them.
RIGHTS: Final = (
    ("topic", "documents", ("read", "write", "describe", "create", "describe_configs")),
    ("group", "twinline", ("read", "describe")),
)
_LOGGING: Final = "2.24.3"  # slf4j 1, which Kafka speaks
CACHE: Final = CHECKOUT / "var" / "test-cache"
_JAVA: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_FETCH_SECONDS: Final = 300
_CLIENT_SECONDS: Final = 120
_START_SECONDS: Final = 90
_STOP_SECONDS: Final = 30
_ARTEFACTS: Final = (
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", _LOGGING),
    ("org.apache.logging.log4j", "log4j-core", _LOGGING),
)


def java_client(jars: Path, main: str, *arguments: str, text: str = "", folder: Path | None = None) -> str:
    """Run one of Apache Kafka's own programs; return its output.

    Raises:
        SettingsError: it failed.
    """
    command = ["java", "-Xmx256m", *_JAVA, "-cp", f"{jars}/*", main, *arguments]
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, timeout=_CLIENT_SECONDS, check=False)
    if done.returncode:
        raise SettingsError(f"{main} ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-800:]}")
    return done.stdout


def missing_tools() -> list[str]:
    """Return the programs that Apache Kafka needs and this machine lacks."""
    return [name for name in ("java", "mvn", "openssl") if shutil.which(name) is None]


def fetch_jars(cache: Path = CACHE) -> Path:
    """Return the folder of Apache Kafka's jars, fetched once.

    Raises:
        SettingsError: Java or Maven is missing, or Maven's repository cannot be reached.
    """
    if missing := missing_tools():
        raise SettingsError(f"Apache Kafka needs {', '.join(missing)}: apt-get install default-jre-headless maven openssl")
    folder = cache / f"apache-kafka-{VERSION}"
    if folder.is_dir():
        return folder
    work = cache / f"apache-kafka-{VERSION}.begun"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    wanted = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in _ARTEFACTS
    )
    (work / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>twinline</groupId>'
        f"<artifactId>apache-kafka</artifactId><version>1</version><dependencies>{wanted}</dependencies></project>"
    )
    command = ["mvn", "-B", "-q", "dependency:copy-dependencies", f"-DoutputDirectory={work / 'jars'}"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)
    if done.returncode:
        raise SettingsError(f"Maven brings no Apache Kafka {VERSION}: {(done.stdout + done.stderr).strip()[-600:]}")
    (work / "jars").rename(folder)
    shutil.rmtree(work)
    return folder


@dataclass
class ApacheKafka:
    """One running broker. `stop()` ends it; `kill()` does so with -9, after which `begin()` starts it on the same data."""

    folder: Path
    jars: Path
    ports: Sequence[int]
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, folder: Path) -> Self:
        """Make a broker with certificates and a user of its own in `folder`, and wait until it answers.

        Raises:
            SettingsError: Java or Maven is missing; or the broker ended, with the end of its log.
        """
        broker = cls(folder, fetch_jars(), free_ports(4))
        folder.mkdir(parents=True)
        _make_certificates(folder)
        (folder / "server.properties").write_text(broker._properties())
        cluster = broker.tool("kafka.tools.StorageTool", "random-uuid").strip().splitlines()[-1]
        scram = f"{MECHANISM}=[name={USER},password={PASSWORD}]"
        broker.tool("kafka.tools.StorageTool", "format", "-t", cluster, "-c", "server.properties", "--add-scram", scram)
        broker.begin()
        return broker

    @property
    def address(self) -> str:
        """Return the plain listener."""
        return f"127.0.0.1:{self.ports[0]}"

    @property
    def secure_address(self) -> str:
        """Return the listener with SASL_SSL."""
        return f"127.0.0.1:{self.ports[1]}"

    @property
    def mutual_address(self) -> str:
        """Return the listener that asks for a client's certificate."""
        return f"127.0.0.1:{self.ports[2]}"

    def secure_variables(self) -> dict[str, str]:
        """Return the environment of a process that comes as `USER`."""
        return {
            "KAFKA_BOOTSTRAP": self.secure_address,
            "TWINLINE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "TWINLINE_KAFKA_SASL_MECHANISM": MECHANISM,
            "TWINLINE_KAFKA_SASL_USERNAME": USER,
            "TWINLINE_KAFKA_SASL_PASSWORD": PASSWORD,
            "TWINLINE_KAFKA_SSL_CAFILE": str(self.folder / "ca.pem"),
        }

    def grant(self, rights: Sequence[tuple[str, str, Sequence[str]]]) -> None:
        """Grant `USER` operations on resources with a prefix: rows of kind, prefix, operations."""
        acls = [
            ACL(
                principal=f"User:{USER}",
                host="*",
                operation=ACLOperation[operation.upper()],
                permission_type=ACLPermissionType.ALLOW,
                resource_pattern=ResourcePattern(ResourceType[kind.upper()], prefix, ACLResourcePatternType.PREFIXED),
            )
            for kind, prefix, operations in rights
            for operation in operations
        ]
        with closing(KafkaAdminClient(bootstrap_servers=self.address)) as admin:
            admin.create_acls(acls)

    def tool(self, main: str, *arguments: str) -> str:
        """Run one of Apache Kafka's own programs in the broker's folder; return its output."""
        return java_client(self.jars, main, *arguments, folder=self.folder)

    def begin(self) -> None:
        """Start the broker on its data, and wait until it answers."""
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["java", "-Xmx512m", *_JAVA, "-cp", f"{self.jars}/*", "kafka.Kafka", "server.properties"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        give_up = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                lines = (self.folder / "broker.log").read_text(errors="replace").splitlines()
                said = "; ".join(line for line in lines if "ERROR" in line or line.startswith("Caused by"))[:1_500]
                raise SettingsError(f"Apache Kafka did not start in {self.folder}: {said}")
            time.sleep(0.2)

    def kill(self) -> None:
        """End the broker with -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(_STOP_SECONDS)
            self.process = None

    def stop(self) -> None:
        """End the broker."""
        if self.process is not None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_SECONDS)
            self.kill()

    def _answers(self) -> bool:
        try:
            with closing(KafkaAdminClient(bootstrap_servers=self.address, bootstrap_timeout_ms=1_000)) as admin:
                admin.list_topics()
        except KafkaError:
            return False
        return True

    def _properties(self) -> str:
        plain, secure, mutual, controller = self.ports
        listeners = {"PLAIN": plain, "SECURE": secure, "MUTUAL": mutual, "CONTROLLER": controller}
        places = {name: f"{name}://127.0.0.1:{port}" for name, port in listeners.items()}
        return "\n".join([
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{controller}",
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=PLAIN",
            f"listeners={','.join(places.values())}",
            f"advertised.listeners={','.join(place for name, place in places.items() if name != 'CONTROLLER')}",
            "listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL",
            f"log.dirs={self.folder / 'data'}",
            f"sasl.enabled.mechanisms={MECHANISM},SCRAM-SHA-512",
            *(
                f"listener.name.secure.{name}.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;"
                for name in ("scram-sha-256", "scram-sha-512")
            ),
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={self.folder / 'server.pem'}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={self.folder / 'ca.pem'}",
            "listener.name.mutual.ssl.client.auth=required",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:ANONYMOUS",
            "auto.create.topics.enable=false",
            "num.partitions=2",
            *(f"{name}.replication.factor=1" for name in _REPLICATED),
            "transaction.state.log.min.isr=1",
            "share.coordinator.state.topic.min.isr=1",
            "offsets.topic.num.partitions=4",
            "transaction.state.log.num.partitions=4",
            "group.initial.rebalance.delay.ms=0",
            # So that what expires does so while a test waits.
            "log.retention.check.interval.ms=500",
            "log.segment.delete.delay.ms=100",
            "",
        ])  # fmt: skip


def _make_certificates(folder: Path) -> None:
    """Make a certificate authority, the broker's certificate (key and chain in one file) and a client's."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority of a test")
    (folder / "names.txt").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names.txt")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
    whole = [(folder / name).read_text() for name in ("server.key", "server.crt", "ca.pem")]
    (folder / "server.pem").write_text("".join(whole))
    shutil.copy(folder / "ca.pem", folder / "foreign-ca.pem")
    openssl("req", "-x509", *key, "-keyout", "other.key", "-out", "foreign-ca.pem", "-subj", "/CN=another authority")
