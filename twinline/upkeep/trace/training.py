"""The training part of a trace: experiment, parameters, snapshot, pairs; each computed again from its current holder."""

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from etl.snapshots import RECORD, id_of_files, read_snapshot
from etl.storage import file_hash
from twinline.contract.artefacts import ENCODER, PAIRS, PARAMS, SNAPSHOT, TRAIN_PAIRS
from twinline.contract.canonical import sha256_hex
from twinline.contract.errors import SettingsError
from twinline.contract.release.manifest import Manifest
from twinline.registry.git import resolve_commit
from twinline.registry.revisions import GitRevision, NotHereError
from twinline.registry.versions import Registered
from twinline.upkeep.trace.git import commit_subject, folder_md5, local_hashes
from twinline.upkeep.trace.reach import Reach
from twinline.upkeep.trace.steps import Section

_PACKAGE: Final = "package:"


def training_section(reach: Reach, release: str) -> Section:
    """Compare a release's training record with the commit, the snapshot and the pairs that it names."""
    section = Section("training")
    with section.looking("training", release):
        folder = reach.release_folder(release)
        manifest = Manifest.load(folder)
        lineage, record = manifest.lineage, training_record(folder)
        _add_base(section, manifest, record)
        if revision := lineage.get("git_revision"):
            with section.looking("Git revision", revision):
                section.compare("Git revision", revision, *commit_subject(reach.repository, str(revision)))
        section.record("Airflow run", lineage.get("airflow_run"))
        section.record("made at", lineage.get("created_at"))
        if not is_trained(record):
            return section
        experiment = _experiment(section, reach, manifest)
        if experiment is not None and lineage.get("params_sha256"):
            with section.looking("parameters", lineage["params_sha256"]):
                section.compare("parameters", lineage["params_sha256"], sha256_hex(experiment.tracked(PARAMS)), PARAMS)
        _add_snapshot(section, reach, lineage, experiment)
        _add_pairs(section, record, experiment)
        if experiment is not None:
            with section.looking(f"{ENCODER.release} in dvc.lock"):
                value = experiment.lock().get(ENCODER.release)
                section.compare(
                    f"{ENCODER.release} in dvc.lock", value, folder_md5(local_hashes(folder)), "the files of this release"
                )
    return section


def training_record(folder: Path) -> Mapping[str, Any]:
    """Return training's record beside the weights."""
    place = folder / "encoder" / "training.json"
    return read_json(place) if place.is_file() else {}


def read_json(place: Path) -> Mapping[str, Any]:
    """Return the JSON object in a file of a release.

    Raises:
        NotHereError: it cannot be read.
    """
    try:
        value: Mapping[str, Any] = json.loads(place.read_bytes())
    except (OSError, ValueError) as exc:
        raise NotHereError(f"{place} cannot be read ({exc}): fetch the release again") from exc
    return value


def is_trained(record: Mapping[str, Any]) -> bool:
    """Say whether any step was trained here: a packaged base model has none."""
    return bool(record.get("steps"))


def find_experiment(reach: Reach, lineage: Mapping[str, Any], entry: Registered | None) -> GitRevision:
    """Return the commit of a release: the registered one, or that of the experiment it names.

    Raises:
        NotHereError: this repository has neither.
    """
    name = lineage.get("dvc_experiment")
    if entry is not None:
        return GitRevision(reach.repository, entry.revision)
    if not name:
        raise NotHereError("the release names no experiment: it was made by `dvc repro` or by hand")
    try:
        return GitRevision(reach.repository, resolve_commit(reach.repository, str(name)))
    except SettingsError as exc:
        raise NotHereError(f"{exc}; `dvc exp pull REMOTE {name}`") from exc


def _add_base(section: Section, manifest: Manifest, record: Mapping[str, Any]) -> None:
    base, version = manifest.base_model, manifest.lineage.get("base_model_version")
    note = f"package version {version}" if version else ""
    if not version and base.startswith(_PACKAGE):
        try:
            note = f"package version not recorded; {metadata.version(base.removeprefix(_PACKAGE))} is installed here now"
        except metadata.PackageNotFoundError:
            note = "package version not recorded, and it is not installed here"
    if is_trained(record):
        section.record("base model", base, note)
        section.record("steps", record["steps"])
    else:
        section.record("not trained here", f"base model {base}", note)


def _experiment(section: Section, reach: Reach, manifest: Manifest) -> GitRevision | None:
    name = manifest.lineage.get("dvc_experiment")
    with section.looking("DVC experiment", name):
        experiment = find_experiment(reach, manifest.lineage, reach.registered(manifest.release))
        section.record("DVC experiment", name, f"commit {experiment.name}")
        return experiment
    return None


def _add_snapshot(section: Section, reach: Reach, lineage: Mapping[str, Any], experiment: GitRevision | None) -> None:
    snapshot_id = lineage.get("snapshot")
    folder = reach.settings.snapshots / str(snapshot_id)
    with section.looking("snapshot", snapshot_id):
        if not (folder / RECORD).is_file():
            where = f"--rev {experiment.name[:12]}" if experiment else "--rev REVISION"
            raise NotHereError(f"not in {reach.settings.snapshots}: `dvc get . {SNAPSHOT} {where} -o {folder}`")
        record = read_snapshot(folder)
        found = {path.name: file_hash(path) for path in sorted(folder.glob("*.parquet"))}
        section.compare("snapshot", snapshot_id, id_of_files(found), f"made of the hashes of its files, read from {record.uri}")
        # The release's record of the files comes before the folder's own.
        stated = lineage.get("snapshot_files") or record.files
        for name in sorted(stated.keys() | found.keys()):
            section.compare(f"snapshot {name}", stated.get(name, "not in it"), found.get(name, "missing"))
        if experiment is not None:
            _compare_with_lock(section, experiment, folder)


def _compare_with_lock(section: Section, experiment: GitRevision, folder: Path) -> None:
    what = f"{SNAPSHOT} in dvc.lock"
    with section.looking(what):
        value, local = experiment.lock().get(SNAPSHOT), local_hashes(folder)
        if value != folder_md5(local):
            # Two reads of the same data may differ in snapshot.json, which names the place.
            tracked = experiment.hashes(SNAPSHOT)
            if {**tracked, RECORD: ""} == {**local, RECORD: ""}:
                section.compare(what, value, folder_md5(tracked), f"but {RECORD}: the same data was read from another place")
                return
        section.compare(what, value, folder_md5(local))


def _add_pairs(section: Section, record: Mapping[str, Any], experiment: GitRevision | None) -> None:
    stated = record.get("pairs_sha256")
    what = TRAIN_PAIRS
    with section.looking(what, stated):
        if experiment is None:
            raise NotHereError("the experiment that holds them is not here")
        with experiment.open(what) as stream:
            section.compare(what, stated, hashlib.sha256(stream.read()).hexdigest(), "what the weights were trained on")
        section.compare(f"{PAIRS} in dvc.lock", experiment.lock().get(PAIRS), folder_md5(experiment.hashes(PAIRS)))
