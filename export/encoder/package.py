"""The package stage: all files for serving, in one folder with a manifest and an id from the content."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export.encoder.build import WEIGHTS_FILE
from export.encoder.formats import export_sha256, read_export
from export.encoder.parity_stage import ParityReport
from export.encoder.quality import QualityReport
from twinline.contract.canonical import JSON
from twinline.contract.encoder.encoder_record import TRAINING_FILE, check_encoder
from twinline.contract.encoder.golden import GoldenVector, write_golden
from twinline.contract.encoder.space import hash_safetensors, space_id
from twinline.contract.encoder.specification import Contract
from twinline.contract.errors import ContractError, MismatchError
from twinline.contract.release.index_settings import IndexSettings
from twinline.contract.release.manifest import DroppedFormat, Fingerprints, Format, Manifest, Serving, hash_files, release_id
from twinline.contract.sparse.fusion import Fusion
from twinline.contract.sparse.golden import GOLDEN_WORDS_FILE, read_sparse
from twinline.contract.sparse.statistics import STATISTICS_FILE

# Only these files of a training folder are packaged: no pickles, no optimiser states, no tokenizer re-saved by a trainer.
_ENCODER_FILES = ("config.json", WEIGHTS_FILE, "contract.json", "tokenizer.json", TRAINING_FILE)


@dataclass(frozen=True, slots=True)
class WordsPart:
    """The words of a release: the folder from `write_words`, and how search makes one list of two."""

    folder: Path
    fusion: Fusion


@dataclass(frozen=True, slots=True)
class ReleaseParts:
    """The parts of a release.

    Attributes:
        encoder: the encoder folder.
        exported: the export's folder.
        report: the formats that passed parity.
        golden: tokens and reference vectors of the golden texts.
        reports: files that describe the release and are not served, by their name in the release.
        quality: the formats' quality on held-out queries, and the served format; None without held-out queries.
        words: corpus statistics and fusion; None for a release that has dense vectors alone.
    """

    encoder: Path
    exported: Path
    report: ParityReport
    golden: Sequence[GoldenVector]
    reports: Mapping[str, Path]
    quality: QualityReport | None = None
    words: WordsPart | None = None


@dataclass(frozen=True, slots=True)
class ReleaseNotes:
    """Facts for the manifest beside the content."""

    base_model: str
    metrics: Mapping[str, JSON]
    lineage: Mapping[str, JSON]


def package_release(
    parts: ReleaseParts,
    notes: ReleaseNotes,
    target: Path,
    serve: Sequence[str],
    buckets: Sequence[int],
    max_batch: int,
    index: IndexSettings | None = None,
) -> Manifest:
    """Build the release folder `target`; it replaces an older one once it is complete.

    Args:
        parts: the files.
        notes: further facts for the manifest.
        target: the folder to make.
        serve: format names in order of preference; the first that passed is served.
        buckets: the padded lengths of serving.
        max_batch: the largest batch of serving.
        index: settings of the release's collection; None: the defaults.

    Raises:
        ContractError: no format in `serve` passed.
        MismatchError: the parts do not belong together.
    """
    contract, tokenizer_json = Contract.load(parts.encoder)
    _check_parts(parts, notes, contract)
    if parts.words is not None:
        # The encoder's own contract has no words: they are the index's, and change without it.
        contract = replace(contract, index=replace(contract.index, sparse=read_sparse(parts.words.folder)))
    formats, dropped = _judged(parts)
    serving = Serving(_choose(formats, dropped, serve, parts.quality).name, tuple(buckets), max_batch)
    staging = target.with_name(target.name + ".partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)

    # 1. the contract and the encoder, byte for byte
    contract.save(staging, tokenizer_json)
    (staging / "encoder").mkdir()
    for name in _ENCODER_FILES:
        if (parts.encoder / name).is_file():
            shutil.copyfile(parts.encoder / name, staging / "encoder" / name)
    # 2. the formats that passed
    for folder in sorted({Path(entry.file).parent for entry in formats}):
        shutil.copytree(parts.exported / folder, staging / folder)
    # 3. the golden vectors, the words and the reports
    write_golden(staging, parts.golden)
    if parts.words is not None:
        for name in (STATISTICS_FILE, GOLDEN_WORDS_FILE):
            shutil.copyfile(parts.words.folder / name, staging / name)
    for name, path in parts.reports.items():
        shutil.copyfile(path, staging / name)
    # 4. the manifest, last, over everything
    fusion = parts.words.fusion if parts.words else None
    manifest = _manifest(staging, contract, formats, dropped, serving, index or IndexSettings(), notes, fusion)
    manifest.save(staging)
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    return manifest


def _check_parts(parts: ReleaseParts, notes: ReleaseNotes, contract: Contract) -> None:
    """Raise MismatchError unless encoder, export, parity report and evaluation belong to one encoder."""
    space = check_encoder(parts.encoder, contract, hash_safetensors(parts.encoder / WEIGHTS_FILE))
    read_export(parts.exported, space)
    if parts.report.export_sha256 != export_sha256(parts.exported):
        raise MismatchError(f"the parity report was measured on another export than {parts.exported}: `dvc repro encoder-parity`")
    if parts.quality is not None and parts.quality.export_sha256 != parts.report.export_sha256:
        raise MismatchError(
            f"quality was measured on another export than {parts.exported}: measure this one (`dvc repro encoder-quality`)"
        )
    spaces = notes.metrics.get("spaces")
    evaluated = spaces.get("tuned") if isinstance(spaces, Mapping) else space
    if evaluated != space:
        raise MismatchError(
            f"the evaluation is of the encoder of space {evaluated}, {parts.encoder} is of space {space}: evaluate this one "
            "(`dvc repro encoder-evaluate`)"
        )


def _judged(parts: ReleaseParts) -> tuple[tuple[Format, ...], tuple[DroppedFormat, ...]]:
    """Return the packaged formats, with their figures, and the dropped ones, with the reason.

    The served format is packaged even over a budget: the gate has refused then, and the folder is evidence.
    """
    quality = parts.quality
    if quality is None:
        return parts.report.formats, parts.report.dropped
    over = {entry.name for entry in quality.dropped} - {quality.serves}
    formats = tuple(replace(e, quality=quality.figures[e.name]) for e in parts.report.formats if e.name not in over)
    return formats, (*parts.report.dropped, *quality.dropped)


def _manifest(
    folder: Path,
    contract: Contract,
    formats: tuple[Format, ...],
    dropped: tuple[DroppedFormat, ...],
    serving: Serving,
    index: IndexSettings,
    notes: ReleaseNotes,
    fusion: Fusion | None,
) -> Manifest:
    weights = hash_safetensors(folder / "encoder" / WEIGHTS_FILE)
    space = space_id(contract.vector_fingerprint, weights)
    files = hash_files(folder)
    return Manifest(
        release=release_id(space, contract.fingerprint, serving, files, index, fusion),
        space=space,
        fingerprints=Fingerprints.of(contract),
        weights_sha256=weights,
        dimension=contract.vector.dimension,
        base_model=notes.base_model,
        formats=formats,
        dropped_formats=dropped,
        serving=serving,
        files=files,
        metrics=notes.metrics,
        lineage=notes.lineage,
        index=index,
        fusion=fusion,
    )


def _choose(
    formats: Sequence[Format], dropped: Sequence[DroppedFormat], serve: Sequence[str], quality: QualityReport | None
) -> Format:
    by_name = {entry.name: entry for entry in formats}
    if quality is not None:
        return by_name[quality.serves]
    for name in serve:
        if name in by_name:
            return by_name[name]
    left_out = "".join(f"; {entry.name} was left out: {entry.reason}" for entry in dropped)
    raise ContractError(
        f"none of the formats to serve ({', '.join(serve)}) is there; these passed parity: {', '.join(by_name) or 'none'}"
        f"{left_out}: serve a format that passed, or export another"
    )
