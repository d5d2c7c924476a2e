"""The state of the last run saves work and changes nothing: random edits, and then every byte as from nothing."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl import source_state
from etl.fields import FieldNames
from etl.ingest import ingest
from etl.snapshots import Snapshot, store_snapshot
from etl.source_state import mark_of, open_source_state
from etl.sources import open_source
from etl.sources.files import Files
from etl.sources.items import Item, Made, Same
from tests.unit.etl.factories import body
from twinline.clients.erasure_list import Erasures
from twinline.clients.settings import Settings
from twinline.contract.canonical import JSON
from twinline.contract.documents.records import Document
from twinline.contract.errors import ContractError, MismatchError

FIELDS = FieldNames()


class Run:
    """Ingests of one source: each with the state of the one before, and again from nothing."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = Settings(home=home / "home")

    def warm(self, spec: str) -> Snapshot:
        source = open_source(spec, self.settings, FIELDS)
        known = open_source_state(source, self.settings, FIELDS, Erasures())
        assert known is not None
        taken = ingest(source, self.home / "warm", max_reject_share=1, state=known)
        store_snapshot(self.home / "warm", self.settings.snapshots)
        known.save(taken.id)
        return taken

    def check(self, spec: str) -> None:
        self.warm(spec)
        ingest(open_source(spec, self.settings, FIELDS), self.home / "cold", max_reject_share=1)
        assert hashes(self.home / "warm") == hashes(self.home / "cold")


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stamps of fresh files count: a test does not wait for two seconds."""
    monkeypatch.setattr(source_state, "_FRESH_NS", -(10**12))


LINE = st.one_of(
    st.builds(
        lambda key, text: json.dumps({"key": key, "text": text}), st.sampled_from("abcdefgh"), st.text("xy z\u00e9\n", max_size=4)
    ),
    st.builds(lambda text: json.dumps({"text": text}), st.sampled_from(["no key", "has none"])),
    st.builds(
        lambda key, number: json.dumps({"key": key, "text": "t", "number": number}), st.sampled_from("ij"), st.integers(0, 2)
    ),
    st.sampled_from(
        ["", "no json", '{"key": "k"}', '{"key": "v", "text": "v", "version": 3}', '\ufeff{"key": "m", "text": "mark"}']
    ),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=st.lists(st.lists(LINE, max_size=12), min_size=2, max_size=4))
def test_lines_added_changed_moved_and_removed_give_the_snapshot_that_reading_from_nothing_gives(
    tmp_path: Path, states: list[list[str]]
) -> None:
    home = tmp_path / str(time.perf_counter_ns())
    home.mkdir()
    run, corpus = Run(home), home / "corpus.jsonl"
    for lines in states:
        corpus.write_text("\n".join([*lines, '{"key": "one", "text": "is always there"}']) + "\n", encoding="utf-8")
        run.check(f"files:{corpus}")


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("seed", range(2))
def test_a_folder_of_files_of_all_kinds_that_is_edited_at_random(run: Run, seed: int) -> None:
    chance, folder = Random(seed), run.home / "folder"
    names = ["a.md", "b.txt", "c.html", "sub/d.md", "e.csv", "f.jsonl", "g.png", "h.md", "bad.txt", "t.tsv"]
    for _ in range(4):
        for name in chance.sample(names, 4):
            path = folder / name
            if chance.random() < 0.25:
                path.unlink(missing_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_content(name, chance))
        (folder / "there.txt").write_text("always there")
        run.check(f"files:{folder}")


def _content(name: str, chance: Random) -> bytes:
    word = f"word{chance.randrange(3)}"
    rows = [(str(number), f"{word} {number}") for number in range(chance.randrange(1, 5))]
    if name.endswith((".csv", ".tsv")):
        comma = "," if name.endswith(".csv") else "\t"
        return "\n".join(["key" + comma + "text", *(comma.join(row) for row in rows)]).encode()
    if name.endswith(".jsonl"):
        return "\n".join(json.dumps({"key": key, "text": text}) for key, text in rows).encode()
    if name == "bad.txt":
        return b"\xff\xfe" if chance.random() < 0.5 else b"  "
    return f"<h1>{word}</h1><p>{word} said</p>".encode() if name.endswith(".html") else f"# {word}\n\n{word} said\n".encode()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("seed", range(2))
def test_docstrings_whose_modules_change_and_copy_each_other(run: Run, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, root = Random(seed), run.home / "changing"
    root.mkdir()
    monkeypatch.syspath_prepend(str(run.home))
    monkeypatch.setattr("etl.sources.pydocs.metadata.packages_distributions", dict)  # it reads every package there is
    for _ in range(4):
        (root / "__init__.py").write_text(f'"""Always there.\n\n{body(9)}\n"""\n')
        for name in chance.sample(["a", "b", "c", "d"], 2):
            texts = [body(chance.randrange(4)) if chance.random() < 0.8 else "short" for _ in range(3)]
            code = "\n\n".join(f'def f{number}():\n    """Do it.\n\n    {text}\n    """' for number, text in enumerate(texts))
            (root / f"{name}.py").write_text(code if chance.random() < 0.85 else "def broken(:\n")
        run.check("pydocs:changing")


@pytest.mark.usefixtures("settled")
def test_a_file_that_was_not_touched_is_not_opened(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.home / "folder"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.md").write_text(f"# Number {number}\n\nIts text.")
    run.warm(f"files:{folder}")
    (folder / "3.md").write_text("# Number 3\n\nAnother text.")
    opened: list[str] = []
    whole = Files._document

    def counted(self: Files, name: str, *rest: object) -> object:
        opened.append(name)
        return whole(self, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Files, "_document", counted)
    run.warm(f"files:{folder}")
    assert opened == ["3.md"]


def test_a_file_that_was_written_a_moment_ago_is_read_again_whatever_its_stamp_says(run: Run) -> None:
    path = run.home / "folder" / "a.txt"
    path.parent.mkdir()
    path.write_text("one")
    before = path.stat()
    run.warm(f"files:{path.parent}")
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    run.check(f"files:{path.parent}")


@pytest.mark.usefixtures("settled")
def test_another_reader_setting_or_source_remembers_nothing_of_this_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = run.home / "corpus.jsonl"
    corpus.write_text('{"key": "a", "text": "by text", "body": "by body"}\n')
    run.warm(f"files:{corpus}")
    other = FieldNames(text="body")
    source = open_source(f"files:{corpus}", run.settings, other)
    known = open_source_state(source, run.settings, other, Erasures())
    assert known is not None
    assert (
        ingest(source, run.home / "other", max_reject_share=1, state=known).id
        != ingest(open_source(f"files:{corpus}", run.settings, FIELDS), run.home / "this", max_reject_share=1).id
    )


@pytest.mark.usefixtures("settled")
def test_what_was_read_without_a_library_is_read_again_once_it_is_installed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(library: str) -> str:
        if library == "python-docx":
            raise PackageNotFoundError(library)
        return "1"

    def items() -> list[Item]:
        source = open_source(spec, run.settings, FIELDS)
        known = open_source_state(source, run.settings, FIELDS, Erasures())
        assert isinstance(source, Files)
        assert known is not None
        return list(source.items_since(known))

    (run.home / "folder").mkdir()
    (run.home / "folder" / "a.txt").write_text("words")
    spec = f"files:{run.home / 'folder'}"
    with monkeypatch.context() as patched:
        patched.setattr(source_state.metadata, "version", version)
        run.warm(spec)
        assert isinstance(items()[0], Same)
    assert isinstance(items()[0], Made)


def test_a_snapshot_that_is_gone_from_the_store_is_read_again_and_a_damaged_one_is_named(run: Run) -> None:
    corpus = run.home / "corpus.jsonl"
    corpus.write_text('{"key": "a", "text": "one"}\n')
    taken = run.warm(f"files:{corpus}")
    shutil.rmtree(run.settings.snapshots / taken.id)
    run.check(f"files:{corpus}")
    (run.settings.snapshots / taken.id / "documents-00000.parquet").write_bytes(b"no parquet")
    with pytest.raises(MismatchError, match=r"documents-00000"):
        run.warm(f"files:{corpus}")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 4] ^= 0xFF
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize("damage", [_cut, _flip])
def test_damaged_marks_are_named_and_not_believed(run: Run, damage: Callable[[Path], None]) -> None:
    corpus = run.home / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"key": str(number), "text": f"number {number}"}) + "\n" for number in range(200)))
    run.warm(f"files:{corpus}")
    [path] = [path for path in run.settings.kept.glob("ingest-*.parquet") if ".files." not in path.name]
    damage(path)
    with pytest.raises(ContractError, match=r"ingest-.*damaged.*remove it"):
        run.warm(f"files:{corpus}")


class Pages:
    """A source behind an API: its list names each page with the time of the last edit, its text costs a request."""

    name, uri = "pages", "pages:"

    def __init__(self, pages: Mapping[str, tuple[str, str]], unsettled: frozenset[str] = frozenset()) -> None:
        self._pages, self._unsettled = pages, unsettled
        self.fetched: list[str] = []

    def items(self) -> Iterator[Item]:
        for page in self._pages:
            yield self._fetch(page)

    def items_since(self, state: source_state.SourceState) -> Iterator[Item]:
        for page, (edited, _) in self._pages.items():
            mark = mark_of(page.encode(), edited.encode())
            [row] = state.rows([mark])
            if row >= 0:
                yield Same(row)
            elif page in self._unsettled:
                yield self._fetch(page)
            else:
                yield Made(self._fetch(page), mark)

    def provenance(self) -> Mapping[str, JSON]:
        return {}

    def _fetch(self, page: str) -> Document:
        self.fetched.append(page)
        return Document(self.name, page, self._pages[page][1])


def _ingest_pages(run: Run, source: Pages) -> list[str]:
    state = open_source_state(source, run.settings, FIELDS, Erasures())
    assert state is not None
    taken = ingest(source, run.home / "warm", max_reject_share=1, state=state)
    store_snapshot(run.home / "warm", run.settings.snapshots)
    state.save(taken.id)
    fetched = list(source.fetched)
    ingest(Pages(source._pages), run.home / "cold", max_reject_share=1)
    assert hashes(run.home / "warm") == hashes(run.home / "cold")
    return fetched


def test_an_api_is_asked_only_for_documents_with_another_time_of_the_last_edit(run: Run) -> None:
    pages = {"a": ("10:00", "one"), "b": ("10:00", "two"), "c": ("10:00", "three")}
    assert _ingest_pages(run, Pages(pages)) == ["a", "b", "c"]
    assert _ingest_pages(run, Pages(pages)) == []
    later = {"b": ("10:05", "another two"), "c": ("10:00", "three"), "d": ("10:05", "four")}
    assert _ingest_pages(run, Pages(later)) == ["b", "d"]


def test_an_edit_too_fresh_to_have_a_time_of_its_own_is_fetched_again(run: Run) -> None:
    assert _ingest_pages(run, Pages({"a": ("10:00", "one"), "b": ("10:00", "two")}, frozenset("b"))) == ["a", "b"]
    assert _ingest_pages(run, Pages({"a": ("10:00", "one"), "b": ("10:00", "edited in the same minute")})) == ["b"]
