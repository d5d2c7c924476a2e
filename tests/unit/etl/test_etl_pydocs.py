"""The source `pydocs`, on packages that the tests write."""

import sys
from pathlib import Path

import pytest

from etl.sources import pydocs
from etl.sources.pydocs import DEFAULT_PACKAGES, PyDocs
from tests.unit.etl.factories import body, documents, reject_reasons
from twinline.contract.errors import SettingsError

MODULE = '''"""The module's summary line.

{long}
"""

raise RuntimeError("importing this module runs it")


class Herd:
    """A herd of things.

    {long2}
    """

    def count(self):
        """Count the things.

        Too short.
        """

    @property
    def size(self):
        """Say the size.

        {long3}
        """

    @size.setter
    def size(self, value):
        """Set the size.

        {long4}
        """


def again():
    """A herd of things.

    {long2}
    """
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "fictional"
    (root / "tests").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    text = MODULE.format(long=body(1), long2=body(2), long3=body(3), long4=body(4))
    (root / "herds.py").write_text(text)
    (root / "broken.py").write_text("def f(:\n")
    (root / "tests" / "test_herds.py").write_text(f'"""A test.\n\n{body(5)}\n"""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    return root


@pytest.mark.usefixtures("package")
def test_docstrings_become_documents_by_qualified_name_without_an_import() -> None:
    source = PyDocs("", "fictional")

    found = documents(source.items())

    assert list(found) == ["fictional.herds", "fictional.herds.Herd", "fictional.herds.Herd.size"]
    assert found["fictional.herds.Herd"].title == "fictional.herds.Herd"
    assert found["fictional.herds.Herd"].text == f"A herd of things.\n\n{body(2)}"
    assert "fictional" not in sys.modules


@pytest.mark.usefixtures("package")
def test_what_is_no_document_is_counted_and_what_does_not_parse_is_a_reject() -> None:
    source = PyDocs("", "fictional")

    assert reject_reasons(source.items()) == [("fictional.broken", None, "invalid_python")]
    assert source.provenance()["counts"] == {"files": 3, "too_short": 1, "too_long": 0, "same_text": 1}


@pytest.mark.usefixtures("package")
def test_a_module_inside_a_package_can_be_named() -> None:
    assert "fictional.herds.Herd" in documents(PyDocs("", "fictional.herds").items())


@pytest.mark.parametrize("name", ["no_such_package", "json.no_such_module", "sys"])
def test_a_package_without_source_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(SettingsError, match=name.partition(".")[0]):
        list(PyDocs("", name).items())


@pytest.mark.integration
def test_the_default_packages_give_two_to_four_thousand_documents_and_their_versions() -> None:
    source = PyDocs("", "")

    found = documents(source.items())

    assert 2_000 <= len(found) <= 4_000
    assert source.provenance()["packages"].keys() == set(DEFAULT_PACKAGES)  # type: ignore[union-attr]
    assert "unknown" not in source.provenance()["packages"].values()  # type: ignore[union-attr]


def test_long_docstrings_are_left_out_of_the_default_packages_alone(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = " ".join(["word"] * (pydocs.MAX_BODY_WORDS + 1))
    (package / "herds.py").write_text(f'"""A summary.\n\n{long}\n"""\n')
    monkeypatch.setattr(pydocs, "DEFAULT_PACKAGES", ("fictional.herds",))

    by_default, by_name = PyDocs("", ""), PyDocs("", "fictional.herds")

    assert documents(by_default.items()) == {}
    assert by_default.provenance()["counts"]["too_long"] == 1  # type: ignore[index,call-overload]
    assert list(documents(by_name.items())) == ["fictional.herds"]
