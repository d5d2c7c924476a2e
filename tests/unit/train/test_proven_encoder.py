"""The evaluation's vectors come from a file that parity has proved, and from torch where nothing is proved."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.encoder.build import export_encoder
from export.encoder.package import ReleaseNotes, ReleaseParts, package_release
from export.encoder.params import ExportParams, ParityParams
from export.encoder.parity_stage import check_parity, golden_vectors, read_report
from tests.unit.train.conftest import write_pairs, write_tiny_base
from tests.unit.train.factories import contract_params, evaluate_params, fit_paths, train_params
from tests.unit.train.test_evaluate import SIMILARITY, EvaluatePaths, count_words, write_corpus
from train.encoder.evaluate import evaluate
from train.encoder.fit import fit
from train.encoder.proven_encoder import ProvenEncoder, find_proven, proven_export
from train.encoder.torch_encoder import TorchEncoder
from train.weights import weights_sha256
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import MismatchError

BUCKETS = (16, 32, 48)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EvaluatePaths]:
    """Return a base model, and the evaluation's inputs with an encoder of the same weights, exported and proved."""
    folder = tmp_path_factory.mktemp("proven")
    base, paths = write_tiny_base(folder / "base"), write_corpus(folder)
    write_pairs(paths.pairs / "train.parquet", source="elsewhere")
    fit(base, "tiny", contract_params(), train_params(epochs=0), fit_paths(folder, paths.pairs / "train.parquet"))
    exported, parity = folder / "models" / "exported", folder / "models" / "parity.json"
    export_encoder(paths.encoder, exported, ExportParams())
    report, _ = check_parity(paths.encoder, exported, [], BUCKETS, ParityParams())
    report.save(parity)
    count_words(paths)
    return base, replace(paths, exported=exported, parity=parity)


@pytest.fixture
def world(made: tuple[Path, EvaluatePaths], tmp_path: Path) -> EvaluatePaths:
    """Return a copy that a test may damage, with a home of its own."""
    shutil.copytree(made[1].encoder.parent, tmp_path / "models")
    copied = ("encoder", "evaluation", "exported", "parity", "words")
    models = {name: tmp_path / "models" / getattr(made[1], name).name for name in copied}
    return replace(made[1], **models, home=tmp_path / "home")


def release_of(paths: EvaluatePaths, target: Path) -> str:
    assert paths.exported
    paths.home.mkdir(exist_ok=True)
    report = read_report(paths.parity)
    parts = ReleaseParts(paths.encoder, paths.exported, report, golden_vectors(paths.encoder), {"parity.json": paths.parity})
    return package_release(parts, ReleaseNotes("tiny", {}, {}), target, ("onnx_fp32",), BUCKETS, 8).release


def ran_by(base: Path, paths: EvaluatePaths, capsys: pytest.CaptureFixture[str], **params: Any) -> dict[str, str]:
    evaluate(base, evaluate_params(margin=1.0, slice_margin=1.1, **params), SIMILARITY, paths)
    lines = [line.removeprefix("evaluate: ") for line in capsys.readouterr().out.splitlines() if " by " in line]
    return dict(line.split(" by ", 1) for line in lines if line.startswith(("tuned", "base", "champion")))


@pytest.mark.integration
def test_its_vectors_are_those_of_torch_within_the_limit_of_parity(world: EvaluatePaths) -> None:
    assert world.exported
    proven = proven_export(world.encoder, world.exported, world.parity)
    assert proven
    assert proven.backend == "openvino"
    preprocessor = Preprocessor.load(world.encoder)
    exact, torch = ProvenEncoder.load(proven, preprocessor), TorchEncoder.load(world.encoder)
    assert exact.space == torch.space
    texts = [" ".join(["broker", "index", "query"] * n) for n in range(1, 30)]
    for role in ("query", "document"):
        one, other = exact.embed(texts, role), torch.embed(texts, role)  # type: ignore[arg-type]
        np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-5)
        assert one.token_counts.tolist() == other.token_counts.tolist()
        assert one.truncated.tolist() == other.truncated.tolist()


def test_the_evaluation_gives_the_same_numbers_by_either(
    made: tuple[Path, EvaluatePaths], world: EvaluatePaths, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    by = ran_by(made[0], world, capsys)
    assert by["tuned"].startswith("openvino_fp32, ")
    assert by["base"] == "torch"  # no release here has its weights
    exact = json.loads((world.evaluation / "evaluation.json").read_text())
    by = ran_by(made[0], replace(world, exported=None, home=tmp_path / "other"), capsys)
    assert set(by.values()) == {"torch"}
    assert json.loads((world.evaluation / "evaluation.json").read_text()) == exact


@pytest.mark.parametrize("place", ["base/release", "releases/{release}"])
def test_the_base_model_runs_by_a_release_of_the_same_weights(
    made: tuple[Path, EvaluatePaths], world: EvaluatePaths, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    release = release_of(world, world.home / "made")
    target = world.home / place.format(release=release)
    target.parent.mkdir(parents=True)
    (world.home / "made").rename(target)
    by = ran_by(made[0], world, capsys, champion=release if place.startswith("releases") else "")
    # the base model's contract has the same pooling; its prefixes and limits are the tokenizer's part
    assert by["base"].endswith(f"release {release}")
    assert by["base under this contract"].endswith(f"release {release}")
    assert by.get("champion", by["base"]) == by["base"]


def _other_space(paths: EvaluatePaths) -> None:
    record = paths.exported / "formats.json"  # type: ignore[operator]
    record.write_text(json.dumps({**json.loads(record.read_text()), "space": "another"}))


def _changed_file(paths: EvaluatePaths) -> None:
    (paths.exported / "openvino" / "model.bin").write_bytes(b"other weights")  # type: ignore[operator]


def _other_report(paths: EvaluatePaths) -> None:
    paths.parity.write_text(json.dumps({**json.loads(paths.parity.read_text()), "export_sha256": "another"}))


@pytest.mark.parametrize("damage", [_other_space, _changed_file, _other_report])
def test_an_export_that_is_not_of_this_encoder_is_refused(world: EvaluatePaths, damage: Callable[[EvaluatePaths], None]) -> None:
    damage(world)
    with pytest.raises(MismatchError, match="dvc repro encoder-parity"):
        proven_export(world.encoder, world.exported, world.parity)  # type: ignore[arg-type]


@pytest.mark.parametrize("worst", [2e-6, float("nan")])
def test_a_format_over_its_limit_proves_nothing(world: EvaluatePaths, worst: float) -> None:
    report = json.loads(world.parity.read_text())
    for entry in report["formats"]:
        entry["parity"]["worst"] = worst
    world.parity.write_text(json.dumps(report))
    assert proven_export(world.encoder, world.exported, world.parity) is None  # type: ignore[arg-type]


def test_a_release_of_other_weights_or_pooling_is_not_taken_and_a_changed_one_is_refused(world: EvaluatePaths) -> None:
    folder = world.home / "made"
    release_of(world, folder)
    weights = weights_sha256(world.encoder)
    assert find_proven([folder], weights, "mean")
    assert find_proven([folder], weights, "cls") is None
    assert find_proven([folder], "other", "mean") is None
    assert find_proven([world.home / "nothing", folder], weights, "mean")
    (folder / "onnx" / "model.onnx").write_bytes(b"changed")
    with pytest.raises(MismatchError, match=r"onnx/model\.onnx"):
        find_proven([folder], weights, "mean")
