"""The bench of copies counts by the contract's own measure."""

import gzip
import json
from pathlib import Path

import pytest

from bench import copies
from twinline.contract.errors import SettingsError

TEXT = " ".join(f"{first}{second}" for first in "abcdefgh" for second in "klmnopqr")


@pytest.mark.parametrize("name", ["corpus.jsonl", "passages.jsonl.gz"])
def test_pairs_are_counted_by_threshold_and_floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(copies, "_ROUNDS", 1)
    short = " ".join(TEXT.split()[:25])
    texts = [TEXT, TEXT, f"{TEXT} more", f"{TEXT} 7", f"{TEXT} ix iy iz jx jy", short, f"{short} more", "few words"]
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    report = copies.measure_copies(path, 100)
    assert report["passages"] == 7  # equal ones count once
    counted = {(row["percent"], row["terms"]): row["pairs"] for row in report["pairs"]}
    assert counted == {(80, 20): 7, (90, 20): 7, (95, 20): 4, (80, 40): 6, (90, 40): 6, (95, 40): 3}
    assert report["near"] == 1  # "7" is a digit, 25 words are short
    assert [row["hits"] for row in report["milliseconds"]] == [10, 10, 100]


def test_a_file_without_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(SettingsError, match=r"corpus\.jsonl"):
        copies.measure_copies(tmp_path / "empty.jsonl", 10)
