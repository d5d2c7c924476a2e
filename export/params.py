"""The sections `export`, `parity` and `package` of params.yaml, checked when they are read."""

from dataclasses import dataclass

from contract.errors import SettingsError

DEFAULT_BUCKETS = (16, 32, 64, 96, 128, 192, 256)


@dataclass(frozen=True, slots=True)
class ExportParams:
    """Which formats to make. `length_buckets` and `max_batch_size` shape a TensorRT plan's profiles and the serving."""

    formats: tuple[str, ...] = ("onnx_fp32", "openvino_fp32")
    length_buckets: tuple[int, ...] = DEFAULT_BUCKETS
    max_batch_size: int = 64


@dataclass(frozen=True, slots=True)
class ParityParams:
    """How much to compare: golden texts always, and chunks of real documents, in mixed batches of `batch_size`."""

    sample_chunks: int = 64
    batch_size: int = 8


@dataclass(frozen=True, slots=True)
class ProfileParams:
    """How much of the training corpus the drift reference rests on: all chunks of some documents, and training queries."""

    documents: int = 300
    queries: int = 500
    seed: int = 19
    batch_size: int = 16


@dataclass(frozen=True, slots=True)
class PackageParams:
    """Which format Triton serves; the first one that is there."""

    serve: tuple[str, ...] = ("openvino_fp32", "onnx_fp32")


def served_buckets(length_buckets: tuple[int, ...], max_tokens: int) -> tuple[int, ...]:
    """Return the buckets that this token limit needs: those below it, and the limit itself.

    Raises:
        SettingsError: when a bucket is not a positive length.
    """
    if any(length < 1 for length in length_buckets):
        raise SettingsError(f"params.yaml: export.length_buckets is {list(length_buckets)}: lengths must be positive")
    return (*sorted({length for length in length_buckets if length < max_tokens}), max_tokens)
