"""The texts that calibrate an int8 format: golden texts for extreme ranges, and chunks of the corpus for usual ones."""

from pathlib import Path

from export.encoder.build import Calibration
from export.encoder.formats import known_format
from export.encoder.params import ExportParams
from export.encoder.parity_stage import sample_texts
from twinline.contract.encoder.golden import golden_texts
from twinline.contract.encoder.preprocess import Preprocessor


def calibration_ids(documents: Path, preprocessor: Preprocessor, params: ExportParams) -> Calibration:
    """Return the token ids of the texts; none where no int8 format is wanted.

    Args:
        documents: the prepared documents.
        preprocessor: of the encoder.
        params: the wanted formats, and the number of chunks.
    """
    if not any(known_format(name).precision == "int8" for name in params.formats):
        return ()
    ids = [preprocessor.encode([golden.text], golden.role).token_ids[0] for golden in golden_texts(preprocessor)]
    return [*ids, *preprocessor.encode(sample_texts(documents, preprocessor, params.calibration_chunks), "document").token_ids]
