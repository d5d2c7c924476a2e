"""Deployment settings: addresses, places, secrets, limits; read from the environment once, in a `__main__`, and handed down."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from twinline.contract.errors import SettingsError

PROJECT_VARIABLE: Final = "TWINLINE_PROJECT"
# A folder with these two, the pipeline and its numbers, is a project.
PROJECT_FILES: Final = ("dvc.yaml", "params.yaml")


class Settings(BaseSettings):
    """Every setting is an environment variable: `TWINLINE_` and the name in capitals. Defaults are the embedded stack's."""

    model_config = SettingsConfigDict(env_prefix="TWINLINE_", frozen=True, extra="ignore", populate_by_name=True)

    project: Path = Field(
        default_factory=Path.cwd,
        description="folder of the project: dvc.yaml, params.yaml, dags, registry; default: the working folder",
    )
    home: Path = Field(
        default_factory=lambda known: known["project"] / "var",
        description="folder of all state: broker, store, releases, logs; default: var in the project",
    )
    server_environment: Path = Field(
        default_factory=lambda known: known["project"] / ".venv-server",
        description="virtual environment of the embedded model server; default: .venv-server in the project",
    )
    host: str = Field(default="127.0.0.1", description="address that servers bind; loopback by default")

    kafka_port: int = Field(default=19092, ge=1, le=65535, description="port of the embedded broker")
    kafka_bootstrap: str = Field(
        default="",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP", "TWINLINE_KAFKA_BOOTSTRAP"),
        description="host:port list of a broker that is not ours; empty: the embedded one",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: str | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    kafka_ssl_password: SecretStr | None = None
    # Secret as a whole: a password may be among them.
    kafka_options: SecretStr = Field(
        default=SecretStr(""), description="JSON object of any other kafka-python settings, see twinline/clients/kafka/options.py"
    )
    topic: str = Field(default="documents", description="the log of documents")
    topic_order: Literal["log-time", "versions", "offsets"] = Field(
        default="log-time",
        description="what tells which state without a version is newer: the log's append time, nothing (every message needs a "
        "version), or the offset within its partition; see docs/envelope.md",
    )
    erasure_secret: SecretStr | None = Field(default=None, description="keys the list of erased documents; else a file of home")
    topic_partitions: int = Field(default=2, ge=1, description="partitions of the log, when Twinline creates it")

    triton_http_port: int = Field(default=18000, ge=1, le=65535)
    triton_grpc_port: int = Field(default=18001, ge=1, le=65535)
    triton_metrics_port: int = Field(default=18002, ge=1, le=65535)
    triton_grpc: str = Field(
        default="", description="host:port of a Triton that is not ours, of several with commas; empty: the embedded one"
    )
    triton_http: str = Field(default="", description="host:port of their HTTP endpoints, in the same order")
    triton_repositories: str = Field(
        default="",
        description="model repositories, folders with commas: one for each server in the order of triton_grpc, or one for all; "
        "empty: the one under home",
    )

    store: Literal["edge", "qdrant"] = Field(default="edge", description="Qdrant Edge in process, or a Qdrant server")
    qdrant_url: str | None = Field(default=None, validation_alias=AliasChoices("QDRANT_URL", "TWINLINE_QDRANT_URL"))
    qdrant_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("QDRANT_API_KEY", "TWINLINE_QDRANT_API_KEY")
    )
    qdrant_prefix: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]{0,40}$",
        description="begins the names of collections and of the alias on the server, so that several installations share it",
    )

    search_port: int = Field(default=18080, ge=1, le=65535, description="search API and page")
    search_hosts: str = Field(
        default="",
        description="names that search is asked under, with commas, beside those of loopback and `host`; `*`: any. Beyond "
        "loopback every IP address is accepted, and a name must be listed",
    )
    admin_port: int = Field(default=18081, ge=1, le=65535, description="loopback admin API of the online process")
    query_vector_seconds: float = Field(
        default=60.0, ge=0, description="how long search remembers the vector of a query that was asked; 0: not at all"
    )
    query_seconds: float = Field(
        default=5.0, gt=0, description="how long a query may wait for its vector, over all model servers that are asked for it"
    )
    airflow_port: int = Field(default=18088, ge=1, le=65535)
    daft_runner: Literal["native", "ray"] = "native"

    @field_validator("project", "home")
    @classmethod
    def _resolved(cls, folder: Path) -> Path:
        return folder.expanduser().resolve()

    @field_validator("server_environment")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        # Not resolved: the environment may be a link, and messages use its own name.
        return folder.expanduser().absolute()

    def find_project(self) -> Path:
        """Return the project's folder.

        Raises:
            SettingsError: the folder is no project; names the missing files, and how to name another folder.
        """
        missing = [name for name in PROJECT_FILES if not (self.project / name).is_file()]
        if missing:
            raise SettingsError(
                f"{self.project} is no Twinline project (no {', no '.join(missing)}): run the command in the project's folder, "
                f"or set {PROJECT_VARIABLE} to it"
            )
        return self.project

    def find_home(self) -> Path:
        """Return the folder of all state; refuse a default outside a project.

        Raises:
            SettingsError: TWINLINE_HOME is not set, and the folder of its default is no project.
        """
        if "home" not in self.model_fields_set:
            self.find_project()
        return self.home

    @property
    def dead_letter_topic(self) -> str:
        """Return the topic of dead letters."""
        return f"{self.topic}.dead-letters"

    @property
    def dead_letter_acts_topic(self) -> str:
        """Return the topic that records which dead letters were replayed or discarded."""
        return f"{self.topic}.dead-letter-acts"

    @property
    def erasure_topic(self) -> str:
        """Return the topic of erased documents, each by a keyed hash."""
        return f"{self.topic}.erasures"

    @property
    def kafka_address(self) -> str:
        """Return the bootstrap address in use."""
        return self.kafka_bootstrap or f"{self.host}:{self.kafka_port}"

    @property
    def triton_grpc_address(self) -> str:
        """Return host:port of Triton's gRPC endpoint; several are separated by commas."""
        return self.triton_grpc or f"{self.host}:{self.triton_grpc_port}"

    @property
    def triton_http_address(self) -> str:
        """Return host:port of Triton's HTTP endpoint; several are separated by commas."""
        return self.triton_http or f"{self.host}:{self.triton_http_port}"

    @property
    def search_url(self) -> str:
        """Return the URL of the search API."""
        return f"http://{self.host}:{self.search_port}"

    @property
    def admin_url(self) -> str:
        """Return the URL of the admin API; loopback only, whatever `host` says."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def airflow_url(self) -> str:
        """Return the URL of Airflow."""
        return f"http://{self.host}:{self.airflow_port}"

    @property
    def releases(self) -> Path:
        """Return the folder of fetched releases."""
        return self.home / "releases"

    @property
    def release_state(self) -> Path:
        """Return the folder of the records of releases here: promotions, verifications."""
        return self.home / "release-state"

    @property
    def model_repository(self) -> Path:
        """Return the embedded Triton's model repository."""
        return self.home / "triton" / "models"

    @property
    def model_repositories(self) -> tuple[Path, ...]:
        """Return the model repositories of all servers: one for each, or a shared one."""
        listed = [folder.strip() for folder in self.triton_repositories.split(",") if folder.strip()]
        return tuple(Path(folder).expanduser().resolve() for folder in listed) or (self.model_repository,)

    @property
    def store_folder(self) -> Path:
        """Return the folder of the embedded store."""
        return self.home / "store"

    @property
    def erasures(self) -> Path:
        """Return the folder of the list of erased documents, its secret and the receipts."""
        return self.home / "erasures"

    @property
    def snapshots(self) -> Path:
        """Return the folder of immutable snapshots."""
        return self.home / "snapshots"

    @property
    def kept(self) -> Path:
        """Return the folder of the stage cache; removing it costs time only."""
        return self.home / "kept"


def in_project(project: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment in which a command of ours finds a project, whichever folder it runs in."""
    return {**environment, PROJECT_VARIABLE: str(project)}


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: a value is wrong; names the variable, the value and the allowed values.
    """
    try:
        settings = Settings()
    except ValidationError as exc:
        problems = "; ".join(
            f"{_variable(error['loc'])} is {error['input']!r}: {error['msg']}" for error in exc.errors(include_url=False)
        )
        raise SettingsError(f"environment: {problems}") from exc
    if settings.store == "qdrant" and not settings.qdrant_url:
        raise SettingsError("TWINLINE_STORE is qdrant but QDRANT_URL is not set: name the server, or use TWINLINE_STORE=edge")
    servers, folders = len(settings.triton_grpc_address.split(",")), len(settings.model_repositories)
    if folders not in (1, servers):
        raise SettingsError(
            f"TWINLINE_TRITON_REPOSITORIES names {folders} folders, TWINLINE_TRITON_GRPC {servers} servers: name one folder that "
            "all share, or one for each, in the same order"
        )
    return settings


def _variable(location: tuple[int | str, ...]) -> str:
    name = str(location[0])
    return name if name.isupper() else f"TWINLINE_{name.upper()}"
