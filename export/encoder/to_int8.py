"""int8 for OpenVINO: post-training quantisation by NNCF, calibrated on texts as served.

A fully quantised encoder is too far off on unusual texts. Early rounding errors go through every later layer, so the first
operations stay exact: as few as bring the worst text near enough, found by halving. They run in bfloat16 where the CPU has it,
here as in serving (`runtimes.openvino_hint`).

NNCF's own search (`quantize_with_accuracy_control`) leaves one operation exact at a time and ranks all others again. On a network
whose error is spread evenly it takes hours, and ends further off.
"""

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino
from numpy.typing import NDArray

from export.encoder.runtimes import openvino_hint
from export.encoder.to_openvino import has_vnni
from twinline.contract.encoder.golden import PARITY_LIMITS
from twinline.contract.encoder.pooling import cosine_distance
from twinline.contract.encoder.tensors import ATTENTION_MASK, INPUT_IDS, SENTENCE_EMBEDDING

_log = logging.getLogger(__name__)
# A share of the parity limit: texts outside the calibration are a little further off.
_AIM: Final = 0.7 * PARITY_LIMITS["int8"]
# The worst of this many texts counts, the first of the calibration: all golden texts, and some of the corpus.
_TRIED: Final = 80
# Operations stay exact by eighths of the network: 0, 4, then 2 or 6, then one between; four calibrations at most.
_PARTS: Final = 8
# The share of an activation's outliers that moves into the weights (alpha of SmoothQuant, arXiv 2211.10438). Cosine distance of
# MiniLM's worst chunk: 0.017 at NNCF's own 0.95, 0.009 at this, 0.021 at 0.5.
_SMOOTHING: Final = 0.75
_QUANTIZED: Final = ("MatMul", "ScaledDotProductAttention")
_EXACT: Final = {"INFERENCE_PRECISION_HINT": "f32"}


def export_int8(onnx_file: Path, target: Path, calibration: Sequence[Sequence[int]]) -> None:
    """Quantise as much of the float32 graph as parity allows, and write it to `target` (.xml, weights in a .bin beside it).

    If even the last eighth is too much, the file is still written: parity refuses it and reports the distance.

    Args:
        onnx_file: the float32 graph.
        target: the intermediate representation to write.
        calibration: token ids of texts, golden ones first; each runs alone, so that padding does not shape the ranges.
    """
    inputs = [_inputs(ids) for ids in calibration]
    tried = inputs[:_TRIED]
    exact = openvino.convert_model(onnx_file)
    reference = _vectors(exact, tried, _EXACT)
    served = {"INFERENCE_PRECISION_HINT": openvino_hint("int8")}
    operations = [one.get_friendly_name() for one in exact.get_ordered_ops() if one.get_type_name() in _QUANTIZED]

    def attempt(parts: int) -> tuple[Any, float]:
        left_exact = operations[: len(operations) * parts // _PARTS]
        model = _quantized(openvino.convert_model(onnx_file), inputs, left_exact)
        worst = float(np.nan_to_num(cosine_distance(_vectors(model, tried, served), reference), nan=1.0).max())
        _log.info("int8_tried", extra={"exact_operations": len(left_exact), "of": len(operations), "worst": worst})
        return model, worst

    model, worst = attempt(0)
    # `too_few` exact parts were measured as too few; `enough` was measured as enough, except for the last.
    too_few, enough = (0, _PARTS) if worst > _AIM else (-1, 0)
    while enough - too_few > 1:
        parts = (too_few + enough) // 2
        found, worst = attempt(parts)
        if worst <= _AIM:
            model, enough = found, parts
        else:
            too_few = parts
            if enough == _PARTS:
                model = found
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, target, compress_to_fp16=False)


def _quantized(model: Any, inputs: Sequence[dict[str, NDArray[np.int64]]], left_exact: Sequence[str]) -> Any:
    # NNCF reports progress on standard output, which carries a command's result; its logger holds the stream of its import.
    with redirect_stdout(sys.stderr):
        import nncf
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            AdvancedSmoothQuantParameters,
            OverflowFix,
        )

        return nncf.quantize(
            model,
            nncf.Dataset(inputs),
            # Softmax, normalisation and residuals stay exact.
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=list(left_exact)) if left_exact else None,
            # A CPU without VNNI adds products of 8 bits in 16 and saturates. There weights have 7 bits, and fewer operations can
            # be quantised. So a file runs only on CPUs like its maker's.
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.DISABLE if has_vnni() else OverflowFix.ENABLE,
                smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=_SMOOTHING),
            ),
        )


def _vectors(model: Any, items: Iterable[dict[str, NDArray[np.int64]]], options: Mapping[str, str]) -> NDArray[np.float32]:
    request = openvino.compile_model(model, "CPU", dict(options)).create_infer_request()
    return np.concatenate([np.array(request.infer(item)[SENTENCE_EMBEDDING], dtype=np.float32) for item in items])


def _inputs(ids: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    row = np.array([list(ids)], dtype=np.int64)
    return {INPUT_IDS: row, ATTENTION_MASK: np.ones_like(row)}
