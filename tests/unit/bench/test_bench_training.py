"""The contenders of the training bench, and the counts of a step's meter; the bench itself shows that it measures."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.rounds import Work, summary
from bench.training import REFERENCE, candidates, default_size
from bench.training_worker import Meter
from bench.workers import answer_of
from train.encoder.params import LoraParams, TrainParams
from twinline.contract.errors import TransientError


def test_every_option_is_one_that_the_trainer_takes() -> None:
    known = set(TrainParams.__dataclass_fields__)
    for candidate in candidates(bf16=True) + candidates(bf16=False):
        if candidate.kind == "ours":
            assert set(candidate.options) <= known
            LoraParams(**candidate.options.get("lora", {}))


def test_bfloat16_is_compared_only_where_the_hardware_has_it_and_then_on_both_sides() -> None:
    without, with_bf16 = candidates(bf16=False), candidates(bf16=True)
    assert not any("bf16" in candidate.name for candidate in without)
    kinds = {candidate.kind for candidate in with_bf16 if "bf16" in candidate.name}
    assert kinds == {"ours", "theirs"}
    assert without[0].name == with_bf16[0].name == REFERENCE
    assert without[0].options == {}, "their defaults are theirs"
    assert len({candidate.name for candidate in with_bf16}) == len(with_bf16)


def test_every_size_leaves_steps_to_time_after_the_warm_ones() -> None:
    for cuda in (False, True):
        assert default_size(cuda=cuda, short=True).steps >= 5


def passes(meter: Meter, *sides: torch.Tensor) -> None:
    for mask in sides:
        meter(torch.nn.Identity(), ({"attention_mask": mask},))


def test_the_meter_times_from_step_to_step_and_counts_what_is_padding() -> None:
    meter = Meter(steps=5)
    queries, documents = (
        torch.ones(4, 2, dtype=torch.int64),
        torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]),
    )
    for _ in range(5):
        passes(meter, queries, documents)
    found = meter.measured(batch_size=4)
    # from the third step's beginning to the fifth's
    assert found["pairs"] == 8
    assert found["seconds"] > 0
    assert found["padded"] == pytest.approx(1 - 16 / 24)


def test_a_run_that_ended_early_is_no_measurement() -> None:
    meter = Meter(steps=5)
    passes(meter, *[torch.ones(1, 1)] * 6)
    with pytest.raises(RuntimeError, match="ended before its last step: 6 forward passes for 5 steps"):
        meter.measured(batch_size=4)


class Ended:
    """A process that is gone."""

    stdin = None
    stdout = None

    def wait(self) -> int:
        return 3


def test_a_contender_that_ends_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    ended: Any = Ended()
    with pytest.raises(TransientError, match=r"ours ended with 3 before it answered: see .*1\.log"):
        answer_of(ended, "ours", tmp_path / "1.log")


def test_rates_are_of_pairs_and_relative_to_the_trainer_as_it_comes() -> None:
    done = {REFERENCE: [Work(64, 4.0), Work(64, 8.0)], "ours": [Work(64, 2.0), Work(64, 4.0)]}
    reference, ours = summary(done, REFERENCE, "pairs")
    assert (reference["ratio"], ours["ratio"]) == (1, 2)
    assert ours["pairs_per_second"] == 24


def test_real_pairs_are_the_same_in_every_run_and_hold_no_query_twice(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from bench.training_pairs import write_real_pairs

    assert importlib.util.find_spec("torch") is not None
    one, other = (pq.read_table(write_real_pairs(tmp_path / name, 60)).to_pylist() for name in ("a.parquet", "b.parquet"))
    assert one == other
    assert len({row["query"] for row in one}) == 60
    assert all(row["query"] not in row["text"] and len(row["text"].split()) >= 30 for row in one)
