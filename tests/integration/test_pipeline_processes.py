"""Training shared by several processes, as on several GPUs; here two on one CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from tests.unit.train.conftest import write_pairs, write_tiny_base

ROOT = Path(__file__).resolve().parents[2]


def fit(folder: Path, launcher: list[str]) -> dict[str, np.ndarray]:
    environment = {**os.environ, "TWINLINE_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "train", "fit"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(load_file(folder / "models" / "encoder" / "model.safetensors"))


@pytest.mark.timeout(560)
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base")
    # Dropout draws other numbers in each process; everything else must be equal.
    config = json.loads((base / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (base / "config.json").write_text(json.dumps(config))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["encoder"]["base_model"] = str(base)
    params["encoder"]["contract"] |= {"overlap_tokens": 4, "title_max_tokens": 8}
    # Batches of 8, 4 a process, 2 at once: the cached loss, with negatives from both.
    params["encoder"]["train"] |= {
        "batch_size": 8,
        "mini_batch_size": 2,
        "max_steps": 3,
        "learning_rate": 1e-3,
        "warmup_ratio": 0.0,
    }
    results = []
    for name, launcher in (("one", []), ("two", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"])):
        folder = tmp_path / name
        write_pairs(folder / "data" / "pairs" / "train.parquet", 64)
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        results.append(fit(folder, launcher))
    training = json.loads((tmp_path / "two" / "models" / "encoder" / "training.json").read_text())
    assert training["processes"] == 2
    before = load_file(base / "model.safetensors")
    moved = max(float(np.abs(results[0][name] - before[name]).max()) for name in before)
    apart = max(float(np.abs(results[0][name] - results[1][name]).max()) for name in before)
    assert moved > 1e-3
    assert apart < 1e-5
