"""int8 for OpenVINO: post-training quantisation by NNCF, calibrated on texts as they will be served."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from contract.tensors import ATTENTION_MASK, INPUT_IDS


def export_int8(onnx_file: Path, target: Path, calibration: Sequence[Sequence[int]]) -> None:
    """Quantise the float32 graph to `target` (.xml, with the weights in a .bin beside it).

    Args:
        onnx_file: the float32 graph.
        target: the intermediate representation to write.
        calibration: token ids of texts; each runs alone, so that no range is learnt from padding.
    """
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    quantized = nncf.quantize(
        openvino.convert_model(onnx_file),
        nncf.Dataset(calibration, _inputs),
        # Softmax, normalisation and residuals stay in float32.
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(calibration),
        # A CPU without VNNI adds products of 8 bits in 16 and cuts what does not fit: without this its vectors are others.
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(quantized, target, compress_to_fp16=False)


def _inputs(ids: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    row = np.array([list(ids)], dtype=np.int64)
    return {INPUT_IDS: row, ATTENTION_MASK: np.ones_like(row)}
