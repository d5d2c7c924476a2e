"""int8 for OpenVINO: post-training quantisation by NNCF, calibrated on texts as they will be served.

Quantised throughout, an encoder is too far off on unusual texts. What is rounded early is carried through every later layer, so
the first operations are what is not quantised: as few as bring the worst text near enough, found by halving. They run in bfloat16
where the CPU has it, here as where the format is served (`runtimes.openvino_hint`).

NNCF's own search (`quantize_with_accuracy_control`) leaves one operation at a time and ranks all others anew: on a network whose
error is spread evenly it takes hours, and ends further off.
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
# Of the parity limit: texts that were not calibrated on are a little further off than those that were.
_AIM: Final = 0.7 * PARITY_LIMITS["int8"]
# The worst of so many texts counts, the first of the calibration: all golden ones, and some of the corpus.
_TRIED: Final = 80
# Operations are left exact by eighths of the network: 0, 4, then 2 or 6, then one between; four calibrations at most.
_PARTS: Final = 8
# How much of an activation's outliers is moved into the weights (alpha of SmoothQuant, arXiv 2211.10438). Of MiniLM's worst chunk
# in cosine distance: 0.017 at NNCF's own 0.95, 0.009 at this, 0.021 at 0.5.
_SMOOTHING: Final = 0.75
_QUANTIZED: Final = ("MatMul", "ScaledDotProductAttention")
_EXACT: Final = {"INFERENCE_PRECISION_HINT": "f32"}


def export_int8(onnx_file: Path, target: Path, calibration: Sequence[Sequence[int]]) -> None:
    """Quantise as much of the float32 graph as keeps its vectors near to `target` (.xml, with the weights in a .bin beside it).

    Where not even the last eighth can be quantised so, it is written all the same: parity refuses it, and says how far off it is.

    Args:
        onnx_file: the float32 graph.
        target: the intermediate representation to write.
        calibration: token ids of texts, golden ones first; each runs alone, so that no range is learnt from padding.
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
    # `too_few` exact parts are known to be too few; of `enough` that is known for all but the last.
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
    # NNCF says on standard output, which is for what a command answers, how far it is; its logger keeps the one of its import.
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
            # A CPU without VNNI adds products of 8 bits in 16 and cuts what does not fit: there weights have 7 bits, with which
            # less can be quantised. So a file is for CPUs like the one that it was made on.
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
