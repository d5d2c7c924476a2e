"""The training stage on a model of a few thousand weights."""

import csv
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.unit.train.conftest import WORDS, write_pairs
from tests.unit.train.factories import contract_params, fit_paths, train_params
from train.checkpoints import STALE_AFTER_SECONDS, checkpoint_folder, held, latest_checkpoint, sweep
from train.encoder.fit import FitPaths, fit
from train.encoder.pairs import read_pairs
from train.encoder.params import TrainParams
from train.encoder.torch_encoder import TorchEncoder
from train.hardware import choose_precision
from twinline.contract.encoder.pooling import cosine_distance
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import Contract
from twinline.contract.errors import ContractError, SettingsError, TransientError


def run_fit(base: Path, paths: FitPaths, params: TrainParams) -> dict[str, object]:
    fit(base, "tiny", contract_params(), params, paths)
    record: dict[str, object] = json.loads((paths.encoder / "training.json").read_text())
    return record


def weights(folder: Path) -> dict[str, np.ndarray]:
    return dict(load_file(folder / "model.safetensors"))


def test_the_encoder_folder_holds_the_contract_and_no_pickle(tiny_base: Path, pairs_file: Path, tmp_path: Path) -> None:
    paths = fit_paths(tmp_path, pairs_file)
    record = run_fit(tiny_base, paths, train_params())
    contract, tokenizer_json = Contract.load(paths.encoder)
    assert tokenizer_json == Preprocessor.load(paths.encoder).tokenizer_json
    assert contract.vector.query_prefix == "query: "
    found = {path.suffix for path in paths.encoder.rglob("*") if path.is_file()}
    assert found == {".json", ".safetensors"}
    assert record["steps"] == 12
    assert record["space"] == TorchEncoder.load(paths.encoder).space
    assert record["space"] != record["base_space"]
    rows = list(csv.DictReader(paths.curves.read_text().splitlines(), delimiter="\t"))
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    assert all(float(row["loss"]) > 0 for row in rows)
    assert not list((paths.home / "checkpoints").glob("*")), "checkpoints must be swept after success"


def test_sentence_transformers_reads_the_folder_and_gives_the_same_vectors(
    tiny_base: Path, pairs_file: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    paths = fit_paths(tmp_path, pairs_file)
    run_fit(tiny_base, paths, train_params(max_steps=2))
    texts = [" ".join(WORDS[:n]) for n in (1, 5, 26)] + ["Ｆｕｌｌ ｗｉｄｔｈ LOG"]
    ours = TorchEncoder.load(paths.encoder)
    theirs = SentenceTransformer(str(paths.encoder), device="cpu", local_files_only=True)
    for role in ("query", "document"):
        found = np.asarray(theirs.encode(texts, prompt_name=role, show_progress_bar=False), dtype=np.float32)
        assert cosine_distance(ours.embed(texts, role).vectors, found).max() <= 1e-6  # type: ignore[arg-type]


@pytest.mark.integration
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny_base: Path, pairs_file: Path, tmp_path: Path) -> None:
    spaces = [
        run_fit(tiny_base, fit_paths(tmp_path / name, pairs_file), train_params(seed=seed))["space"]
        for name, seed in (("first", 1), ("second", 1), ("third", 2))
    ]
    assert spaces[0] == spaces[1] != spaces[2]


def test_the_cached_loss_takes_the_same_first_step_as_the_plain_one(tiny_base: Path, pairs_file: Path, tmp_path: Path) -> None:
    def no_dropout(base: Path) -> Path:
        copy = tmp_path / "base"
        copy.mkdir()
        for path in base.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        config = json.loads((copy / "config.json").read_text())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (copy / "config.json").write_text(json.dumps(config))
        return copy

    base = no_dropout(tiny_base)
    # No warm-up, or the first step would have the rate 0.
    results = {}
    for mini_batch_size in (2, 8):
        paths = fit_paths(tmp_path / str(mini_batch_size), pairs_file)
        params = train_params(max_steps=1, batch_size=8, mini_batch_size=mini_batch_size, warmup_ratio=0.0)
        run_fit(base, paths, params)
        results[mini_batch_size] = weights(paths.encoder)
    before = weights(base)
    moved = max(float(np.abs(results[8][name] - before[name]).max()) for name in before)
    apart = max(float(np.abs(results[8][name] - results[2][name]).max()) for name in before)
    assert moved > 5e-4
    assert apart < moved / 100


