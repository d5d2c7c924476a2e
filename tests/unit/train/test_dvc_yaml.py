"""The pipeline's files: each stage depends on the code that decides its result, and params.yaml is what the stages read."""

import ast
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.params import IngestParams, PairsParams, PrepareParams
from export.encoder.params import ExportParams, PackageParams, ParityParams, ProfileParams, QualityParams
from train.encoder.params import ContractParams, EncoderParams, EvaluateParams, PipelineParams, SimilarityParams, TrainParams
from twinline.clients.params import load_params, load_plain_params
from twinline.contract import artefacts
from twinline.contract.artefacts import ENCODER, Artifact

ROOT = Path(__file__).resolve().parents[3]
PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, Any] = PIPELINE["stages"]
PACKAGES = ("twinline", "etl", "train", "export")

# These carry addresses, places, messages and what `params:` names already, and change no result.
PLUMBING = {
    "twinline/clients/settings.py",
    "twinline/clients/telemetry.py",
    "twinline/clients/params.py",
    "twinline/clients/kafka/connect.py",
    "twinline/clients/kafka/options.py",
    # which brokers and topics are refused
    "twinline/clients/kafka/refusals.py",
    "twinline/clients/kafka/topic_order.py",
    "twinline/clients/tls.py",
    "twinline/clients/retry.py",
    "twinline/clients/code.py",
    # names of files, which `deps:` and `outs:` name already
    "twinline/contract/artefacts.py",
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


@cache
def code_behind(package: str, command: str) -> set[str]:
    """Return every file that a stage's function in `__main__` leads to, by way of the functions there that it calls."""
    main = ast.parse((ROOT / package / "__main__.py").read_text())
    functions = {node.name: node for node in main.body if isinstance(node, ast.FunctionDef)}
    entry = next(node for name, node in functions.items() if command in (name, name.removesuffix("_stage")))
    reached, waiting_for = {entry.name}, [entry]
    modules: set[str] = set()
    used: set[str] = set()
    while waiting_for:
        function = waiting_for.pop()
        for node in ast.walk(function):
            if isinstance(node, ast.ImportFrom) and node.module:
                modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            if isinstance(node, ast.Name):
                used.add(node.id)
                if node.id in functions and node.id not in reached:
                    reached.add(node.id)
                    waiting_for.append(functions[node.id])
    for node in main.body:
        if isinstance(node, ast.ImportFrom) and node.module and used & {alias.asname or alias.name for alias in node.names}:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    waiting = {file_of(name) for name in modules if name.split(".")[0] in PACKAGES}
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        waiting |= imported(path)
    return {str(path.relative_to(ROOT)) for path in seen}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_of_the_code_that_it_runs(stage: str) -> None:
    package, command = STAGES[stage]["cmd"].split()[2:]
    dependencies = STAGES[stage]["deps"]
    missing = {
        path
        for path in code_behind(package, command) - PLUMBING
        if not any(path == dependency or path.startswith(f"{dependency}/") for dependency in dependencies)
    }
    assert missing == set()


def made_by(stage: str) -> list[str]:
    """Return everything that a stage makes."""
    return [*STAGES[stage]["outs"], *STAGES[stage].get("metrics", [])]


def paths_of(artifact: Artifact) -> set[str]:
    """Return every path of a kind of model."""
    return {value for name, value in asdict(artifact).items() if name not in ("name", "targets", "champion")}


def stages_before(stage: str) -> set[str]:
    """Return the stages whose outputs a stage reads."""
    read = STAGES[stage]["deps"]
    return {
        other
        for other in STAGES
        if any(path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/") for out in made_by(other) for path in read)
    }


def test_what_the_stages_make_is_what_the_code_calls_it() -> None:
    made = {path for stage in STAGES for path in made_by(stage)}
    # The evaluation writes three things into a folder that is none of its outputs.
    assert made == {artefacts.SNAPSHOT, artefacts.PREPARED, artefacts.PAIRS} | paths_of(ENCODER) - {ENCODER.evaluation}
    assert all(Path(path).parent == Path(ENCODER.evaluation) for path in (ENCODER.scores, ENCODER.verdict, ENCODER.held_out))
    assert {path for plot in PIPELINE["plots"] for each in plot.values() for path in each["y"]} == {ENCODER.curves}


def test_the_registered_artifact_is_the_one_that_the_code_fetches() -> None:
    assert {name: entry["path"] for name, entry in PIPELINE["artifacts"].items()} == {ENCODER.name: ENCODER.release}


def test_what_is_read_out_of_a_folder_of_data_is_in_what_a_stage_makes() -> None:
    named = {value for name, value in vars(artefacts).items() if name.isupper() and isinstance(value, str)}
    folders = {artefacts.SNAPSHOT, artefacts.PREPARED, artefacts.PAIRS}
    assert {str(Path(path).parent) for path in named - folders - {artefacts.PARAMS, artefacts.LOCK}} == folders
    assert (ROOT / artefacts.PARAMS).is_file()


def test_the_targets_of_the_encoder_lead_to_every_stage() -> None:
    reached, waiting = set(ENCODER.targets), list(ENCODER.targets)
    while waiting:
        before = stages_before(waiting.pop()) - reached
        reached |= before
        waiting += before
    # so that an experiment with targets runs the stages that one without them ran
    assert reached == set(STAGES)


def test_the_champion_of_the_encoder_is_a_parameter_of_its_evaluation() -> None:
    section, _, name = ENCODER.champion.rpartition(".")
    assert section == f"{ENCODER.name}.evaluate"
    assert name in EvaluateParams.__dataclass_fields__


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
        ("encoder", EncoderParams),
        ("encoder.contract", ContractParams),
        ("ingest", IngestParams),
        ("prepare", PrepareParams),
        # the evaluation looks for leaks by the same numbers
        ("prepare", SimilarityParams),
        ("encoder.pairs", PairsParams),
        ("encoder.train", TrainParams),
        ("encoder.evaluate", EvaluateParams),
        ("encoder.export", ExportParams),
        ("encoder.parity", ParityParams),
        ("encoder.quality", QualityParams),
        ("encoder.profile", ProfileParams),
        ("encoder.package", PackageParams),
    ],
)
def test_params_yaml_has_what_each_stage_reads_and_nothing_else(section: str, kind: type) -> None:
    load = load_params if "." in section or section in ("ingest", "prepare") else load_plain_params
    load(section, kind, ROOT / "params.yaml")
    written: Any = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name in section.split(".") if section else ():
        written = written[name]
    plain = {key for key, value in written.items() if load is load_params or not isinstance(value, dict)}
    assert plain == set(kind.__dataclass_fields__), "a number that is not written down is a hidden one"


