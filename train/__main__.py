"""Two stages of the offline line.

    python -m train fit          pairs + base model -> models/encoder, plots/train.tsv
    python -m train evaluate     held-out queries; encoder, base model, champion, BM25 -> models/evaluation

On a machine with several GPUs `fit` starts itself again under torchrun, one process a GPU; `accelerate launch -m train fit`
and `torchrun -m train fit` work as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import typer

from twinline.clients.run import run
from twinline.contract.artefacts import DOCUMENTS, ENCODER, PAIRS, SNAPSHOT, TRAIN_PAIRS

app = typer.Typer(add_completion=False, help="Fine-tune an encoder and measure it.", pretty_exceptions_enable=False)


@app.command()
def fit() -> None:
    """Fine-tune the base model on data/pairs/train.parquet."""
    from train.encoder.params import ContractParams, EncoderParams, TrainParams
    from twinline.clients.base_model import resolve_base_model
    from twinline.clients.params import load_params, load_plain_params
    from twinline.clients.settings import load_settings

    # Read before anything heavy is imported: a wrong key is an error at once.
    contract_params, params = load_params("encoder.contract", ContractParams), load_params("encoder.train", TrainParams)
    base_name = load_plain_params("encoder", EncoderParams).base_model
    home = load_settings().home
    base = resolve_base_model(base_name)

    from train.hardware import processes_to_start

    processes = processes_to_start()
    if processes > 1:
        _start_again(processes, "fit")
        return

    from train.encoder.fit import FitPaths
    from train.encoder.fit import fit as fine_tune

    paths = FitPaths(Path(TRAIN_PAIRS), Path(ENCODER.trained), Path(ENCODER.curves), home)
    fine_tune(base, base_name, contract_params, params, paths)


@app.command()
def evaluate() -> None:
    """Score encoder, base model, champion and BM25 on the held-out queries, and write the verdict of the gate."""
    from train.encoder.params import EncoderParams, EvaluateParams, SimilarityParams
    from twinline.clients.base_model import resolve_base_model
    from twinline.clients.params import load_params, load_plain_params
    from twinline.clients.settings import load_settings

    params, similarity = load_params("encoder.evaluate", EvaluateParams), load_params("prepare", SimilarityParams)
    base_name = load_plain_params("encoder", EncoderParams).base_model
    home = load_settings().home

    from train.encoder.evaluate import EvaluatePaths
    from train.encoder.evaluate import evaluate as score

    inputs = Path(DOCUMENTS), Path(PAIRS), Path(SNAPSHOT), Path(ENCODER.trained)
    paths = EvaluatePaths(*inputs, Path(ENCODER.evaluation), home, Path(ENCODER.words), Path(ENCODER.exported))
    score(resolve_base_model(base_name), params, similarity, paths)


def _start_again(processes: int, stage: str) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "train", stage]
    raise SystemExit(subprocess.run([sys.executable, *launcher], check=False).returncode)


def main() -> None:
    """Run one stage."""
    # Threads that spin while they wait lose a factor of ten as soon as other processes want the cores: on a laptop these are
    # the broker, the model server and the scheduler. torch reads the variable once, at import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    run("train", app, check="all", role="train")


if __name__ == "__main__":
    main()
