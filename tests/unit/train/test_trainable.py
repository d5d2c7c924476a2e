"""Training less than everything, and batches by length: each on a model of a few thousand weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.unit.train.conftest import WORDS
from tests.unit.train.factories import contract_params, fit_paths, train_params
from train.curves import CurveWriter
from train.encoder.base_contract import contract_for
from train.encoder.fit import FitPaths, fit
from train.encoder.grouping import LengthGroupedBatchSampler, grouped_batches
from train.encoder.model import backbone, load_model
from train.encoder.params import LoraParams, TrainParams
from train.encoder.torch_encoder import TorchEncoder
from train.encoder.trainable import choose_trainable, count_parameters
from twinline.clients.params import build_params
from twinline.contract.encoder.pooling import cosine_distance
from twinline.contract.errors import SettingsError

LORA = LoraParams(rank=4, alpha=8)
OPTIONS: dict[str, dict[str, Any]] = {
    "length-grouped": {"length_grouped": True},
    "frozen": {"freeze_layers": 1},
    "lora": {"lora": LORA, "learning_rate": 1e-2},
}


def run_fit(base: Path, paths: FitPaths, params: TrainParams) -> dict[str, Any]:
    fit(base, "tiny", contract_params(), params, paths)
    record: dict[str, Any] = json.loads((paths.encoder / "training.json").read_text())
    return record


def weights(folder: Path) -> dict[str, np.ndarray]:
    return dict(load_file(folder / "model.safetensors"))


def lengths(count: int) -> np.ndarray:
    random = np.random.default_rng(3)
    return np.stack([random.integers(4, 12, count), random.integers(8, 64, count)], axis=1).astype(np.int32)


def distinct(count: int) -> np.ndarray:
    return np.arange(2 * count).reshape(count, 2)


def padded_share(counts: np.ndarray, batches: list[list[int]]) -> float:
    """Return the share of padding in the tokens computed for these batches."""
    real = sum(int(counts[batch].sum()) for batch in batches)
    computed = sum(int(counts[batch].max(axis=0).sum()) * len(batch) for batch in batches)
    return 1 - real / computed


def test_grouped_batches_hold_every_pair_once_in_full_batches() -> None:
    batches = grouped_batches(lengths(1_003), distinct(1_003), 16, np.random.default_rng(1))
    assert sorted(row for batch in batches for row in batch) == list(range(1_003))
    assert [len(batch) for batch in batches] == [16] * 62 + [11]


def test_grouped_batches_pad_less_than_half_of_what_shuffled_ones_do() -> None:
    counts = lengths(2_000)
    shuffled = np.random.default_rng(1).permutation(2_000).reshape(-1, 20).tolist()
    grouped = grouped_batches(counts, distinct(2_000), 20, np.random.default_rng(1))
    assert 0 < padded_share(counts, grouped) < padded_share(counts, shuffled) / 2


def test_grouped_batches_come_in_no_order_of_length() -> None:
    counts = lengths(3_200)
    longest = [int(counts[batch, 1].max()) for batch in grouped_batches(counts, distinct(3_200), 16, np.random.default_rng(1))]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.25


def test_a_text_is_never_twice_in_a_batch_and_no_pair_is_lost() -> None:
    # every query stands at five documents, next to each other when sorted
    texts = np.stack([np.arange(200) // 5, 1_000 + np.arange(200)], axis=1)
    counts = np.stack([np.full(200, 6), 10 + np.arange(200) // 5], axis=1).astype(np.int32)
    batches = grouped_batches(counts, texts, 8, np.random.default_rng(1))
    assert all(len(set(texts[batch].ravel().tolist())) == 2 * len(batch) for batch in batches)
    assert sorted(row for batch in batches for row in batch) == list(range(200))


def test_a_query_that_is_the_document_of_another_pair_is_no_negative_of_itself() -> None:
    texts = np.array([[0, 1], [1, 2], [3, 4], [4, 5]])
    batches = grouped_batches(np.ones((4, 2), np.int32), texts, 4, np.random.default_rng(1))
    assert all(not ({0, 1} <= set(batch) or {2, 3} <= set(batch)) for batch in batches)


def test_seed_and_epoch_decide_the_order_and_nothing_else() -> None:
    from datasets import Dataset

    rows = Dataset.from_dict({"query": [f"q{n}" for n in range(90)], "document": [f"d{n}" for n in range(90)]})

    def epoch(number: int, seed: int = 5) -> list[list[int]]:
        sampler = LengthGroupedBatchSampler(rows, lengths(90), 8, drop_last=False, seed=seed)
        assert len(sampler) == 12
        sampler.set_epoch(number)
        return list(sampler)

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)
    assert epoch(0) != epoch(0, seed=6)
    # after a resume nothing was drawn before the epoch that goes on
    sampler = LengthGroupedBatchSampler(rows, lengths(90), 8, drop_last=False, seed=5)
    before, _ = list(sampler), sampler.set_epoch(1)
    assert before == epoch(0)
    assert list(sampler) == epoch(1)


def test_several_processes_get_full_batches_alone() -> None:
    from datasets import Dataset

    rows = Dataset.from_dict({"query": [f"q{n}" for n in range(90)], "document": [f"d{n}" for n in range(90)]})
    sampler = LengthGroupedBatchSampler(rows, lengths(90), 8, drop_last=True, seed=5)
    assert [len(batch) for batch in sampler] == [8] * len(sampler) == [8] * 11


def test_frozen_weights_do_not_move_and_the_others_do(tiny_base: Path, pairs_file: Path, tmp_path: Path) -> None:
    paths = fit_paths(tmp_path, pairs_file)
    record = run_fit(tiny_base, paths, train_params(freeze_layers=1))
    before, after = weights(tiny_base), weights(paths.encoder)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {name for name in before if name.startswith(("embeddings.", "encoder.layer.0."))}.isdisjoint(moved)
    # a bias of all keys alike shifts every score by the same, which softmax takes out again
    assert {name for name in before if name.startswith("encoder.layer.1.") and "key.bias" not in name} <= moved
    assert record["params"]["freeze_layers"] == 1
    assert 0 < record["trained_parameters"] < record["parameters"] == sum(tensor.size for tensor in before.values())


def test_freezing_more_layers_than_there_are_is_refused_with_their_number(tiny_base: Path) -> None:
    with pytest.raises(SettingsError, match=r"freeze_layers = 2: the base model has 2 layers.*choose 1 or less"):
        choose_trainable(backbone(tiny_model(tiny_base)), train_params(freeze_layers=2))


def tiny_model(base: Path) -> Any:
    return load_model(base, *contract_for(base, contract_params()))


def test_merged_lora_gives_the_vectors_of_the_layers_beside_which_it_was_trained(tiny_base: Path) -> None:
    torch.manual_seed(1)
    model = tiny_model(tiny_base)
    names = set(backbone(model).state_dict())
    texts = [" ".join(WORDS[:n]) for n in (1, 5, 26)]
    plain = vectors_of(model, texts)
    adapted = choose_trainable(backbone(model), train_params(lora=LORA))
    assert adapted is not None
    trained, _ = count_parameters(model)
    assert trained == sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                # as trained: an update starts at zero
                parameter.normal_(std=0.3)
    beside = vectors_of(model, texts)
    adapted.merge()
    merged = vectors_of(model, texts)
    assert set(backbone(model).state_dict()) == names
    assert cosine_distance(plain, beside).max() > 1e-3
    assert cosine_distance(beside, merged).max() <= 1e-6
    assert np.abs(beside - merged).max() <= 1e-6


def vectors_of(model: Any, texts: list[str]) -> np.ndarray:
    return np.asarray(model.encode(texts, prompt_name="document", show_progress_bar=False), dtype=np.float32)


def test_lora_ends_in_plain_weights_that_every_reader_reads(tiny_base: Path, pairs_file: Path, tmp_path: Path) -> None:
    paths = fit_paths(tmp_path, pairs_file)
    record = run_fit(tiny_base, paths, train_params(**OPTIONS["lora"]))
    before, after = weights(tiny_base), weights(paths.encoder)
    assert set(after) == set(before)
    assert {path.suffix for path in paths.encoder.rglob("*") if path.is_file()} == {".json", ".safetensors"}
    assert not list(paths.encoder.rglob("adapter*"))
    assert json.loads((paths.encoder / "config.json").read_text()).keys() == json.loads(
        (tiny_base / "config.json").read_text()
    ).keys() | {"transformers_version"}
    assert np.array_equal(before["embeddings.word_embeddings.weight"], after["embeddings.word_embeddings.weight"])
    assert not np.array_equal(
        before["encoder.layer.0.attention.self.query.weight"], after["encoder.layer.0.attention.self.query.weight"]
    )
    # training.json says how it came about, and the door that compares it with the weights opens
    assert record["params"]["lora"] == {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": []}
    assert record["trained_parameters"] < record["parameters"] == sum(tensor.size for tensor in before.values())
    assert record["space"] == TorchEncoder.load(paths.encoder).space


def test_lora_on_named_layers_leaves_the_others_as_they_are(tiny_base: Path, pairs_file: Path, tmp_path: Path) -> None:
    paths = fit_paths(tmp_path, pairs_file)
    lora = LoraParams(rank=2, alpha=4, targets=["query", "value"])
    run_fit(tiny_base, paths, train_params(max_steps=3, lora=lora, learning_rate=1e-2))
    before, after = weights(tiny_base), weights(paths.encoder)
    moved = {name.split(".")[-2] for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"query", "value"}


def test_lora_on_layers_that_are_not_there_is_refused(tiny_base: Path) -> None:
    params = train_params(lora=LoraParams(rank=2, targets=["q_proj"]))
    with pytest.raises(SettingsError, match=r"train.lora.targets = \['q_proj'\] does not fit BertModel"):
        choose_trainable(backbone(tiny_model(tiny_base)), params)


class StoppedError(Exception):
    """The error that stops a run; test_fit.py kills it."""


@pytest.mark.integration
@pytest.mark.parametrize("option", OPTIONS)
def test_a_run_that_was_stopped_ends_with_the_same_weights_under_each_option(
    option: str, tiny_base: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the second epoch begins at step 7, so that its order is needed again
    params = train_params(**({"checkpoint_every_steps": 4} | OPTIONS[option]))
    uninterrupted = run_fit(tiny_base, fit_paths(tmp_path / "whole", pairs_file), params)
    assert uninterrupted["space"] != uninterrupted["base_space"]

    paths = fit_paths(tmp_path / "stopped", pairs_file)
    with monkeypatch.context() as patched:
        patched.setattr(CurveWriter, "on_log", stop_after(9))
        with pytest.raises(StoppedError):
            run_fit(tiny_base, paths, params)
    resumed = run_fit(tiny_base, paths, params)
    assert resumed["resumed_from_step"] == 8
    assert resumed["steps"] == uninterrupted["steps"] == 12
    assert resumed["space"] == uninterrupted["space"]


def stop_after(step: int) -> Any:
    def on_log(_self: CurveWriter, _args: Any, state: Any, _control: Any, **_kwargs: Any) -> None:
        if state.global_step == step:
            raise StoppedError

    return on_log


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"freeze_layers": -1}, r"train.freeze_layers = -1: must be 0 or more, or null"),
        ({"freeze_layers": 1, "lora": LORA}, r"freeze_layers = 1 and train.lora.rank = 4: LoRA freezes"),
        ({"lora": {"rank": -1}}, r"train.lora.rank = -1: must not be negative"),
        ({"lora": {"rank": 4, "alpha": 0}}, r"train.lora.alpha = 0: must be at least 1"),
        ({"lora": {"rank": 4, "dropout": 1.0}}, r"train.lora.dropout = 1.0: must be in"),
        ({"lora": {"rang": 4}}, r"lora is .*'rang'"),
        ({"length_grouped": "yes"}, r"length_grouped is 'yes'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name_and_value(values: dict[str, Any], problem: str) -> None:
    fields = {name: getattr(train_params(), name) for name in TrainParams.__dataclass_fields__} | {"lora": {}} | values
    if isinstance(fields["lora"], LoraParams):
        fields["lora"] = {"rank": fields["lora"].rank}
    with pytest.raises(SettingsError, match=problem):
        build_params(fields, TrainParams, "params.yaml: section `train`")