def _fit_and_hang_up(base: Path, paths: FitPaths, params: TrainParams) -> None:
    fit(base, "tiny", contract_params(), params, paths)


@pytest.mark.integration
def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_weights(tiny_base: Path, pairs_file: Path, tmp_path: Path) -> None:
    params = train_params(epochs=20, learning_rate=1e-4, checkpoint_every_steps=10)
    whole = fit_paths(tmp_path / "whole", pairs_file)
    uninterrupted = run_fit(tiny_base, whole, params)

    paths = fit_paths(tmp_path / "killed", pairs_file)
    process = multiprocessing.get_context("spawn").Process(target=_fit_and_hang_up, args=(tiny_base, paths, params))
    process.start()
    checkpoints = paths.home / "checkpoints"
    deadline = time.monotonic() + 120
    while not any(latest_checkpoint(folder) for folder in checkpoints.glob("*")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert not paths.encoder.exists(), "the run was over before it could be killed"

    resumed = run_fit(tiny_base, paths, params)
    assert int(str(resumed["resumed_from_step"])) > 0
    assert resumed["steps"] == uninterrupted["steps"]
    assert resumed["space"] == uninterrupted["space"]
    assert paths.curves.read_text() == whole.curves.read_text()


def test_a_checkpoint_that_a_kill_cut_short_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((2, "{}"), (4, '{"global_st')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
        (tmp_path / f"checkpoint-{step}" / "sealed.json").write_text("{}")
    (tmp_path / "checkpoint-6").mkdir()
    (tmp_path / "checkpoint-6" / "trainer_state.json").write_text("{}")
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_other_inputs_have_other_checkpoints(tmp_path: Path) -> None:
    inputs = {"pairs": "a", "params": {"seed": 1}}
    assert checkpoint_folder(tmp_path, inputs) == checkpoint_folder(tmp_path, dict(reversed(inputs.items())))
    assert checkpoint_folder(tmp_path, inputs) != checkpoint_folder(tmp_path, {**inputs, "pairs": "b"})


def test_two_runs_on_the_same_inputs_do_not_share_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "abc"
    with held(folder), pytest.raises(TransientError, match="same inputs"), held(folder):
        pass
    with held(folder):
        sweep(folder)
    assert list(folder.parent.iterdir()) == []


def test_checkpoints_that_nobody_came_back_for_are_swept(tmp_path: Path) -> None:
    own, old = tmp_path / "checkpoints" / "own", tmp_path / "checkpoints" / "old"
    own.mkdir(parents=True)
    old.mkdir()
    sweep(own, now=time.time() + 60)
    assert [path.name for path in old.parent.iterdir()] == ["old"]
    sweep(own, now=time.time() + STALE_AFTER_SECONDS + 60)
    assert list(old.parent.iterdir()) == []


def test_no_epochs_passes_the_base_weights_through(tiny_base: Path, pairs_file: Path, tmp_path: Path) -> None:
    paths = fit_paths(tmp_path, pairs_file)
    record = run_fit(tiny_base, paths, train_params(epochs=0))
    assert record["steps"] == 0
    before, after = weights(tiny_base), weights(paths.encoder)
    assert all(np.array_equal(before[name], after[name]) for name in after)
    assert paths.curves.read_text().splitlines()[0].startswith("step\t")


def test_a_pair_that_the_contract_refuses_is_counted_and_too_many_stop_the_run(tiny_base: Path, tmp_path: Path) -> None:
    from train.encoder.base_contract import contract_for

    preprocessor = Preprocessor(*contract_for(tiny_base, contract_params()))
    few = write_pairs(tmp_path / "few.parquet", 40)
    _blank_query(few, 1)
    pairs = read_pairs(few, preprocessor)
    assert len(pairs.queries) == 39
    assert pairs.set_aside == {"empty_query": 1}
    many = write_pairs(tmp_path / "many.parquet", 40)
    _blank_query(many, 10)
    with pytest.raises(ContractError, match="10 of 40 pairs were refused"):
        read_pairs(many, preprocessor)


def _blank_query(path: Path, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.read_table(path).to_pylist()
    for row in rows[:count]:
        row["query"] = " "
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_half_precision_is_taken_only_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": False, "amx_bf16": False})
    assert choose_precision("auto") == "fp32"
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    assert choose_precision("auto") == "bf16"
    with pytest.raises(SettingsError, match="needs a GPU"):
        choose_precision("fp16")


def test_a_batch_of_one_has_no_negatives_and_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 2"):
        train_params(batch_size=1)