def test_each_section_of_params_yaml_makes_a_stage_stale() -> None:
    read = {name for stage in STAGES.values() for name in stage["params"]}
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert read == (set(tree) - {"encoder"}) | {f"encoder.{name}" for name in tree["encoder"]}


CONTRACT = ROOT / "twinline" / "contract"
CONTRACT_FILES = sorted(str(path.relative_to(ROOT)) for path in CONTRACT.rglob("*.py") if path.name != "__init__.py")
CONTRACT_FILES = [path for path in CONTRACT_FILES if path not in PLUMBING]


def room_of(path: str) -> str:
    """Return the sub-package that a file of the contract lies in; a file of the ground is a room of its own."""
    folder = path.rpartition("/")[0]
    return path if folder == "twinline/contract" else folder


def imported_rooms(stage: str) -> set[str]:
    package, command = STAGES[stage]["cmd"].split()[2:4]
    return {room_of(path) for path in code_behind(package, command) if path in CONTRACT_FILES}


@pytest.mark.parametrize("path", CONTRACT_FILES)
def test_a_file_of_the_contract_makes_stale_exactly_the_stages_that_import_its_room(path: str) -> None:
    stale = {
        stage
        for stage, entry in STAGES.items()
        if any(path == dependency or path.startswith(f"{dependency}/") for dependency in entry["deps"])
    }
    assert stale == {stage for stage in STAGES if room_of(path) in imported_rooms(stage)}


def test_a_change_to_drift_trains_nothing() -> None:
    room = "twinline/contract/monitor"
    assert {stage for stage, entry in STAGES.items() if room in entry["deps"]} == {"encoder-profile", "encoder-package"}
