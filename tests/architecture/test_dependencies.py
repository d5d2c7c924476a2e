"""What the code imports is what pyproject.toml declares: so that a change of some other package takes none of it away."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.checkout import CHECKOUT

OURS = ("etl", "train", "export", "streaming", "twinline", "triton_models", "bench", "proofs")
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
DECLARED = {
    canonicalize_name(Requirement(text).name)
    for text in (*PROJECT["dependencies"], *(text for extra in PROJECT["optional-dependencies"].values() for text in extra))
}
NOT_FROM_AN_INDEX = {
    "triton_python_backend_utils",  # inside Triton
    "merging",  # beside the backends of the embedded Triton, which import it by that name
    "starlette",  # FastAPI's own foundation: the two versions go together
    "tensorrt",  # only where a GPU is
    "fastembed",  # peers of the benchmark: in environments of their own, bench/peers/environments.py
    "infinity_emb",
}


def imported_modules(package: str) -> Iterator[tuple[str, str]]:
    for path in sorted((CHECKOUT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module]
            for name in names:
                yield name.partition(".")[0], str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("package", OURS)
def test_every_import_is_declared(package: str) -> None:
    owners = packages_distributions()
    known = sys.stdlib_module_names | set(OURS) | NOT_FROM_AN_INDEX
    undeclared = {
        f"{module} in {place}"
        for module, place in imported_modules(package)
        if module not in known and not DECLARED.intersection(canonicalize_name(name) for name in owners.get(module, [module]))
    }
    assert undeclared == set()
