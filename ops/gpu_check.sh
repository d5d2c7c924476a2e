#!/usr/bin/env bash
# The tests that need an NVIDIA GPU, on a machine that has one and a torch built with CUDA:
#
#   ops/gpu_check.sh                       # `make setup TORCH=gpu` made .venv
#   PYTHON=python3 ops/gpu_check.sh -x     # another environment; further options go to pytest
#
# What also needs onnxruntime-gpu or TensorRT says so where they are missing. Afterwards: python -m bench training
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
command -v "$python" > /dev/null || python=python3
# The tests train within one process; several GPUs are torchrun's.
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
"$python" - <<'CHECK'
import sys

import torch

if not torch.cuda.is_available():
    sys.exit(f"gpu_check: torch {torch.__version__} (CUDA {torch.version.cuda}) sees no NVIDIA GPU: nothing was tested")
print(f"gpu_check: {torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}", flush=True)
CHECK
# Elsewhere than in .venv versions are not those of constraints.txt, and may warn of what these do not: shown, not an error.
# -rs: a test that was skipped names what it lacks.
exec "$python" -m pytest tests/gpu -m gpu -W default -rsA --durations=10 --timeout=240 "$@"
