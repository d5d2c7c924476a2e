"""Index settings are part of a release: in its manifest and in its id."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.release.factories import make_release
from twinline.clients.params import load_params
from twinline.contract.errors import MismatchError, SettingsError
from twinline.contract.release.index_settings import IndexSettings
from twinline.contract.release.manifest import Manifest, release_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m": 0}, "index.m is 0"),
        ({"ef_search": 1.5}, "index.ef_search is 1.5"),
        ({"oversampling_percent": 50}, "from 100 to 2000"),
        ({"quantization": "int4"}, "must be one of none, int8, binary"),
        ({"keywords": ("a", "a")}, "each field once"),
        ({"filters": {"team": "keyword"}}, "index.filters has 'team'"),
        ({"filters": {"metadata.": "keyword"}}, "index.filters has 'metadata.'"),
        ({"filters": {"metadata.by[].name": "keyword"}}, "`metadata.NAME`"),
        ({"filters": {"metadata.a b": "keyword"}}, "`metadata.NAME`"),
        ({"filters": {"metadata.team": "text"}}, "keyword, integer, float, datetime, bool"),
        ({"filters": {"metadata.team": "keyword"}, "keywords": ("metadata.team",)}, "not also among index.keywords"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        IndexSettings(**change)  # type: ignore[arg-type]


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="mm"):
        IndexSettings.from_json({"mm": 16})


def test_the_json_form_brings_everything_back() -> None:
    settings = IndexSettings(
        m=24, quantization="binary", rescore=False, keywords=("metadata.team",), filters={"metadata.y": "integer"}
    )
    assert IndexSettings.from_json(settings.to_json()) == settings


def test_a_release_that_declares_no_filters_keeps_its_id_and_its_form(tmp_path: Path) -> None:
    manifest = make_release(tmp_path / "release")
    parts = (manifest.space, manifest.fingerprints.contract, manifest.serving, manifest.files)
    before = {"m": 24, "ef_construct": 100, "ef_search": 128, "quantization": "none", "rescore": True}
    before |= {"oversampling_percent": 200, "keywords": ["metadata.team"]}
    settings = IndexSettings.from_json(before)
    assert settings.to_json() == before
    assert "filters" not in IndexSettings().to_json()
    assert settings.declared == {"metadata.team": "keyword"}
    with_filters = replace(settings, filters={"metadata.year": "integer"})
    assert with_filters.declared == {"metadata.team": "keyword", "metadata.year": "integer"}
    assert release_id(*parts, with_filters) != release_id(*parts, settings)


def test_the_parameters_declare_filters_by_their_types(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("encoder: {index: {filters: {metadata.team: keyword, metadata.başlık-2: datetime}}}")
    assert load_params("encoder.index", IndexSettings, params).declared == {
        "metadata.team": "keyword",
        "metadata.başlık-2": "datetime",
    }
    for wrong in ("{metadata.team: text}", "[metadata.team]", "{metadata.team: 7}", "{team: keyword}"):
        params.write_text(f"encoder: {{index: {{filters: {wrong}}}}}")
        with pytest.raises(SettingsError, match="filters"):
            load_params("encoder.index", IndexSettings, params)


def test_other_settings_make_another_release(tmp_path: Path) -> None:
    manifest = make_release(tmp_path / "release")
    changed = IndexSettings(quantization="int8")
    parts = (manifest.space, manifest.fingerprints.contract, manifest.serving, manifest.files)
    other = replace(manifest, index=changed, release=release_id(*parts, changed))
    assert other.release != manifest.release
    other.save(tmp_path / "release")
    assert Manifest.load(tmp_path / "release").index == changed
    # and nobody changes them afterwards
    replace(other, index=IndexSettings(quantization="binary")).save(tmp_path / "release")
    with pytest.raises(MismatchError, match="it was edited"):
        Manifest.load(tmp_path / "release")


def test_a_release_from_before_there_were_any_keeps_its_id(tmp_path: Path) -> None:
    manifest = make_release(tmp_path / "release")
    path = tmp_path / "release" / "manifest.json"
    value = json.loads(path.read_text())
    del value["index"]
    path.write_text(json.dumps(value))
    assert Manifest.load(tmp_path / "release") == manifest
