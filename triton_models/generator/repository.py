"""Write a generator into a Triton model repository: beside, then renamed, as an encoder's models are."""

import shutil
from pathlib import Path
from typing import Final

import triton_models.generator as own_package
import twinline.contract as contract_package
from triton_models.generator.served import ServedGenerator, write_served
from triton_models.names import generate_model
from triton_models.repository import rename_in, templates, writing
from twinline.contract.answers import tensors
from twinline.contract.errors import ContractError

_VERSION: Final = "1"


def write_generator(exported: Path, served: ServedGenerator, repository: Path) -> str:
    """Write the model of a release's generator; an existing one is replaced by one rename.

    Args:
        exported: folder of the OpenVINO file that `served` names, and of its weights.
        served: settings; `served.file` is relative to `exported`.
        repository: Triton's model repository, made if it is missing.

    Returns:
        The name of the model.

    Raises:
        ContractError: `exported` lacks the file or its weights.
    """
    source = exported / served.file
    for path in (source, source.with_suffix(".bin")):
        if not path.is_file():
            raise ContractError(f"{path} does not exist: export the generator to OpenVINO first")
    repository.mkdir(parents=True, exist_ok=True)
    name = generate_model(served.release)
    with writing(repository) as staging:
        folder = staging / name
        version = folder / _VERSION
        version.mkdir(parents=True)
        shutil.copyfile(Path(own_package.__path__[0]) / "generate" / "model.py", version / "model.py")
        _write_code(version)
        for path in (source, source.with_suffix(".bin")):
            place = version / path.relative_to(exported)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        template = templates("generator").get_template("generate.pbtxt.j2")
        (folder / "config.pbtxt").write_text(template.render(name=name, served=served, tensors=tensors))
        write_served(version, served)
        rename_in(folder, repository / name, staging / f"{name}.old")
    return name


def _write_code(version: Path) -> None:
    """Write the engine, and the rooms of the contract that it imports; a release carries its code."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    generator = Path(own_package.__path__[0])
    target = version / "triton_models" / "generator"
    target.mkdir(parents=True)
    (version / "triton_models" / "__init__.py").touch()
    for name in ("__init__.py", "served.py"):
        shutil.copyfile(generator / name, target / name)
    shutil.copytree(generator / "engine", target / "engine", ignore=ignored)
    contract = Path(contract_package.__path__[0])
    rooms = version / "twinline" / "contract"
    rooms.mkdir(parents=True)
    (version / "twinline" / "__init__.py").touch()
    for path in contract.glob("*.py"):
        shutil.copyfile(path, rooms / path.name)
    shutil.copytree(contract / "answers", rooms / "answers", ignore=ignored)
