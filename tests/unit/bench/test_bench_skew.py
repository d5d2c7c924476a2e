"""The mutation run: one fault at a time, undone afterwards, and a report that hides nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from proofs.skew import faults_serving
from proofs.skew.faults import Fault, bit_flipped, changed, fields_set, file_holds, file_missing, folder_holds, replaced_text
from proofs.skew.run import all_faults, choose, passed, plant_faults
from proofs.skew.system import System
from proofs.skew.walk import Finding, Walker
from tests.checkout import CHECKOUT
from twinline.contract.errors import ContractError, MismatchError, SettingsError, TransientError
from twinline.upkeep.skew.report import Hop, SkewReport

DOORS = (
    "process start", "training/export", "export parity", "release files", "triton load", "client", "consumer start", "index open",
    "query",
)  # fmt: skip
HOPS = (
    "tokens", "words", "training framework", "triton tokenizer", "triton grpc", "triton http", "triton embed", "search",
    "query words", "fusion", "live sample",
)  # fmt: skip
REPORT = SkewReport("r1", "space", "contract", (Hop("rules", "ok"), Hop("onnx_fp32", "ok", worst=1e-13)))


class Platform:
    """The current fault, and a walk that finds it, unless it is hidden."""

    def __init__(self, *hidden: str) -> None:
        self.wrong: list[str] = []
        self.hidden = hidden
        self.walks: list[list[str]] = []

    def fault(self, name: str, expected: str = "client", **changes: Any) -> Fault:
        @contextmanager
        def plant(system: System) -> Iterator[None]:
            self.wrong.append(name)
            try:
                yield
            finally:
                self.wrong.remove(name)

        return replace(Fault(name, f"{name} is wrong", "somewhere", (expected,), plant), **changes)

    def walk(self) -> Finding:
        self.walks.append(list(self.wrong))
        seen = [name for name in self.wrong if name not in self.hidden]
        return Finding("client", f"{seen[0]}: {'x' * 500}", 0.25, None) if seen else Finding(None, "", 1.0, REPORT)


def planted(platform: Platform, *faults: Fault) -> dict[str, Any]:
    return cast(dict[str, Any], plant_faults(cast(System, None), platform, faults))


def test_faults_are_planted_one_at_a_time_between_two_controls() -> None:
    platform = Platform()
    found = planted(platform, platform.fault("one"), platform.fault("two"))
    assert platform.walks == [[], ["one"], ["two"], []]
    assert (found["planted"], found["caught"], found["missed"], found["wrong_place"]) == (2, 2, [], [])
    assert passed(found)
    first = found["faults"][0]
    assert (first["name"], first["found_by"], first["right"], first["seconds"]) == ("one", "client", True, 0.25)
    assert (first["planted"], first["where"], len(first["message"])) == ("one is wrong", "somewhere", 200)
    assert found["worst"]["onnx_fp32"] == 1e-13


def test_a_fault_that_nothing_finds_is_missed() -> None:
    platform = Platform("two")
    found = planted(platform, platform.fault("one"), platform.fault("two"))
    assert (found["caught"], found["missed"], passed(found)) == (1, ["two"], False)


def test_a_fault_that_is_found_elsewhere_is_at_the_wrong_place() -> None:
    platform = Platform()
    found = planted(platform, platform.fault("one", "live sample"))
    assert (found["caught"], found["wrong_place"], passed(found)) == (1, ["one"], False)


def test_a_fault_that_this_machine_cannot_have_is_named_and_proves_nothing() -> None:
    platform = Platform()
    no_bf16 = platform.fault("two", impossible=lambda: "no bf16 here")
    found = planted(platform, platform.fault("one"), no_bf16)
    assert platform.walks == [[], ["one"], []]
    assert (found["planted"], found["caught"], found["not_planted"]) == (1, 1, {"two": "no bf16 here"})
    assert passed(found)
    assert not passed(planted(platform, no_bf16))


def test_what_is_only_away_is_not_caught() -> None:
    platform = Platform()

    def walk() -> Finding:
        if platform.wrong:
            raise TransientError("Triton is away")
        return Finding(None, "", 1.0, REPORT)

    platform.walk = walk  # type: ignore[method-assign]
    found = planted(platform, platform.fault("one"))
    assert found["missed"] == ["one"]
    assert "Triton is away" in found["faults"][0]["message"]


def test_a_system_that_is_broken_to_begin_with_proves_nothing() -> None:
    platform = Platform()
    platform.wrong.append("a real fault")
    with pytest.raises(ContractError, match="before any fault found something at `client`: a real fault"):
        planted(platform, platform.fault("one"))


def test_a_fault_that_is_not_undone_is_noticed() -> None:
    platform = Platform()

    @contextmanager
    def plant(system: System) -> Iterator[None]:
        platform.wrong.append("one")
        yield

    with pytest.raises(ContractError, match="after all faults were undone"):
        planted(platform, platform.fault("one", plant=plant))


def test_faults_are_chosen_by_name_or_by_kind() -> None:
    platform = Platform()
    faults = [platform.fault("one"), platform.fault("two", short=True)]
    assert [fault.name for fault in choose(faults, (), short=False)] == ["one", "two"]
    assert [fault.name for fault in choose(faults, (), short=True)] == ["two"]
    assert [fault.name for fault in choose(faults, ("one",), short=True)] == ["one"]
    with pytest.raises(SettingsError, match="no fault is called three: there are one, two"):
        choose(faults, ("three",), short=False)


def test_every_fault_has_a_name_of_its_own_a_sentence_and_a_known_place() -> None:
    faults = all_faults()
    assert len(faults) >= 36
    assert len({fault.name for fault in faults}) == len(faults)
    assert all(fault.planted and fault.where and fault.expected for fault in faults)
    assert {place for fault in faults for place in fault.expected} <= {*DOORS, *HOPS}
    assert 6 <= sum(fault.short for fault in faults) <= 10


# --- the walk ---


class Doors(Walker):
    """A walk whose doors are given."""

    def __init__(self, **doors: Callable[[], None]) -> None:
        super().__init__(cast(System, None))
        self.doors = doors

    def _doors(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield from self.doors.items()


def refuse() -> None:
    raise MismatchError("the door stays shut")


def away() -> None:
    raise TransientError("nobody answers")


def test_the_first_door_that_refuses_ends_the_walk() -> None:
    opened: list[str] = []
    finding = Doors(first=lambda: opened.append("first"), second=refuse, third=lambda: opened.append("third")).walk()
    assert (finding.found_by, finding.message, opened) == ("second", "the door stays shut", ["first"])


def test_what_is_away_refuses_nothing() -> None:
    with pytest.raises(TransientError):
        Doors(first=away).walk()


def test_a_long_step_is_taken_again_only_over_other_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    walker, taken = Doors(), []
    for content in ("one", "one", "two", "one", "one"):
        (tmp_path / "file").write_text(content)
        walker._once("step", (tmp_path,), lambda content=content: taken.append(content))
    assert taken == ["one", "two", "one"]


def test_a_long_step_that_was_refused_has_not_passed(tmp_path: Path) -> None:
    walker, taken = Doors(), []
    walker._once("step", (tmp_path,), lambda: taken.append(1))
    (tmp_path / "file").write_text("other")
    with pytest.raises(MismatchError):
        walker._once("step", (tmp_path,), refuse)
    (tmp_path / "file").unlink()
    walker._once("step", (tmp_path,), lambda: taken.append(2))
    assert taken == [1, 2]


# --- planting and undoing ---


def test_what_was_planted_is_undone_even_when_the_walk_fails(tmp_path: Path) -> None:
    file, made = tmp_path / "release" / "file", tmp_path / "release" / "made"
    file.parent.mkdir()
    file.write_text("before")
    inode = file.stat().st_ino

    def walk_that_fails() -> None:
        with file_holds(made, b"new"), changed(file, replaced_text("before", "after")):
            assert (file.read_text(), made.read_text()) == ("after", "new")
            assert file.stat().st_ino != inode, "renamed in, not edited: hard links and open files keep what they had"
            raise TransientError("Triton is away")

    with pytest.raises(TransientError):
        walk_that_fails()
    assert (file.read_text(), made.exists()) == ("before", False)
    with file_missing(file):
        assert not file.exists()
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_a_folder_is_exchanged_or_copied_and_comes_back_whole(tmp_path: Path) -> None:
    a, b, scratch = (tmp_path / name for name in ("a", "b", "scratch"))
    for folder in (a, b, scratch):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    with folder_holds(a, b, scratch):
        assert (a / "file").read_text() == "b"
    with folder_holds(a, a, scratch):
        (a / "file").write_text("damaged")
    assert ((a / "file").read_text(), (b / "file").read_text()) == ("a", "b")


def test_a_planting_that_changes_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(RuntimeError, match="nothing was planted"):
        changed(tmp_path / "file", replaced_text("absent", "present"))


def test_changes_of_content() -> None:
    assert fields_set({"a.b": 2, "c": lambda value: value + 1})(b'{"a": {"b": 1}, "c": 3}').split() == [
        b"{", b'"a":', b"{", b'"b":', b"2", b"},", b'"c":', b"4", b"}",
    ]  # fmt: skip
    flipped = bit_flipped(bytes(16))
    assert (len(flipped), sum(flipped)) == (16, 1)


SOURCES = {
    faults_serving._MODEL: "triton_models/encoder/tokenizer/model.py",
    faults_serving._TOKENS: "twinline/contract/encoder/tokens.py",
}
CODE_EDITS = {
    name: value
    for name, value in vars(faults_serving).items()
    if isinstance(value, tuple) and len(value) == 3 and value[0] in SOURCES
}


@pytest.mark.parametrize("name", sorted(CODE_EDITS))
def test_the_code_that_a_planted_fault_replaces_is_there_once(name: str) -> None:
    """Or a change of the model would only show in a mutation run, minutes later."""
    file, old, _ = CODE_EDITS[name]
    assert (CHECKOUT / SOURCES[file]).read_text().count(old) == 1


def test_there_are_faults_of_code() -> None:
    assert len(CODE_EDITS) >= 7
