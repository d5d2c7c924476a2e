"""int8 for OpenVINO: post-training quantisation by NNCF, calibrated on texts as they will be served.

Quantised throughout, an encoder is too far off on unusual texts: NNCF finds the operations that hurt most and leaves them in
float32, until the worst text of the calibration is near enough.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino
from numpy.typing import NDArray

from contract.golden import PARITY_LIMITS
from contract.pooling import cosine_distance
from contract.tensors import ATTENTION_MASK, INPUT_IDS, SENTENCE_EMBEDDING

# Of the parity limit: texts that were not calibrated on are a little further off than those that were.
_AIM: Final = 0.7 * PARITY_LIMITS["int8"]
# Each operation is tried out on so many texts, the first of the calibration: all golden ones, and some of the corpus.
_TRIED: Final = 80


def export_int8(onnx_file: Path, target: Path, calibration: Sequence[Sequence[int]]) -> None:
    """Quantise the float32 graph to `target` (.xml, with the weights in a .bin beside it).

    Args:
        onnx_file: the float32 graph.
        target: the intermediate representation to write.
        calibration: token ids of texts, golden ones first; each runs alone, so that no range is learnt from padding.
    """
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedAccuracyRestorerParameters as RestorerParameters
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    exact = openvino.convert_model(onnx_file)
    inputs = [_inputs(ids) for ids in calibration]
    tried = inputs[:_TRIED]
    exact_vectors = _vectors(openvino.compile_model(exact, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}), tried)
    reference = {item[INPUT_IDS].tobytes(): vector for item, vector in zip(tried, exact_vectors, strict=True)}

    def nearness(compiled: Any, items: Iterable[dict[str, NDArray[np.int64]]]) -> tuple[float, list[float]]:
        # NNCF asks for some of the texts at a time, in an order of its own; without a value a text it would ask for each alone.
        rows = list(items)
        distances = cosine_distance(_vectors(compiled, rows), np.stack([reference[row[INPUT_IDS].tobytes()] for row in rows]))
        near = 1.0 - np.nan_to_num(distances, nan=1.0)
        return float(near.min()), [float(value) for value in near]

    quantized = nncf.quantize_with_accuracy_control(
        exact,
        calibration_dataset=nncf.Dataset(inputs),
        validation_dataset=nncf.Dataset(tried),
        validation_fn=nearness,
        max_drop=_AIM,
        drop_type=nncf.DropType.ABSOLUTE,
        # Softmax, normalisation and residuals stay in float32.
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(inputs),
        # A CPU without VNNI adds products of 8 bits in 16 and cuts what does not fit: without this its vectors are others.
        advanced_quantization_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
        advanced_accuracy_restorer_parameters=RestorerParameters(ranking_subset_size=len(tried)),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(quantized, target, compress_to_fp16=False)


def _vectors(compiled: Any, items: Iterable[dict[str, NDArray[np.int64]]]) -> NDArray[np.float32]:
    request = compiled.create_infer_request()
    return np.concatenate([np.array(request.infer(item)[SENTENCE_EMBEDDING], dtype=np.float32) for item in items])


def _inputs(ids: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    row = np.array([list(ids)], dtype=np.int64)
    return {INPUT_IDS: row, ATTENTION_MASK: np.ones_like(row)}
