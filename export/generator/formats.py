"""The formats of an exported generator: a table, how each is made, and how each is run for parity."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from export.generator.parity import FormatParity, Reference, measure_parity
from export.generator.reference import Decode, Prompt
from export.generator.runtimes import decode_onnx, decode_with
from triton_models.generator.engine.engine import Engine
from triton_models.generator.engine.model import ModelSettings, PagedModel, Precision
from twinline.contract.errors import SettingsError

Backend: TypeAlias = Literal["onnxruntime", "openvino"]
_ROWS: Final = 8
_BLOCK: Final = 32


@dataclass(frozen=True, slots=True)
class GeneratorFormat:
    """One way to run a generator: file, backend and precision. `file` is relative to the export."""

    name: str
    backend: Backend
    precision: Precision
    file: str


KNOWN_FORMATS: Final[Mapping[str, GeneratorFormat]] = {
    entry.name: entry
    for entry in (
        GeneratorFormat("onnx_fp32", "onnxruntime", "fp32", "onnx/model.onnx"),
        GeneratorFormat("openvino_fp32", "openvino", "fp32", "openvino/model.xml"),
        # the same file, compiled for another precision
        GeneratorFormat("openvino_bf16", "openvino", "bf16", "openvino/model.xml"),
        # weights of 8 bits; it computes as bf16 does
        GeneratorFormat("openvino_int8", "openvino", "int8", "openvino_int8/model.xml"),
    )
}


def known_format(name: str) -> GeneratorFormat:
    """Return the entry of one format.

    Raises:
        SettingsError: the table has no such name.
    """
    if name not in KNOWN_FORMATS:
        raise SettingsError(f"format {name!r} of a generator is not known: choose from {', '.join(KNOWN_FORMATS)}")
    return KNOWN_FORMATS[name]


def export_formats(generator: Path, target: Path, names: Sequence[str]) -> list[GeneratorFormat]:
    """Write the files of the named formats of the generator in folder `generator` below `target`; return the entries.

    Raises:
        SettingsError: a name is not known.
        ContractError: a library cannot convert this generator.
    """
    # Imported here: a process that only reads the table needs neither torch nor NNCF.
    from export.generator.to_onnx import export_onnx
    from export.generator.to_openvino import export_int8, export_openvino

    entries = [known_format(name) for name in names]
    files = {entry.file for entry in entries}
    exact, small, onnx = (KNOWN_FORMATS[name].file for name in ("openvino_fp32", "openvino_int8", "onnx_fp32"))
    if exact in files or small in files:
        export_openvino(generator, target / exact)
    if small in files:
        export_int8(target / exact, target / small)
    if exact not in files and small in files:
        for path in (target / exact, (target / exact).with_suffix(".bin")):
            path.unlink()
        (target / exact).parent.rmdir()
    if onnx in files:
        export_onnx(generator, target / onnx)
    return entries


def check_formats(
    exported: Path,
    entries: Sequence[GeneratorFormat],
    prompts: Sequence[Prompt],
    reference: Reference,
    max_tokens: int,
    stop_ids: frozenset[int],
    threads: int = 0,
) -> list[FormatParity]:
    """Compare each format's greedy answers with the reference's, as it is served: several prompts at a time.

    Raises:
        ContractError: a file is missing, or is no such generator.
    """
    found = []
    longest = max(map(len, prompts), default=0) + max_tokens
    for entry in entries:
        with open_decode(exported / entry.file, entry, longest, threads) as decode:
            found.append(measure_parity(entry.name, entry.precision, prompts, reference, decode, max_tokens, stop_ids))
    return found


@contextmanager
def open_decode(file: Path, entry: GeneratorFormat, longest: int, threads: int = 0) -> Iterator[Decode]:
    """Open one format for greedy decoding; `longest` is that of prompt and answer together.

    Raises:
        ContractError: the file is missing, or is no such generator.
    """
    if entry.backend == "onnxruntime":
        yield decode_onnx(file)
        return
    blocks = _ROWS * -(-longest // _BLOCK)
    engine = Engine(PagedModel(file, longest, ModelSettings(entry.precision, blocks, threads))).start()
    try:
        yield decode_with(engine, _ROWS)
    finally:
        engine.close()
