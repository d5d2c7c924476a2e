"""What Triton loads of ours: the rooms of the contract that its model imports, found without this checkout."""

import ast
import subprocess
from pathlib import Path

from tests.checkout import CHECKOUT
from tests.fixtures_triton import base_release  # noqa: F401  (a fixture)
from triton_models.names import tokenizer_model
from triton_models.repository import write_models
from twinline.contract.release.manifest import Manifest

# Alone: neither the checkout nor the platform's packages are on its path.
_IMPORT = """
import importlib, pathlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] == "twinline":
        print(name, pathlib.Path(module.__file__).resolve())
"""


def imported_by(model: Path) -> list[str]:
    """Return the modules of ours that a model's file imports."""
    nodes = [node for node in ast.walk(ast.parse(model.read_text())) if isinstance(node, ast.ImportFrom) and node.module]
    return [str(node.module) for node in nodes if str(node.module).startswith("twinline.")]


def test_the_copy_in_a_repository_imports_with_the_servers_environment_alone(base_release: Path, tmp_path: Path) -> None:  # noqa: F811
    write_models(base_release, tmp_path / "models")
    version = tmp_path / "models" / tokenizer_model(Manifest.load(base_release).release) / "1"
    python = CHECKOUT / ".venv-server" / "bin" / "python"
    done = subprocess.run(
        [str(python), "-I", "-c", _IMPORT, str(version), *imported_by(version / "model.py")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=True,
    )
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert "twinline.contract.encoder.tokens" in found
    assert all(Path(path).is_relative_to(version) for path in found.values())
    assert (version / "twinline" / "__init__.py").read_bytes() == b""


def test_only_rooms_that_are_imported_are_copied(base_release: Path, tmp_path: Path) -> None:  # noqa: F811
    write_models(base_release, tmp_path / "models")
    version = tmp_path / "models" / tokenizer_model(Manifest.load(base_release).release) / "1"
    rooms = {path.name for path in (version / "twinline" / "contract").iterdir() if path.is_dir()}
    assert rooms == {"documents", "encoder", "release", "sparse"}
    assert [path.name for path in (version / "twinline").iterdir() if path.name != "contract"] == ["__init__.py"]
