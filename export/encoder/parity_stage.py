"""The parity stage: every exported format against the training framework, and the report of the formats that passed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.encoder.build import encoder_space, load_encoder_contract
from export.encoder.formats import export_sha256, read_export
from export.encoder.params import ParityParams
from export.encoder.parity import FormatParity, Sample, measure_parity
from export.encoder.runtimes import open_runtime
from twinline.contract.documents.records import Document
from twinline.contract.encoder.golden import GoldenVector, golden_texts
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.errors import ContractError, DocumentError
from twinline.contract.release.manifest import DroppedFormat, Format, Parity

if TYPE_CHECKING:
    from export.encoder.reference import ReferenceEncoder


@dataclass(frozen=True, slots=True)
class ParityReport:
    """The formats that passed, with their figures, and the dropped ones, of one export."""

    export_sha256: str
    formats: tuple[Format, ...]
    dropped: tuple[DroppedFormat, ...]

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


def read_report(path: Path) -> ParityReport:
    """Read a report from `ParityReport.save`.

    Raises:
        ContractError: there is none.
    """
    if not path.is_file():
        raise ContractError(f"{path} does not exist: run `python -m export parity` first")
    value = json.loads(path.read_bytes())
    return ParityReport(
        export_sha256=value.get("export_sha256", ""),
        formats=tuple(Format.from_json(entry) for entry in value["formats"]),
        dropped=tuple(DroppedFormat(**entry) for entry in value["dropped"]),
    )


def check_parity(
    encoder: Path, exported: Path, texts: Sequence[str], buckets: Sequence[int], params: ParityParams
) -> tuple[ParityReport, list[FormatParity]]:
    """Compare every exported format with torch over the golden texts and `texts`.

    Args:
        encoder: the folder that was exported.
        exported: the export's folder.
        texts: encoder texts of real chunks.
        buckets: the padded lengths of serving.
        params: the size of a mixed batch.

    Returns:
        The report, and the figures of every format, also of the failed ones.

    Raises:
        ContractError: a float32 format is over its limit: the export is wrong, not just coarse.
        MismatchError: the export was made from another encoder, or changed since.
    """
    # The framework takes seconds to import, and a reader of a report does not need it.
    from export.encoder.reference import ReferenceEncoder

    contract = load_encoder_contract(encoder)
    preprocessor = Preprocessor.load(encoder)
    # First, so that an exchanged file is refused before anything is computed.
    export = read_export(exported, encoder_space(encoder, contract))
    sample = _sample(preprocessor, ReferenceEncoder.load(encoder, contract.vector.pooling), texts)
    passed: list[Format] = []
    dropped = list(export.dropped)
    figures: list[FormatParity] = []
    for entry in export.formats:
        figure = measure_parity(
            entry.name,
            entry.precision,
            sample,
            open_runtime(exported, entry),
            buckets,
            preprocessor.pad_id,
            params.batch_size,
        )
        figures.append(figure)
        if figure.passed:
            parity = Parity(figure.worst, figure.median, figure.worst_text, figure.limit)
            passed.append(Format(entry.name, entry.backend, entry.precision, entry.file, parity))
        elif entry.precision == "fp32":
            raise ContractError(f"parity stage: {figure.summary()}; export this encoder again, in evaluation mode")
        else:
            dropped.append(DroppedFormat(entry.name, figure.summary()))
    return ParityReport(export_sha256(exported), tuple(passed), tuple(dropped)), figures


def golden_vectors(encoder: Path) -> list[GoldenVector]:
    """Return tokens and reference vectors of the golden texts, the reference for every later hop."""
    from export.encoder.reference import ReferenceEncoder

    contract = load_encoder_contract(encoder)
    preprocessor = Preprocessor.load(encoder)
    reference = ReferenceEncoder.load(encoder, contract.vector.pooling)
    entries = []
    for golden in golden_texts(preprocessor):
        encoded = preprocessor.encode([golden.text], golden.role)
        entries.append(
            GoldenVector(
                name=golden.name,
                role=golden.role,
                text=golden.text,
                token_ids=tuple(encoded.token_ids[0]),
                truncated=bool(encoded.truncated[0]),
                vector=reference.vectors(encoded.token_ids)[0],
            )
        )
    return entries


def sample_texts(documents: Path, preprocessor: Preprocessor, count: int) -> list[str]:
    """Return the encoder texts of `count` chunks, spread evenly over the rows of a Parquet file of documents."""
    import pyarrow.parquet as pq

    if count == 0:
        return []
    table = pq.read_table(documents, columns=["source", "key", "title", "text"])
    step = max(1, table.num_rows // count)
    rows = table.take(list(range(0, table.num_rows, step))).to_pylist()
    texts: list[str] = []
    for document in (Document(row["source"], row["key"], row["text"], title=row["title"] or "") for row in rows):
        texts.extend(_encoder_texts(preprocessor, document))
        if len(texts) >= count:
            break
    return texts[:count]


def _encoder_texts(preprocessor: Preprocessor, document: Document) -> Iterator[str]:
    try:
        yield from (chunk.encoder_text for chunk in preprocessor.chunks(document))
    except DocumentError:
        # Only a sample: `prepare` counts documents without text.
        return


def _sample(preprocessor: Preprocessor, reference: ReferenceEncoder, texts: Sequence[str]) -> Sample:
    token_ids: list[list[int]] = []
    golden_entries = golden_texts(preprocessor)
    for golden in golden_entries:
        token_ids.extend(preprocessor.encode([golden.text], golden.role).token_ids)
    if texts:
        token_ids.extend(preprocessor.encode(list(texts), "document").token_ids)
    vectors = reference.vectors(token_ids)
    if not np.isfinite(vectors).all():
        raise ContractError("the reference itself gives NaN or infinity: the weights are broken; train again")
    return Sample([*(golden.text for golden in golden_entries), *texts], token_ids, vectors)
