"""The pipeline's files: each stage depends on the code that decides its result, and params.yaml is what the stages read."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from clients.params import load_params
from etl.params import IngestParams, PairsParams, PrepareParams
from export.params import ExportParams, PackageParams, ParityParams, ProfileParams, QualityParams
from train.params import ContractParams, EvaluateParams, PipelineParams, SimilarityParams, TrainParams

ROOT = Path(__file__).resolve().parents[3]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PACKAGES = ("contract", "clients", "scoring", "etl", "train", "export")

# These carry addresses, places, messages and what `params:` names already, and change no result.
PLUMBING = {
    "clients/settings.py",
    "clients/telemetry.py",
    "clients/params.py",
    "clients/kafka.py",
    "clients/kafka_options.py",
    "clients/retry.py",
    "etl/progress.py",
}


def imported(path: Path) -> set[Path]:
    """Return the files of ours that a module imports when it runs, at its top or inside a function."""
    found: set[Path] = set()
    tree = ast.parse(path.read_text())
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            block.body = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in PACKAGES:
                found.add(file_of(name))
    return {path for path in found if path.is_file()}


def file_of(module: str) -> Path:
    """Return the file of a module; of a package, its `__init__`."""
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def code_behind(package: str, command: str) -> set[str]:
    """Return every file that a stage's function in `__main__` leads to."""
    main = ast.parse((ROOT / package / "__main__.py").read_text())
    function = next(node for node in ast.walk(main) if isinstance(node, ast.FunctionDef) and node.name == command)
    names = [node.module for node in ast.walk(function) if isinstance(node, ast.ImportFrom) and node.module]
    waiting = {file_of(name) for name in names}
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        waiting |= imported(path)
    return {str(path.relative_to(ROOT)) for path in seen}


@pytest.mark.parametrize("stage", ["ingest", "prepare", "pairs", "train", "evaluate"])
def test_a_stage_depends_on_all_of_the_code_that_it_runs(stage: str) -> None:
    package, command = STAGES[stage]["cmd"].split()[2:]
    dependencies = STAGES[stage]["deps"]
    missing = {
        path
        for path in code_behind(package, command) - PLUMBING
        if not any(path == dependency or path.startswith(f"{dependency}/") for dependency in dependencies)
    }
    assert missing == set()


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_on_code_is_there(stage: str) -> None:
    made = [out for other in STAGES.values() for out in other["outs"] + other.get("metrics", [])]
    code = [path for path in STAGES[stage]["deps"] if not any(path == out or path.startswith(f"{out}/") for out in made)]
    assert code
    assert [path for path in code if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ("", PipelineParams),
        ("contract", ContractParams),
        ("ingest", IngestParams),
        ("prepare", PrepareParams),
        # the evaluation looks for leaks by the same numbers
        ("prepare", SimilarityParams),
        ("pairs", PairsParams),
        ("train", TrainParams),
        ("evaluate", EvaluateParams),
        ("export", ExportParams),
        ("parity", ParityParams),
        ("quality", QualityParams),
        ("profile", ProfileParams),
        ("package", PackageParams),
    ],
)
def test_params_yaml_has_what_each_stage_reads_and_nothing_else(section: str, kind: type) -> None:
    load_params(section, kind, ROOT / "params.yaml")
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    written = set(tree[section] if section else {key for key, value in tree.items() if not isinstance(value, dict)})
    assert written == set(kind.__dataclass_fields__), "a number that is not written down is a hidden one"


def test_each_section_of_params_yaml_makes_a_stage_stale() -> None:
    read = {name for stage in STAGES.values() for name in stage["params"]}
    assert read == set(yaml.safe_load((ROOT / "params.yaml").read_text()))
