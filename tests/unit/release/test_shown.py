"""What a person sees of a release, and what going from one to another means."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.unit.release.factories import make_release
from twinline.clients.settings import Settings
from twinline.contract.errors import SettingsError
from twinline.contract.release.checks import Check
from twinline.registry.git import git
from twinline.registry.versions import Registered
from twinline.release.journal import Journal, Promotion
from twinline.release.show.described import Described, Describer
from twinline.release.show.difference import compare
from twinline.release.show.tables import show_difference, show_release
from twinline.release.verify.record import Verification

MANIFEST: dict[str, Any] = {
    "release": "ra", "space": "space-1", "dimension": 4, "base_model": "base", "weights_sha256": "w",
    "fingerprints": {"vector": "v1", "index": "i1", "contract": "c1"},
    "formats": [
        {"name": "onnx_fp32", "precision": "fp32", "parity": {"worst": 2e-7, "limit": 1e-6}},
        {"name": "onnx_int8", "precision": "int8", "parity": {"worst": 3e-3, "limit": 1e-2},
         "quality": {"ndcg_at_10": 0.7012}, "bytes": 22_700_000, "query_ms": 3.25},
    ],
    "dropped_formats": [{"name": "openvino_int8", "reason": "loses 0.03"}],
    "serving": {"format": "onnx_int8", "max_batch_size": 8},
    "metrics": {"dev": {"tuned": {"ndcg_at_10": 0.71}, "queries": 50}},
    "lineage": {"snapshot": "s1"},
}  # fmt: skip
VERDICT = {
    "accepted": False,
    "checks": [{"name": "champion", "passed": False, "statement": "may be worse", "numbers": {"difference": {"low": -0.0312}}}],
}
A = Described(
    release="ra",
    manifest=MANIFEST,
    contract={"vector": {"max_tokens": 256}, "index": {"chunker": {"overlap_tokens": 32}}},
    verdict=VERDICT,
    params={"train": {"learning_rate": 3e-5}},
    snapshot={"id": "s1", "uri": "files:x", "counts": {"documents": 100}},
    entry=Registered(3, "abcdef0123456789", "2026-05-01 10:00:00", "release ra", ("prod",)),
    verification=Verification("ra", "2026-05-02", "ada@host", "r0", True, (Check("whole", True, "100 documents"),)),
    promotions=(Promotion("2026-05-03", "r0", "ra", "promote", "airflow release_encoder run-1"),),
    served={"active": True, "documents": 100, "lag": 0, "faults": []},
    notes=(),
)


def changed(**values: Any) -> Described:
    return replace(A, release="rb", manifest={**MANIFEST, "release": "rb", **values})


def text_of(shown: Any) -> str:
    console = Console(width=200, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def test_a_release_is_shown_with_its_evidence_and_who_promoted_it() -> None:
    shown = text_of(show_release(A))
    for said in (
        "space-1", "v3.0.0", "commit abcdef012345", "prod", "active, 100 documents, 0 offsets behind",
        "fingerprint vector", "max_tokens", "256",
        # per format: parity and limit, quality, size and time, and which one is served
        "2e-07", "ndcg_at_10 0.7012", "22.7", "3.25", "served", "dropped: loses 0.03",
        "dev.tuned.ndcg_at_10",
        # the gate's check, with its numbers
        "REFUSED", "champion", "may be worse", "difference.low -0.0312",
        "100 documents", "beside r0 as the active release", "airflow release_encoder run-1", "snapshot documents",
    ):  # fmt: skip
        assert said in shown, said


def test_an_older_verdict_and_a_format_without_figures_are_shown_too() -> None:
    older = replace(A, verdict={"accepted": True, "reasons": ["0.71 against 0.70"], "numbers": {"margin": 0.02}})
    shown = text_of(show_release(older))
    assert "0.71 against 0.70" in shown
    assert "margin" in shown
    assert "not known here" in shown


def test_the_json_form_is_json_and_says_it_all() -> None:
    value = json.loads(json.dumps(A.to_json()))
    assert value["verdict"] == VERDICT
    assert value["promotions"][0]["by"] == "airflow release_encoder run-1"
    assert value["verification"]["checks"][0]["name"] == "whole"
    assert (value["version"], value["stages"], value["data"]["snapshot"]) == ("v3.0.0", ["prod"], "s1")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (A, "nothing to switch"),
        (changed(space="space-2"), "every document is embedded again"),
        (changed(fingerprints={"vector": "v1", "index": "i2", "contract": "c2"}), "texts that did not change keep their vectors"),
        (changed(serving={"format": "onnx_fp32"}), "nothing is embedded again; its collection is served"),
        (replace(changed(serving={"format": "onnx_fp32"}), served=None), "its collection is to be built first"),
        (replace(changed(space="space-2"), served=None, notes=("nobody answers",)), "is served is not known"),
    ],
)
def test_a_difference_says_what_the_switch_means_for_the_vectors(other: Described, said: str) -> None:
    assert said in compare(A, other).meaning


def test_what_is_known_of_one_side_only_is_not_taken_for_no_difference() -> None:
    found = compare(A, replace(changed(), params=None, snapshot=None))
    assert found.unknown == ("parameters of rb", "data of rb")
    assert "parameters of rb: not known here" in text_of(show_difference(found))


def test_a_difference_lists_values_by_section_and_metrics_with_their_distance() -> None:
    other = replace(
        changed(metrics={"dev": {"tuned": {"ndcg_at_10": 0.75}, "queries": 50}}, lineage={"snapshot": "s2"}),
        params={"train": {"learning_rate": 1e-5}},
        contract={"vector": {"max_tokens": 128}, "index": {"chunker": {"overlap_tokens": 32}}},
        snapshot={"id": "s2", "uri": "files:x", "counts": {"documents": 120}},
    )
    found = compare(A, other)
    rows = {f"{section}: {row.what}": row for section, listed in found.sections.items() for row in listed}
    assert rows["contract: vector.max_tokens"].b == 128
    assert "contract: index.chunker.overlap_tokens" not in rows
    assert rows["parameters: train.learning_rate"].a == 3e-5
    assert (rows["data: rows.documents"].difference, rows["data: snapshot"].b) == (20, "s2")
    assert rows["metrics: dev.tuned.ndcg_at_10"].difference == pytest.approx(0.04)
    # a figure that stayed the same is there
    assert rows["metrics: dev.queries"].difference == 0
    shown = text_of(show_difference(found))
    assert "+0.04" in shown
    assert shown.startswith("ra -> rb: ")


@pytest.fixture
def describer(tmp_path: Path) -> Describer:
    git(tmp_path, "init", "-q", "repository")
    # a port where nobody listens: what is served is not known
    settings = Settings(home=tmp_path / "home", admin_port=1)
    manifest = make_release(settings.releases / "made")
    (settings.releases / "made").rename(settings.releases / manifest.release)
    Journal(settings.release_state).append(Promotion("2026-05-03", "", manifest.release, "promote", "ada@host"))
    Journal(settings.release_state).append(Promotion("2026-05-04", manifest.release, "r0", "promote", "ada@host"))
    return Describer(settings, tmp_path / "repository")


def test_a_fetched_release_without_registry_and_stack_is_described_as_far_as_it_is_known(
    describer: Describer, tmp_path: Path
) -> None:
    (folder,) = (tmp_path / "home" / "releases").iterdir()
    for name in (folder.name, str(folder)):
        found = describer.describe(name)
        assert found.release == folder.name
        assert (found.entry, found.verdict, found.params, found.served) == (None, None, None, None)
        assert [promotion.by for promotion in found.promotions] == ["ada@host"]
        assert "not known" in found.notes[0]
        assert "not registered" in text_of(show_release(found))
    assert json.loads(describer.manifest_text(folder.name))["release"] == folder.name


def test_a_name_that_nothing_has_is_refused(describer: Describer) -> None:
    with pytest.raises(SettingsError, match="nonsense"):
        describer.describe("nonsense")
    with pytest.raises(SettingsError, match="no release is known to be active"):
        describer.describe("active")


def test_parameters_of_before_the_encoder_had_a_section_of_its_own_are_compared_under_their_names_of_now() -> None:
    before = replace(
        A, params={"snapshot": "s1", "base_model": "b", "train": {"seed": 17, "lora": {"rank": 0}}, "prepare": {"bands": 32}}
    )
    now = {"snapshot": "s2", "encoder": {"base_model": "b", "train": {"seed": 17, "lora": {"rank": 8}}}, "prepare": {"bands": 32}}
    for a, b, difference in ((before, replace(changed(), params=now), 8), (replace(changed(), params=now), before, -8)):
        rows = {row.what: row.difference for row in compare(a, b).sections["parameters"]}
        assert rows == {"snapshot": None, "encoder.train.lora.rank": difference}
    # one that is not known has no layout
    assert compare(before, replace(changed(), params=None)).unknown == ("parameters of rb",)
