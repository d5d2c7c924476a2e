"""Which release `bench quality` makes of the name of a contract."""

from pathlib import Path
from typing import cast

import pytest

from bench.quality import _release
from bench.workspace import Workspace


class _Recorded:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, ...]] = []

    def module(self, *arguments: str) -> None:
        self.calls.append(arguments)


@pytest.mark.parametrize(
    ("contract", "options"),
    [("none", ["none"]), ("tokens", ["tokens"]), ("tokens@1", ["tokens", "--chunker-version", "1"])],
)
def test_a_contract_may_name_an_older_version_of_the_chunker(tmp_path: Path, contract: str, options: list[str]) -> None:
    workspace = _Recorded(tmp_path)
    documents = tmp_path / "data" / "snapshot" / "documents-0.parquet"
    documents.parent.mkdir(parents=True)
    documents.touch()
    assert _release(cast(Workspace, workspace), "base", contract).name == f"base-{contract}"
    (call,) = workspace.calls
    assert list(call[call.index("--chunker") + 1 :]) == [*options, "--documents", str(documents)]
