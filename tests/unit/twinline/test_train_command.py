"""`twinline train` compares with the release that is in production, and has it here before the evaluation asks for it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.release.factories import FakeRevision, make_release
from twinline.contract.artefacts import ENCODER
from twinline.contract.errors import MismatchError
from twinline.registry.revisions import GitRevision
from twinline.registry.versions import Registered, Registry
from twinline.upkeep.training.experiment import champion


class Fetched(FakeRevision):
    """A revision whose release is here already."""

    def download(self, path: str, target: Path) -> None:
        raise AssertionError(f"{path} was fetched again to {target}")


class FakeRegistry(Registry):
    """Versions with their stages; `prod` holds the release in a folder."""

    def __init__(self, entries: Sequence[Registered], manifest: str = "") -> None:
        super().__init__(Path(), ENCODER)
        self._entries, self._manifest = list(entries), manifest

    def versions(self) -> list[Registered]:
        return self._entries

    def revision(self, name: str) -> GitRevision:
        assert name == "v2.0.0"
        return Fetched({"models/release/manifest.json": self._manifest})  # type: ignore[return-value]


def entry(number: int, *stages: str) -> Registered:
    return Registered(number, "0" * 40, "2026-01-01", "release r0", stages)


def test_the_champion_is_the_release_in_stage_prod_and_is_whole(tmp_path: Path) -> None:
    made = make_release(tmp_path / "made")
    (tmp_path / "made").rename(tmp_path / made.release)
    manifest = (tmp_path / made.release / "manifest.json").read_text()
    registry = FakeRegistry([entry(3), entry(2, "prod"), entry(1, "old")], manifest)
    assert champion(registry, tmp_path) == made.release
    (tmp_path / made.release / "contract.json").write_text("edited")
    with pytest.raises(MismatchError, match=r"contract\.json"):
        champion(registry, tmp_path)


def test_without_a_version_in_production_there_is_no_champion(tmp_path: Path) -> None:
    assert champion(FakeRegistry([entry(1, "staging")]), tmp_path) == ""
    assert champion(FakeRegistry([]), tmp_path) == ""
