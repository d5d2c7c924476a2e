"""The shape of the project itself: where packages come from, what importing does, and how long modules are."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("etl", "train", "export", "streaming", "twinline", "triton_models", "bench", "proofs")


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_is_ours_and_not_one_of_the_same_name_from_an_index(name: str) -> None:
    # `train`, `export` and `streaming` exist on PyPI too.
    package = importlib.import_module(name)
    assert package.__file__ is not None
    assert Path(package.__file__).resolve().is_relative_to(ROOT / name)


PROBE = """
import importlib, os, sys, threading
before = set(os.listdir("."))
for name in sys.argv[1:]:
    importlib.import_module(name)
assert threading.active_count() == 1, f"importing started {threading.enumerate()}"
assert set(os.listdir(".")) == before, f"importing wrote {set(os.listdir('.')) - before}"
import logging
assert not logging.getLogger().handlers, f"importing installed {logging.getLogger().handlers}"
heavy = {"torch", "transformers", "daft", "openvino", "airflow"} & set(sys.modules)
print(",".join(sorted(heavy)))
"""


def modules(package: str) -> list[str]:
    found = [package]
    for module in pkgutil.walk_packages([str(ROOT / package.replace(".", "/"))], prefix=f"{package}."):
        if not module.name.endswith("__main__") and "backends" not in module.name:
            found.append(module.name)
    return found


@pytest.mark.integration
@pytest.mark.parametrize(
    "package",
    [
        "twinline.contract",
        "twinline.clients",
        "twinline.scoring",
        "twinline.registry",
        "twinline.release",
        "twinline.search",
        "etl",
        "streaming",
    ],
)
def test_importing_a_package_does_nothing_and_loads_nothing_heavy(package: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROBE, *modules(package)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == ""


# What takes long to import. A command's help, its completion and its first complaint must not wait for any of them.
SLOW = (
    *("airflow", "daft", "datasets", "dvc", "fastapi", "grpc", "gto", "jinja2", "kafka", "matplotlib", "numpy", "onnx"),
    *("onnxruntime", "openvino", "pandas", "polars", "prometheus_client", "pyarrow", "qdrant_client", "qdrant_edge"),
    *("scipy", "sentence_transformers", "torch", "transformers", "tritonclient", "uvicorn"),
)
COMMANDS = (
    *(f"twinline.commands.{path.stem}" for path in sorted((ROOT / "twinline" / "commands").glob("[!_]*.py"))),
    *(
        f"{package}.__main__"
        for package in (
            "twinline",
            "etl",
            "train",
            "twinline.release",
            "streaming",
            "twinline.search",
            "triton_models",
            "bench",
            "proofs",
        )
    ),
)


@pytest.mark.integration
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_loads_what_is_slow_to_import_only_when_it_needs_it(command: str) -> None:
    program = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program, command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert set(SLOW) & set(result.stdout.split()) == set()


def python_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).exists()]


@pytest.mark.parametrize("package", [*PACKAGES, "dags"])
def test_every_public_function_and_class_says_what_it_is_for(package: str) -> None:
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in python_files()
        if path.is_relative_to(ROOT / package)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert silent == []


def test_no_module_reads_pickles() -> None:
    guilty = []
    for path in python_files():
        if path.is_relative_to(ROOT / "tests"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib"} for name in names):
                guilty.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert guilty == []
