"""The gate: read what the offline stages concluded about an encoder, and say yes, or no with the numbers.

The stages themselves always succeed and write their verdict down; refusing here, one step later, keeps the evidence of a
refusal in the experiment.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from twinline.contract.release.checks import Check, RefusedError
from twinline.contract.release.verdict import EVALUATION_CHECKS, FORMAT_TO_SERVE, GateCheck, Verdict
from twinline.registry.revisions import Revision

VERDICT_FILE: Final = "models/evaluation/verdict.json"
PARITY_FILE: Final = "models/parity.json"
QUALITY_FILE: Final = "models/quality.json"
REMEDY: Final = "The active release stays as it is, and the experiment keeps the evidence (`dvc exp show`)"


def read_checks(revision: Revision) -> list[Check]:
    """Return every condition that the evaluation, the parity and the quality stage wrote down for a revision.

    Raises:
        SettingsError: the revision lacks one of the three files.
        RefusedError: a file says something else than a verdict; what cannot be read is never a pass.
    """
    verdict = _read_object(revision, VERDICT_FILE)
    parity = _read_object(revision, PARITY_FILE)
    quality = _read_object(revision, QUALITY_FILE)
    try:
        return [
            *_evaluation_checks(verdict),
            *(_parity_check(entry) for entry in parity["formats"]),
            _has_exact_format(parity),
            _format_to_serve(quality),
        ]
    except (KeyError, TypeError, ValueError) as exc:
        raise RefusedError(
            f"{revision.name}: {VERDICT_FILE}, {PARITY_FILE} or {QUALITY_FILE} has another form than this gate reads ({exc!r}): "
            "train again"
        ) from exc


def _evaluation_checks(value: Mapping[str, Any]) -> list[Check]:
    found = Verdict.from_json(value).checks
    missing = [name for name in EVALUATION_CHECKS if name not in {check.name for check in found}]
    # A condition that nobody looked at is not one that holds.
    unseen = [Check(name, False, f"{VERDICT_FILE} does not say: train again") for name in missing]
    return [*(_shown(check) for check in found), *unseen]


def _format_to_serve(value: Mapping[str, Any]) -> Check:
    check = GateCheck.from_json(value["check"])
    if check.name != FORMAT_TO_SERVE:
        raise ValueError(f"{QUALITY_FILE} holds the check {check.name!r}, not {FORMAT_TO_SERVE!r}")
    return _shown(check)


def _shown(check: GateCheck) -> Check:
    return Check(check.name, check.passed, check.statement, check.numbers)


def _parity_check(entry: Mapping[str, Any]) -> Check:
    parity = entry["parity"]
    worst, limit = float(parity["worst"]), float(parity["limit"])
    # `not >` would let a NaN through
    passed = worst <= limit
    detail = f"worst cosine distance {worst:.2e} to the training framework, limit {limit:.0e}, at {parity['worst_text'][:60]!r}"
    return Check(f"parity {entry['name']}", passed, detail)


def _has_exact_format(parity: Mapping[str, Any]) -> Check:
    exact = [entry["name"] for entry in parity["formats"] if entry["precision"] == "fp32"]
    dropped = [f"{entry['name']} ({entry['reason']})" for entry in parity["dropped"]]
    detail = f"fp32: {', '.join(exact) or 'none'}; left out: {', '.join(dropped) or 'none'}"
    return Check("formats", bool(exact), detail)


def _read_object(revision: Revision, path: str) -> Mapping[str, Any]:
    try:
        value = json.loads(revision.read_text(path))
    except ValueError as exc:
        raise RefusedError(f"{revision.name}: {path} is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise RefusedError(f"{revision.name}: {path} holds {type(value).__name__}, not a JSON object")
    return value
