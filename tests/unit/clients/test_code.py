"""Hashes over code: every file counts, wherever it lies, and a name that stands for nothing is an error."""

import shutil
from pathlib import Path

import pytest

import etl.gather
import etl.source_state
import etl.stage_cache
from twinline.clients.code import BASE_RELEASE, PACKAGES, code_fingerprint, code_hashes
from twinline.contract.errors import ContractError

# Each list of code that decides a stored result, and the folders that it must cover file by file.
LISTS = {
    "packaged base model": BASE_RELEASE,
    "sources remembered": etl.source_state.CODE,
    "natural pairs": etl.gather.CODE,
    "clean texts": etl.stage_cache.CLEANING_CODE,
}


def rooms(names: tuple[str, ...]) -> list[str]:
    """Return one file of each folder that a list of names leads to."""
    files = code_hashes(*names)
    return list({name.rpartition("/")[0]: name for name in files if not name.endswith("__init__.py")}.values())


CASES = [(title, names, path) for title, names in LISTS.items() for path in rooms(names)]


@pytest.mark.parametrize(("title", "names", "path"), CASES, ids=[f"{title}: {path}" for title, _, path in CASES])
def test_an_edit_of_a_file_in_any_room_changes_the_hash(title: str, names: tuple[str, ...], path: str, tmp_path: Path) -> None:
    for name in code_hashes(*names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGES / name, tmp_path / name)
    before = code_fingerprint(*names, root=tmp_path)
    assert before == code_fingerprint(*names)
    with (tmp_path / path).open("a") as file:
        file.write("# one more line\n")
    assert code_fingerprint(*names, root=tmp_path) != before, title


def test_a_package_means_all_below_it() -> None:
    found = set(code_hashes("twinline.contract"))
    assert found == {str(path.relative_to(PACKAGES)) for path in (PACKAGES / "twinline" / "contract").rglob("*.py")}
    assert any(name.count("/") > 2 for name in found)


@pytest.mark.parametrize("name", ["contract", "twinline.contract.nothing", "twinline.contract.documents.schemas"])
def test_a_name_without_code_is_an_error(name: str) -> None:
    with pytest.raises(ContractError, match=f"{name} is no code below"):
        code_hashes(name)
