"""Docstrings of installed packages: real text that every machine already has, read without importing anything.

A document is one docstring with a summary line and a body of at least `MIN_BODY_WORDS` words. In the default packages the body
has at most `MAX_BODY_WORDS`, so that a laptop indexes them in a minute; named packages are read whole. Key and title are the
qualified name, the text is the whole docstring.
"""

import ast
import importlib.util
import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from etl.source_state import Note, SourceState, mark_of
from etl.sources.items import Item, Made, Reject, Same, excerpt, guarded
from etl.sources.places import Origins, stamp_of
from twinline.contract.canonical import JSON, sha256_hex
from twinline.contract.documents.records import Document, Origin
from twinline.contract.errors import SettingsError

MIN_BODY_WORDS = 30
MAX_BODY_WORDS = 170

# About 2,150 docstrings that parse in a few seconds. All are requirements of this package, or Python itself.
DEFAULT_PACKAGES = (
    *("torch.nn", "torch.optim", "torch.distributions", "torch.utils", "torch.autograd"),
    *("numpy.lib", "numpy.ma", "numpy._core", "numpy.linalg", "numpy.polynomial"),
    *("airflow.sdk", "kafka", "tqdm", "typer"),
    *("asyncio", "collections", "concurrent", "difflib", "email", "http", "json", "logging", "multiprocessing"),
    *("pathlib", "statistics", "subprocess", "unittest", "urllib", "zipfile"),
)

