"""Jupyter notebooks: Markdown cells as Markdown, code as it is written, outputs left out: they are results, often pictures."""

import json
from collections.abc import Iterator

from etl.sources.formats.markdown import markdown_text
from etl.sources.formats.plain import TitleAndText, one_line, stem, text_of
from twinline.contract.errors import DocumentError


def read_ipynb(data: bytes, name: str) -> TitleAndText:
    """Return the cells of a notebook; the title is its own, or its first heading."""
    try:
        notebook = json.loads(text_of(data, name))
    except (ValueError, RecursionError) as exc:
        raise DocumentError("invalid_json", f"{name}: {str(exc)[:200]}") from exc
    if not isinstance(notebook, dict):
        raise DocumentError("corrupt_ipynb", f"{name}: a notebook is a JSON object, this is {type(notebook).__name__}")
    metadata = notebook.get("metadata")
    title = one_line(metadata.get("title")) if isinstance(metadata, dict) and isinstance(metadata.get("title"), str) else ""
    texts = []
    for kind, source in _cells(notebook):
        if kind in ("markdown", "heading"):
            heading, source = markdown_text(source, title)
            title = title or heading
        if source.strip():
            texts.append(source.strip("\n"))
    return title or stem(name), "\n\n".join(texts)


def _cells(notebook: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield kind and source of each cell. Before version 4 cells stood in worksheets."""
    worksheets = notebook.get("worksheets")
    sheets = [notebook, *(worksheets if isinstance(worksheets, list) else ())]
    for sheet in sheets:
        cells = sheet.get("cells") if isinstance(sheet, dict) else None
        for cell in cells if isinstance(cells, list) else ():
            source = cell.get("source", cell.get("input")) if isinstance(cell, dict) else None
            if isinstance(source, list):
                source = "".join(line for line in source if isinstance(line, str))
            if isinstance(source, str):
                yield str(cell.get("cell_type")), source
