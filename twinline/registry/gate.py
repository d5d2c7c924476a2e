"""The gate: read the verdicts of the offline stages about a model, and pass it, or refuse it with the numbers.

The stages always succeed and write their verdict down. The refusal comes one step later, here, so the experiment keeps its
evidence.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from twinline.contract.artefacts import Artifact
from twinline.contract.release.checks import Check, RefusedError
from twinline.contract.release.verdict import FORMAT_TO_SERVE, Verdict, read_stated
from twinline.registry.revisions import Revision

REMEDY: Final = "The active release stays as it is, and the experiment keeps the evidence (`dvc exp show`)"


def read_checks(revision: Revision, artifact: Artifact, required: Sequence[str]) -> list[Check]:
    """Return all checks that the evaluation, the parity and the quality stage wrote down for a revision.

    Args:
        required: the checks that the evaluation must have made; a missing one fails.

    Raises:
        SettingsError: the revision lacks one of the three files.
        RefusedError: a file is not a verdict; an unreadable verdict is never a pass.
    """
    verdict = _read_object(revision, artifact.verdict)
    parity = _read_object(revision, artifact.parity)
    quality = _read_object(revision, artifact.quality)
    try:
        return [
            *_evaluation_checks(verdict, artifact.verdict, required),
            *(_parity_check(entry) for entry in parity["formats"]),
            _has_exact_format(parity),
            _format_to_serve(quality, artifact.quality),
        ]
    except (KeyError, TypeError, ValueError) as exc:
        raise RefusedError(
            f"{revision.name}: {artifact.verdict}, {artifact.parity} or {artifact.quality} has another form than this gate reads "
            f"({exc!r}): train again"
        ) from exc


def _evaluation_checks(value: Mapping[str, Any], path: str, required: Sequence[str]) -> list[Check]:
    found = Verdict.from_json(value).checks
    missing = [name for name in required if name not in {check.name for check in found}]
    # A check that was not made has not passed.
    return [*found, *(Check(name, False, f"{path} does not say: train again") for name in missing)]


def _format_to_serve(value: Mapping[str, Any], path: str) -> Check:
    check = read_stated(value["check"])
    if check.name != FORMAT_TO_SERVE:
        raise ValueError(f"{path} holds the check {check.name!r}, not {FORMAT_TO_SERVE!r}")
    return check


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
