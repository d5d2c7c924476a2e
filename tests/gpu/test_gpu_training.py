"""Fine-tuning on a GPU through the stage's own code: precision, loss, options, checkpoints."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.gpu.conftest import CONTRACT, TRAIN, Run, falls, paths_in, run_fit
from train.checkpoints import check_seal, latest_checkpoint
from train.curves import CurveWriter
from train.encoder.base_contract import contract_for, training_tokens
from train.encoder.batches import contract_collator
from train.encoder.fit import FitPaths
from train.encoder.model import load_model
from train.encoder.pairs import read_pairs
from train.encoder.params import LoraParams, TrainParams
from train.encoder.torch_encoder import TorchEncoder
from train.encoder.trainer import _loss
from train.hardware import choose_precision, device, processes_to_start
from twinline.contract.encoder.golden import GOLDEN_TEXTS
from twinline.contract.encoder.pooling import cosine_distance
from twinline.contract.encoder.preprocess import Preprocessor

TEXTS = [golden.text for golden in GOLDEN_TEXTS]
# How far a resumed run may end from one that was not stopped, in worst cosine distance: sums on a GPU are added up in an order
# that changes, and Adam makes a full step of what is left of a gradient near zero.
RESUMED = {"fp32": 1e-4, "bf16": 1e-3}


class StoppedError(Exception):
    """The error that stops a run."""


def stop_after(step: int) -> Any:
    def on_log(_self: CurveWriter, _args: Any, state: Any, _control: Any, **_kwargs: Any) -> None:
        if state.global_step == step:
            raise StoppedError

    return on_log


def start_and_stop(base: Path, paths: FitPaths, params: TrainParams, step: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stop a run in its middle; return the checkpoint that it leaves."""
    with monkeypatch.context() as patched:
        patched.setattr(CurveWriter, "on_log", stop_after(step))
        with pytest.raises(StoppedError):
            run_fit(base, paths, params)
    [folder] = [path for path in (paths.home / "checkpoints").iterdir() if path.is_dir()]
    checkpoint = latest_checkpoint(folder)
    assert checkpoint is not None
    check_seal(checkpoint)
    return checkpoint


