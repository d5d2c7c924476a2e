"""What a part of the code imports, its role installs: so that no role needs the packages of another, nor loses one by chance."""

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.checkout import CHECKOUT

PROJECT: Final[dict[str, Any]] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
SERVER: Final = "server"  # the model server's own environment: ops/server-requirements.txt

# By the beginning of a module's place, the longest that fits: the roles in which it runs. None: the base alone.
ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "twinline/__init__.py": (),
    "twinline/__main__.py": (),
    "twinline/contract": (),
    "twinline/clients": (),
    "twinline/clients/base_model.py": ("train",),
    "twinline/clients/store/edge": ("serve", "release"),
    "twinline/clients/store/qdrant": ("serve", "release"),
    "twinline/commands": (),
    "twinline/demo": (),
    "twinline/search": ("serve",),
    "twinline/search/client.py": (),
    "twinline/search/exchange.py": (),
    "twinline/search/results.py": (),
    "twinline/online": ("serve",),
    "twinline/stack": ("serve",),
    "streaming": ("serve",),
    # written by `release publish`, served by `up`
    "triton_models": ("serve", "release"),
    "triton_models/backends": (SERVER,),
    "triton_models/encoder/tokenizer/model.py": (SERVER,),
    # served by Triton; stepped in process by export's parity and by whoever decodes again
    "triton_models/generator/engine": (SERVER, "train"),
    "triton_models/generator/generate/model.py": (SERVER,),
    "etl": ("train",),
    # read by the extra of their libraries
    "etl/sources/compression.py": ("formats",),
    "etl/sources/formats/archives.py": ("formats",),
    "etl/sources/formats/books.py": ("formats",),
    "etl/sources/formats/office.py": ("formats",),
    "etl/sources/formats/rst.py": ("formats",),
    "train": ("train",),
    "export": ("train",),
    "twinline/scoring": ("train", "release"),
    # asked and scored by a client alone
    "twinline/scoring/__init__.py": (),
    "twinline/scoring/first_ten.py": (),
    "twinline/scoring/intervals.py": (),
    "twinline/scoring/ranking.py": ("train",),
    "twinline/scoring/runtimes.py": ("train",),
    "twinline/registry": ("release",),
    "twinline/release": ("release",),
    "twinline/upkeep": ("release",),
    "twinline/upkeep/__init__.py": (),
    "twinline/upkeep/questions": (),
    "twinline/scheduling": ("schedule",),
    "bench": ("all", "dev"),
    "proofs": ("all", "dev"),
}
OURS = ("etl", "train", "export", "streaming", "twinline", "triton_models", "bench", "proofs")
NOT_FROM_AN_INDEX = {
    "triton_python_backend_utils",  # inside Triton
    "merging",  # beside the backends of the embedded Triton, which import it by that name
    "starlette",  # FastAPI's own foundation: the two versions go together
    "tensorrt",  # only where a GPU is
    "vllm",
    "fastembed",  # peers of the benchmark: in environments of their own, bench/peers/environments.py
    "infinity_emb",
}


def names(requirements: list[str]) -> Iterator[str]:
    for text in requirements:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) != PROJECT["name"]:
            yield canonicalize_name(requirement.name)
        for extra in requirement.extras if canonicalize_name(requirement.name) == PROJECT["name"] else ():
            yield from names(PROJECT["optional-dependencies"][extra])


def installed_by(role: str) -> set[str]:
    """Return the packages that an environment with one role has by our own declaration."""
    if role == SERVER:
        lines = (CHECKOUT / "ops" / "server-requirements.txt").read_text().splitlines()
        return set(names([line for line in lines if line and not line.startswith("#")]))
    return set(names(PROJECT["dependencies"])) | set(names(PROJECT["optional-dependencies"].get(role, [])))


def roles_of(place: str) -> tuple[str, ...]:
    return ROLES[max((beginning for beginning in ROLES if place.startswith(beginning)), key=len)]


def modules() -> list[Path]:
    return [path for package in OURS for path in sorted((CHECKOUT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", OURS)
def test_every_import_is_declared_for_each_role_that_its_module_runs_in(package: str) -> None:
    owners = packages_distributions()
    known = sys.stdlib_module_names | set(OURS) | NOT_FROM_AN_INDEX
    undeclared = set()
    for path in modules():
        place = path.relative_to(CHECKOUT).as_posix()
        if not place.startswith(f"{package}/"):
            continue
        roles = roles_of(place)
        # bench and proofs run where everything is installed; any other module in each of its roles alone.
        environments = (
            [set().union(*map(installed_by, roles))] if "dev" in roles else [installed_by(role) for role in roles or ("",)]
        )
        for module in set(imported(path)) - known:
            distributions = {canonicalize_name(name) for name in owners.get(module, [module])}
            undeclared |= {f"{module} in {place}, {roles}" for installed in environments if not distributions & installed}
    assert undeclared == set()


def test_every_part_of_the_code_has_its_role() -> None:
    places = [path.relative_to(CHECKOUT).as_posix() for path in modules()]
    # A beginning that fits no module any more is a role that moved away unseen.
    assert [beginning for beginning in ROLES if not any(place.startswith(beginning) for place in places)] == []
    assert [place for place in places if not any(place.startswith(beginning) for beginning in ROLES)] == []


@pytest.mark.parametrize(
    ("role", "without"),
    [
        ("", {"torch", "apache-airflow", "dvc", "fastapi", "qdrant-client", "daft", "pyarrow"}),
        ("serve", {"torch", "apache-airflow", "dvc", "daft", "transformers"}),
        ("train", {"apache-airflow", "fastapi", "noida-db"}),
        ("release", {"torch", "apache-airflow", "fastapi", "daft"}),
        ("schedule", {"torch", "fastapi", "daft"}),
        ("formats", {"torch", "apache-airflow", "dvc", "daft", "pyarrow"}),
    ],
)
def test_no_role_installs_what_makes_another_one_heavy(role: str, without: set[str]) -> None:
    assert installed_by(role) & without == set()


def test_all_is_every_role() -> None:
    roles = {role for listed in ROLES.values() for role in listed} - {"all", "dev", SERVER}
    assert installed_by("all") == set().union(*map(installed_by, roles))


def test_every_package_of_a_role_has_its_exact_version() -> None:
    pinned = {line.partition("==")[0] for line in (CHECKOUT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert installed_by("all") | installed_by("dev") | installed_by("ray") <= pinned
