"""Kinds of source: each that help texts and errors spell has a reader."""

import pytest

from etl.sources import SOURCES, open_source
from twinline.clients.settings import Settings
from twinline.clients.source_spec import SOURCE_KINDS
from twinline.contract.errors import SettingsError


def test_every_kind_that_a_help_text_names_has_a_reader() -> None:
    assert SOURCES.keys() == SOURCE_KINDS.keys()
    assert all(kind.usage.startswith(f"{name}:") for name, kind in SOURCE_KINDS.items())


def test_an_unknown_kind_is_refused_with_every_known_one() -> None:
    with pytest.raises(SettingsError, match=r"(?s)'ftp:docs'.*pydocs:, files:FOLDER, beir:FOLDER, kafka:TOPIC"):
        open_source("ftp:docs", Settings())
