"""Index settings are part of a release: in its manifest and in its id."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.release.factories import make_release
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
    ],
)
def test_a_setting_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        IndexSettings(**change)  # type: ignore[arg-type]


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="mm"):
        IndexSettings.from_json({"mm": 16})


def test_the_json_form_brings_everything_back() -> None:
    settings = IndexSettings(m=24, quantization="binary", rescore=False, keywords=("metadata.team",))
    assert IndexSettings.from_json(settings.to_json()) == settings


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
