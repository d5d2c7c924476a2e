"""The proof of hostile files can fail: each kind of harm is counted; and its files are of every kind."""

import stat
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from etl.sources.files import SUPPORTED
from proofs.hostile.files import OUTSIDE_TEXT, Place, make_places
from proofs.hostile.run import Outcome, budget_bytes, judge, passed
from twinline.contract.errors import ContractError

PLACE = Place(Path("place"), ["bad.md", "pipe.md"], ["good.md", "row"])


def outcome(**changes: Any) -> Outcome:
    documents = [{"key": "good.md", "place": "good.md", "text": "x"}, {"key": "row", "place": "good.jsonl", "text": "y"}]
    rejects = [{"place": "bad.md", "reason": "reader_failed", "raw": ""}, {"place": "pipe.md", "reason": "not_a_file", "raw": ""}]
    values: dict[str, Any] = {"exit_code": 0, "said": "", "peak_bytes": 100, "documents": documents, "rejects": rejects}
    return Outcome(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"exit_code": 1, "said": "ValueError"}, {"ended": 1}),
        ({"peak_bytes": 1_001}, {"over_budget": 1}),
        ({"documents": []}, {"missing": 2}),
        ({"documents": outcome().documents[:1]}, {"missing": 1}),
        ({"rejects": outcome().rejects[:1]}, {"unsaid": 1}),
        ({"documents": [*outcome().documents, {"key": "k", "place": "link.md", "text": f"# {OUTSIDE_TEXT}"}]}, {"followed": 1}),
        ({"rejects": [*outcome().rejects, {"place": "link.md", "reason": "no_text", "raw": OUTSIDE_TEXT}]}, {"followed": 1}),
    ],
)
def test_every_harm_is_counted_and_said(changes: dict[str, Any], expected: dict[str, int]) -> None:
    counts, facts = judge(PLACE, outcome(**changes), 1_000)
    assert {name: count for name, count in counts.items() if count} == expected
    assert len(facts) == len(expected)
    assert passed(dict.fromkeys(("ended", "over_budget", "missing", "unsaid", "followed"), 0) | counts) == (not expected)


def test_the_files_are_at_least_two_hundred_over_all_readers_and_the_same_for_a_seed(tmp_path: Path) -> None:
    places = make_places(tmp_path / "one", SUPPORTED, 1)
    again = make_places(tmp_path / "two", SUPPORTED, 1)
    names = [name for place in places for name in place.hostile]
    assert len(names) >= 200
    by_ending = Counter(PurePosixPath(name).suffix for name in names)
    assert min(by_ending[ending] for ending in SUPPORTED) >= 15
    assert [place.hostile for place in places] == [place.hostile for place in again]
    for place, other in zip(places, again, strict=True):
        assert place.neighbours
        if place.path.suffix == ".zip":
            assert place.path.read_bytes()[:2] == b"PK"
            assert {*place.hostile, *place.neighbours} <= {entry.filename for entry in zipfile.ZipFile(place.path).infolist()}
            continue
        regular = [name for name in place.hostile if stat.S_ISREG((place.path / name).lstat().st_mode)]
        assert all((place.path / name).read_bytes() == (other.path / name).read_bytes() for name in regular)


def test_the_budget_of_memory_grows_with_the_largest_file(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"x")
    small = budget_bytes(Place(tmp_path, [], []))
    (tmp_path / "b.md").write_bytes(b"x" * 1_000_000)
    assert small < budget_bytes(Place(tmp_path, [], [])) < small + (100 << 20)


def test_a_folder_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    from proofs.hostile.run import measure_hostile

    (tmp_path / "thesis.md").write_text("words")
    with pytest.raises(ContractError, match="name another --workspace"):
        measure_hostile(tmp_path, 1)
    assert (tmp_path / "thesis.md").exists()