_LEFT_OUT = frozenset({"test", "tests", "testing", "_vendor"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class PyDocs:
    """The source `pydocs:` or `pydocs:torch.nn,numpy`."""

    def __init__(self, name: str, location: str) -> None:
        self.name = name or "pydocs"
        self.uri = f"pydocs:{location}"
        self._packages = _packages(location)
        self._max_body_words = sys.maxsize if location else MAX_BODY_WORDS
        self._origins = Origins()
        self._counts = {"files": 0, "too_short": 0, "too_long": 0, "same_text": 0}

    def items(self) -> Iterator[Item]:
        """Yield a document per distinct docstring, by package, file and line."""
        return (item.document if isinstance(item, Made) else item for item in self._items(None))

    def items_since(self, state: SourceState) -> Iterator[Item]:
        """Yield the same items; an unchanged document is only named, as `Same`, and an untouched module is not opened."""
        return self._items(state)

    def _items(self, state: SourceState | None) -> Iterator[Item]:
        seen: set[bytes] = set()
        for package in self._packages:
            for path, module in _modules(package):
                self._counts["files"] += 1
                yield from guarded(module, self._module(path, module, seen, state))

    def _module(self, path: Path, module: str, seen: set[bytes], state: SourceState | None) -> Iterator[Item]:
        known = self._known(path, module, seen, state) if state else None
        yield from self._docstrings(path, module, seen, state) if known is None else known

    def provenance(self) -> Mapping[str, JSON]:
        """Return the version of every package read, its files, and counts of docstrings that were no documents."""
        distributions = metadata.packages_distributions()
        versions: dict[str, JSON] = {package: _version(package, distributions) for package in self._packages}
        files = {"files": dict(self._origins.hashes), "uris": dict(self._origins.uris)}
        return {"packages": versions, "counts": dict(self._counts), **files}

    def _known(self, path: Path, module: str, seen: set[bytes], state: SourceState) -> list[Same] | None:
        """Return the documents of an untouched module, if the last ingest made all of them."""
        place = _place(path, module)
        note = state.note_of(place, stamp_of(path))
        if note is None:
            return None
        found = _Found.of(note)
        new = {text: (name, line) for name, line, text in found.documents if bytes.fromhex(text) not in seen}
        rows = state.rows([_mark(module, note.sha256, name) for name, _ in new.values()])
        if -1 in rows:
            return None  # one was a duplicate of a text that has gone since
        state.note(place, note)
        seen.update(map(bytes.fromhex, new))
        self._count(found, len(found.documents) - len(new))
        if new:
            self._origins.note(place, f"file://{path.resolve()}", note.sha256)
        return [Same(row, line) for row, (_, line) in zip(rows, new.values(), strict=True)]

    def _count(self, found: "_Found", same: int) -> None:
        self._counts["too_short"] += found.too_short
        self._counts["too_long"] += found.too_long
        self._counts["same_text"] += same

    def _docstrings(self, path: Path, module: str, seen: set[bytes], state: SourceState | None) -> Iterator[Item]:
        stamp = stamp_of(path)
        source = path.read_bytes()
        place, sha256 = _place(path, module), sha256_hex(source)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in other people's code
                tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError) as exc:
            yield Reject(module, "invalid_python", str(exc), raw=excerpt(source))
            return
        found = _Found()
        same = 0
        for qualified_name, node in _walk(tree, module):
            text = ast.get_docstring(node)
            if text is None:
                continue
            summary, _, body = text.partition("\n")
            if not summary.strip() or len(body.split()) < MIN_BODY_WORDS:
                found.too_short += 1
                continue
            if len(body.split()) > self._max_body_words:
                found.too_long += 1
                continue
            line, digest = getattr(node, "lineno", 1), mark_of(text.encode(errors="surrogatepass"))
            found.documents.append((qualified_name, line, digest.hex()))
            if digest in seen:  # copied by inheritance: one text is one document, under its first name
                same += 1
                continue
            seen.add(digest)
            if place not in self._origins.uris:
                self._origins.note(place, f"file://{path.resolve()}", sha256)
            document = Document(
                self.name,
                qualified_name,
                text,
                title=qualified_name,
                metadata={"package": module.partition(".")[0], "module": module, "line": line},
                origin=Origin(place, line),
            )
            yield Made(self._origins.complete(document), _mark(module, sha256, qualified_name))
        self._count(found, same)
        if state is not None:
            state.note(place, Note(stamp, sha256, json.dumps(asdict(found))))


@dataclass(slots=True)
class _Found:
    """The docstrings of one module: documents by name, line and the mark of their text, and counts of the others."""

    too_short: int = 0
    too_long: int = 0
    documents: list[tuple[str, int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, note: Note) -> "_Found":
        return cls(**json.loads(note.found))


def covered_places(location: str) -> list[str]:
    """Return the folders and files that `pydocs:LOCATION` covers, as its documents' places begin."""
    return [f"{package.replace('.', '/')}{ending}" for package in _packages(location) for ending in ("", ".py")]


def _packages(location: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in location.split(",") if part.strip()) or DEFAULT_PACKAGES


def _place(path: Path, module: str) -> str:
    # Relative to the folder of installed packages, which differs by machine: as many parts as the name has.
    return "/".join(path.parts[-(module.count(".") + 1 + (path.name == "__init__.py")) :])


def _mark(module: str, sha256: str, name: str) -> bytes:
    return mark_of(module.encode(), sha256.encode(), name.encode())


def _modules(package: str) -> list[tuple[Path, str]]:
    """Return the Python files of a package or module, with their dotted names, in order."""
    top, _, rest = package.partition(".")
    # find_spec of a dotted name would import the parents.
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        raise SettingsError(f"pydocs: no package {top!r} is installed with its source: name another one")
    origin = Path(spec.origin)
    root = origin.parent if origin.name == "__init__.py" else origin
    if rest:
        folder = root.joinpath(*rest.split("."))
        root = folder if folder.is_dir() else folder.with_suffix(".py")
    if root.is_file():
        return [(root, package)]
    if not root.is_dir():
        raise SettingsError(f"pydocs: {package!r} has no source at {root}: name another module")
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if not _LEFT_OUT.intersection(parts):
            found.append((path, ".".join((package, *(part for part in parts if part != "__init__")))))
    return found


def _walk(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, ast.Module | ast.ClassDef | _Function]]:
    """Yield a module or class and its definitions; a definition inside a function has no name of its own."""
    yield prefix, node
    seen: set[str] = set()
    for child in node.body:
        if not isinstance(child, ast.ClassDef | _Function) or child.name in seen:
            continue  # an overload or a setter repeats a name: the first definition has it
        if ast.get_docstring(child, clean=False):
            seen.add(child.name)
        name = f"{prefix}.{child.name}"
        if isinstance(child, ast.ClassDef):
            yield from _walk(child, name)
        else:
            yield name, child


def _version(package: str, distributions: Mapping[str, list[str]]) -> str:
    top = package.partition(".")[0]
    if top in sys.stdlib_module_names:
        return "Python " + sys.version.partition(" ")[0]
    # A distribution may have another name than its package: apache-airflow-task-sdk brings airflow.sdk.
    names = distributions.get(top, [])
    return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(set(names))) or "unknown"