@pytest.fixture(scope="module")
def whole(base: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Uninterrupted runs by precision: what several tests look at."""
    return {
        precision: run_fit(
            base,
            paths_in(tmp_path_factory.mktemp(precision), pairs_file),
            replace(TRAIN, precision=precision),  # type: ignore[arg-type]
        )
        for precision in RESUMED
    }


def test_device_and_precision_are_those_of_the_gpu() -> None:
    assert device().type == "cuda"
    # Ampere (8.0) is the first to compute in bfloat16.
    assert choose_precision("auto") == ("bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16")
    assert processes_to_start() == torch.cuda.device_count()


@pytest.mark.parametrize("precision", RESUMED)
def test_a_run_on_the_gpu_says_so_and_its_loss_falls(precision: str, whole: dict[str, Run]) -> None:
    run = whole[precision]
    assert run.record["device"] == "cuda"
    assert run.record["precision"] == precision
    assert run.record["steps"] == len(run.losses) == 30
    assert all(np.isfinite(run.losses))
    assert falls(run.losses), run.losses


@pytest.mark.parametrize("precision", RESUMED)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    precision: str, whole: dict[str, Run], base: Path, preprocessor: Preprocessor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = paths_in(tmp_path, whole[precision].paths.pairs)
    params = replace(TRAIN, precision=precision)  # type: ignore[arg-type]
    # The checkpoint is of the end of the second epoch, so that the order of the third is needed again.
    start_and_stop(base, paths, params, 23, monkeypatch)
    resumed = run_fit(base, paths, params)
    assert resumed.record["resumed_from_step"] == 20
    assert len(resumed.losses) == 30
    ended, expected = vectors(resumed.paths.encoder), vectors(whole[precision].paths.encoder)
    apart = cosine_distance(ended, expected).max()
    moved = cosine_distance(expected, TorchEncoder.load(base, preprocessor).embed(TEXTS, "document").vectors).max()
    print(f"resumed {precision}: worst distance {apart:.2e}, training moved by {moved:.2e}")
    assert apart <= RESUMED[precision]
    assert apart < moved / 10


def vectors(encoder: Path) -> Any:
    return TorchEncoder.load(encoder).embed(TEXTS, "document").vectors


def _go_on(base: Path, paths: FitPaths, params: TrainParams) -> None:
    run_fit(base, paths, params)


def test_a_run_begun_on_the_gpu_is_finished_on_the_cpu(
    base: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = paths_in(tmp_path, pairs_file)
    params = replace(TRAIN, max_steps=12, batch_size=16, mini_batch_size=16, max_tokens=32)
    checkpoint = start_and_stop(base, paths, params, 11, monkeypatch)
    states = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
    assert states["state"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    process = multiprocessing.get_context("spawn").Process(target=_go_on, args=(base, paths, params))
    process.start()
    process.join(200)
    assert process.exitcode == 0
    record = json.loads((paths.encoder / "training.json").read_text())
    assert (record["device"], record["resumed_from_step"], record["steps"]) == ("cpu", 10, 12)


@pytest.mark.parametrize(
    "option",
    [
        {"length_grouped": True},
        {"freeze_layers": 3},
        {"lora": LoraParams(rank=16, alpha=32), "learning_rate": 1e-3},
        # the cached loss: a batch larger than what the device holds at once
        {"mini_batch_size": 20},
    ],
    ids=["length-grouped", "frozen", "lora", "cached"],
)
def test_each_option_trains_in_half_precision_and_ends_in_plain_weights(
    option: dict[str, Any], base: Path, pairs_file: Path, tmp_path: Path
) -> None:
    run = run_fit(base, paths_in(tmp_path, pairs_file), replace(TRAIN, precision="auto", **option))
    assert run.record["precision"] in ("bf16", "fp16")
    assert falls(run.losses), run.losses
    assert run.record["trained_parameters"] <= run.record["parameters"]
    # the door between weights and training.json opens, and nothing of an adapter is left
    assert TorchEncoder.load(run.paths.encoder).space == run.record["space"]
    assert [path.name for path in run.paths.encoder.rglob("*.safetensors")] == ["model.safetensors"]


@pytest.mark.parametrize(("batch", "mini", "max_tokens"), [(32, 8, 16), (48, 20, 64), (64, 16, 256)])
def test_the_cached_loss_is_the_plain_one(batch: int, mini: int, max_tokens: int, base: Path, pairs_file: Path) -> None:
    contract, tokenizer_json = contract_for(base, CONTRACT)
    pairs = read_pairs(pairs_file, Preprocessor(contract, tokenizer_json))
    collate = contract_collator(training_tokens(contract, tokenizer_json, max_tokens))
    rows = [{"query": q, "document": d} for q, d in zip(pairs.queries[:batch], pairs.documents[:batch], strict=True)]
    found = {}
    for size in (mini, batch):
        model = load_model(base, contract, tokenizer_json).to(device())
        # without dropout, which draws other masks for other shapes
        model.eval()
        loss = _loss(model, replace(TRAIN, batch_size=batch, mini_batch_size=size))
        value = loss(_features(collate(rows)), None)
        value.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found[size] = (float(value.detach()), gradient.cpu())
    (cached, one), (plain, other) = found[mini], found[batch]
    assert plain > 0
    assert abs(cached - plain) <= 1e-5 * plain
    assert float((one - other).norm() / other.norm()) <= 1e-4


def _features(batch: dict[str, Any]) -> list[dict[str, torch.Tensor]]:
    """Return what the trainer feeds to a loss: a mapping a column."""
    return [
        {
            name.removeprefix(f"{column}_"): tensor.to(device())
            for name, tensor in batch.items()
            if name.startswith(f"{column}_") and isinstance(tensor, torch.Tensor)
        }
        for column in ("query", "document")
    ]
