"""The release's part of a trace: contract, weights, files, registry; computed again from the release folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinline.contract.canonical import sha256_hex
from twinline.contract.encoder.space import hash_safetensors, space_id
from twinline.contract.encoder.specification import CONTRACT_FILE, TOKENIZER_FILE, Contract
from twinline.contract.release.index_settings import IndexSettings
from twinline.contract.release.manifest import MANIFEST_FILE, Fingerprints, Serving, hash_files, release_id
from twinline.contract.sparse.fusion import Fusion
from twinline.upkeep.trace.reach import Reach
from twinline.upkeep.trace.steps import Section
from twinline.upkeep.trace.training import read_json


def contract_section(reach: Reach, release: str, stated: str | None) -> Section:
    """Compare the three fingerprints and the tokenizer's hash with the files of the release.

    Args:
        stated: the contract's fingerprint in the point.
    """
    section = Section("contract")
    with section.looking("contract", stated):
        folder = reach.release_folder(release)
        manifest = read_json(folder / MANIFEST_FILE)
        prints = manifest["fingerprints"]
        contract = Contract.from_json(json.loads((folder / CONTRACT_FILE).read_bytes()), str(folder / CONTRACT_FILE))
        found = Fingerprints.of(contract)
        if stated is not None:
            section.compare("the point's", stated, found.contract)
        section.compare("vector part", prints["vector"], found.vector)
        section.compare("index part", prints["index"], found.index)
        section.compare("contract", prints["contract"], found.contract)
        section.compare("tokenizer", contract.vector.tokenizer_sha256, sha256_hex((folder / TOKENIZER_FILE).read_bytes()))
    return section


def release_section(reach: Reach, release: str, stated_space: str | None) -> Section:
    """Compare id, space, weights and every file of a release with its manifest, and name its version in the registry."""
    section = Section("release")
    with section.looking("release", release):
        folder = reach.release_folder(release)
        manifest = read_json(folder / MANIFEST_FILE)
        serving = Serving(**{**manifest["serving"], "length_buckets": tuple(manifest["serving"]["length_buckets"])})
        # Not by Manifest.load, which refuses the faults that a trace has to show.
        index = IndexSettings.from_json(manifest.get("index", {}))
        fusion = Fusion.from_json(manifest["fusion"]) if manifest.get("fusion") else None
        contract = manifest["fingerprints"]["contract"]
        section.compare("id", release, release_id(manifest["space"], contract, serving, manifest["files"], index, fusion))
        weights = hash_safetensors(folder / "encoder" / "model.safetensors")
        section.compare("weights", manifest["weights_sha256"], weights, "of the sorted tensors")
        space = space_id(manifest["fingerprints"]["vector"], weights)
        section.compare("space", manifest["space"], space, "of weights and vector part")
        if stated_space is not None:
            section.compare("the point's space", stated_space, space)
        _compare_files(section, folder, manifest)
    with section.looking("version"):
        entry = reach.registered(release)
        if entry is None:
            section.absent("version", None, "not registered: brought by its folder, or `twinline release register EXPERIMENT`")
        else:
            stages = ", ".join(entry.stages) or "in no stage"
            section.record("version", entry.version, f"{stages}, registered {entry.created_at[:19]}")
    return section


def _compare_files(section: Section, folder: Path, manifest: Mapping[str, Any]) -> None:
    found = hash_files(folder)
    served = next(entry for entry in manifest["formats"] if entry["name"] == manifest["serving"]["format"])
    parity = served["parity"]
    section.record(
        "served format",
        served["name"],
        f"worst cosine distance to the training framework {parity['worst']:.1e}, limit {parity['limit']:.0e}",
    )
    beside = str(Path(served["file"]).parent)
    for name in sorted(manifest["files"]):
        if str(Path(name).parent) == beside:
            section.compare(name, manifest["files"][name], found.get(name, "missing"))
    changed = sorted(name for name in found.keys() | manifest["files"].keys() if found.get(name) != manifest["files"].get(name))
    section.compare("all files", f"{len(manifest['files'])} as packaged", changed if changed else f"{len(found)} as packaged")
