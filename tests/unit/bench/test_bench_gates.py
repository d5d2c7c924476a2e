"""The cases can be planted in the code as it is, and a report passes only when each was refused where it should be."""

from pathlib import Path

import pytest
import yaml

from proofs.gates.cases import CASES, Case
from proofs.gates.clone import Clone, Patch, TrainingRun
from proofs.gates.run import SIZES, choose, passed, plant
from tests.checkout import CHECKOUT
from twinline.contract.errors import ContractError, SettingsError
from twinline.contract.release.checks import Check
from twinline.contract.release.verdict import (
    BETTER_THAN_BASE,
    EVALUATION_CHECKS,
    FORMAT_TO_SERVE,
    GUARDED_SLICES,
    NO_EVALUATION_LEAK,
)

STOPPED = {"changed": "success", "train": "success", "gate": "failed", "register": "upstream_failed"}
CASE = Case("a case", "nothing", BETTER_THAN_BASE, also=frozenset({GUARDED_SLICES}))


class FakeClone(Clone):
    """A clone whose DAG has ended already."""

    def __init__(self, folder: Path, run: TrainingRun, *, registers: bool = False) -> None:
        super().__init__(folder, {})
        (folder / "params.yaml").write_text("evaluate: {margin: 0.02}\n")
        self._ended, self._registers, self._known = run, registers, [("v1.0.0", ("prod",))]

    def train(self, snapshot: str) -> TrainingRun:
        if self._registers:
            self._known.append(("v2.0.0", ()))
        return self._ended

    def versions(self) -> list[tuple[str, tuple[str, ...]]]:
        return list(self._known)

    def active(self) -> str:
        return "r0"


def run_of(
    *refused: str, states: dict[str, str] | None = None, log: str = "", attempts: int = 1, returned: bool = True
) -> TrainingRun:
    checks = [Check(name, name not in refused, "numbers") for name in (*EVALUATION_CHECKS, FORMAT_TO_SERVE)]
    said = log or f"revision x is refused, 1 of 5 checks failed: {'; '.join(f'{name}: numbers' for name in refused)}"
    left = {"checks": [check.to_json() for check in checks]} if returned else {"refused": said}
    return TrainingRun(states or STOPPED, {"gate": attempts}, [said], left, checks)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_has_its_place_in_the_code_and_leaves_no_trace(case: Case, tmp_path: Path) -> None:
    names = {"params.yaml", *(patch.path for patch in case.patches)}
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((CHECKOUT / name).read_text())
    before = {name: (tmp_path / name).read_text() for name in names}
    with Clone(tmp_path, {}).planted({**SIZES, **case.params}, case.patches):
        for patch in case.patches:
            text = (tmp_path / patch.path).read_text()
            compile(text, patch.path, "exec")
            assert text != before[patch.path]
        params = yaml.safe_load((tmp_path / "params.yaml").read_text())
        assert params["encoder"]["evaluate"]["margin"] == 0.02, "the gates' own limits are those that people have"
    assert {name: (tmp_path / name).read_text() for name in names} == before


def test_a_fault_whose_place_is_gone_is_an_error_and_not_a_pass(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("a: {b: 1}\n")
    (tmp_path / "code.py").write_text("x = 1\n")
    with pytest.raises(ContractError, match="not once"), Clone(tmp_path, {}).planted({}, [Patch("code.py", "y = 1", "y = 2")]):
        pass
    with pytest.raises(ContractError, match=r"no a\.c"), Clone(tmp_path, {}).planted({"a.c": 1}, []):
        pass
    assert (tmp_path / "code.py").read_text() == "x = 1\n"


def test_a_case_that_is_refused_where_it_should_be_is_right(tmp_path: Path) -> None:
    outcome = plant(FakeClone(tmp_path, run_of(BETTER_THAN_BASE, GUARDED_SLICES)), "s1", CASE)
    assert (outcome.problems, outcome.right, outcome.stopped_at) == ((), True, "gate")
    assert outcome.refused_by == (BETTER_THAN_BASE, GUARDED_SLICES)


@pytest.mark.parametrize(
    ("run", "registers", "problem"),
    [
        # nobody said no
        (
            run_of(states={"changed": "success", "train": "success", "gate": "success", "register": "success"}),
            False,
            "let it pass",
        ),
        # the right gate, by accident of another
        (run_of(BETTER_THAN_BASE, NO_EVALUATION_LEAK), False, "refused by no evaluation leak as well"),
        # another gate alone
        (run_of(NO_EVALUATION_LEAK), False, "`better than base` let it pass"),
        # refused, and still registered
        (run_of(BETTER_THAN_BASE), True, "v2.0.0"),
        # a task that tries a verdict again
        (run_of(BETTER_THAN_BASE, attempts=3), False, "3 times"),
        # Airflow's page does not say why
        (run_of(BETTER_THAN_BASE, log="it failed"), False, "log of the task"),
        # nor a client of Airflow's API
        (run_of(BETTER_THAN_BASE, returned=False), False, "what the task `gate` returned"),
    ],
)
def test_anything_else_is_a_problem(tmp_path: Path, run: TrainingRun, registers: bool, problem: str) -> None:
    outcome = plant(FakeClone(tmp_path, run, registers=registers), "s1", CASE)
    assert not outcome.right
    assert any(problem in said for said in outcome.problems), outcome.problems


def test_a_report_passes_only_when_all_were_refused_by_the_right_gate() -> None:
    assert passed({"planted": 6, "by_the_right_gate": 6})
    assert not passed({"planted": 6, "by_the_right_gate": 5})


def test_cases_are_chosen_by_name_or_by_the_short_form() -> None:
    assert {case.name for case in choose((), short=True)} == {"shuffled weights", "leaking split"}
    assert choose(["bad int8"], short=False)[0].gate == FORMAT_TO_SERVE
    assert len(choose((), short=False)) == 7
    with pytest.raises(SettingsError, match="wrong prefix"):
        choose(["no such"], short=False)
