"""This machine's means for training: device, precision, and number of processes."""

from __future__ import annotations

import os
from typing import Literal

import torch

from twinline.contract.errors import SettingsError

TrainingPrecision = Literal["fp32", "bf16", "fp16"]


def device() -> torch.device:
    """Return the first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(asked: Literal["auto", "fp32", "bf16", "fp16"]) -> TrainingPrecision:
    """Return the precision to train in; `auto` takes half precision only where the hardware computes in it.

    Raises:
        SettingsError: fp16 was asked for without a GPU.
    """
    if asked == "fp16" and not torch.cuda.is_available():
        raise SettingsError("params.yaml encoder.train.precision = fp16 needs a GPU: use auto, bf16 or fp32 on a CPU")
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # A CPU without these instructions emulates bf16 and is several times slower than in fp32.
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "fp32"


def world_size() -> int:
    """Return the number of processes that torchrun or accelerate started; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Return whether this process writes the files."""
    return os.environ.get("RANK", "0") == "0"


def processes_to_start() -> int:
    """Return one process per visible GPU, or 1 when a launcher has already started us."""
    return 1 if "WORLD_SIZE" in os.environ else max(torch.cuda.device_count(), 1)
