"""The sections `export`, `parity`, `quality` and `package` of params.yaml, checked when they are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, get_args

from export.encoder.formats import KNOWN_FORMATS
from twinline.contract.encoder.runtime import Precision
from twinline.contract.errors import SettingsError

# Every text is padded to a bucket; in larger steps a sixth of all computed tokens was padding. Each bucket costs a warm-up when
# the model is loaded, and a TensorRT plan one more profile.
DEFAULT_BUCKETS = (*range(16, 257, 16), *range(288, 513, 32), 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class ExportParams:
    """The wanted formats. `length_buckets` and `max_batch_size` shape a TensorRT plan's profiles and the serving.

    `calibration_chunks`: number of chunks of the corpus, beside the golden texts, in the calibration of an int8 format.
    """

    formats: tuple[str, ...] = ("onnx_fp32", "openvino_fp32")
    length_buckets: tuple[int, ...] = DEFAULT_BUCKETS
    max_batch_size: int = 64
    calibration_chunks: int = 200


@dataclass(frozen=True, slots=True)
class ParityParams:
    """The size of the comparison: golden texts always, and chunks of real documents, in mixed batches of `batch_size`."""

    sample_chunks: int = 64
    batch_size: int = 8


@dataclass(frozen=True, slots=True)
class ProfileParams:
    """The sample of the training corpus behind the drift reference: all chunks of some documents, and training queries."""

    documents: int = 300
    queries: int = 500
    seed: int = 19
    batch_size: int = 16


PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)


@dataclass(frozen=True, slots=True)
class QualityParams:
    """The budgets of a format, and the sizes of the measurement. 0: no limit, and the evaluation's whole sample.

    `max_ndcg_lost` holds, by precision, the limit for the upper end of the interval of the loss against fp32.
    """

    max_queries: int = 0
    max_documents: int = 0
    batch_size: int = 16
    bootstrap_samples: int = 10_000
    max_ndcg_lost: Mapping[str, float] = field(default_factory=lambda: {"fp32": 0.001, "bf16": 0.01, "fp16": 0.01, "int8": 0.02})
    max_bytes: int = 0
    max_query_ms: float = 0.0

    def __post_init__(self) -> None:
        if set(self.max_ndcg_lost) != set(PRECISIONS):
            raise SettingsError(
                f"params.yaml encoder.quality.max_ndcg_lost has {sorted(self.max_ndcg_lost)}, needs {', '.join(PRECISIONS)}"
            )


# Stands in `encoder.package.serve` for the quickest format left, as measured.
FASTEST: Final = "fastest"


@dataclass(frozen=True, slots=True)
class PackageParams:
    """The formats that Triton may serve: the first one left is served. `fastest` stands for the quickest, as measured."""

    serve: tuple[str, ...] = (FASTEST,)

    def __post_init__(self) -> None:
        if not self.serve:
            raise SettingsError(f"params.yaml encoder.package.serve is empty: name formats in order of preference, or {FASTEST}")
        for name in self.serve:
            if name != FASTEST and name not in KNOWN_FORMATS:
                raise SettingsError(
                    f"params.yaml encoder.package.serve has {name!r}: choose from {', '.join(KNOWN_FORMATS)}, {FASTEST}"
                )


def served_buckets(length_buckets: tuple[int, ...], max_tokens: int) -> tuple[int, ...]:
    """Return the buckets for this token limit: all below it, and the limit itself.

    Raises:
        SettingsError: a bucket is not a positive length.
    """
    if any(length < 1 for length in length_buckets):
        raise SettingsError(f"params.yaml: encoder.export.length_buckets is {list(length_buckets)}: lengths must be positive")
    return (*sorted({length for length in length_buckets if length < max_tokens}), max_tokens)
