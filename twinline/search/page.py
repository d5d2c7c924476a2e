"""The page for people: rendered here, whole without JavaScript; with it only the results are replaced."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from twinline.contract.documents.records import MAX_NAME_CHARS, Version
from twinline.contract.encoder.limits import MAX_QUERY_CHARS
from twinline.contract.errors import TransientError, TwinlineError
from twinline.search.admission import Admission
from twinline.search.explanation import ExplainRequest, Explanation, Wanted
from twinline.search.filters import MAX_WHERE_CHARS, where_of
from twinline.search.highlight import segments
from twinline.search.index import IndexInfo, index_info
from twinline.search.parameters import only_known_parameters
from twinline.search.problems import Problem, invalid_problem, problem_of, retry_after
from twinline.search.releases import Releases
from twinline.search.results import MAX_HITS, Question, SearchResult

_HERE: Final = Path(__file__).parent
_LIMITS: Final = (10, 25, 50, 100)
# As a check box sends it, and as people write it.
_GROUP: Final = {"": True, "true": True, "false": False}
_HASH: Final = re.compile("[0-9a-f]{32,}")
# Documents are foreign text. Should escaping ever fail, the browser still runs and loads nothing of it.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class _View:
    """The values for the templates."""

    query: str
    limit: int
    source: str
    tenant: str
    group: str = ""
    where: str = ""
    answer: SearchResult | None = None
    index: IndexInfo | None = None
    problem: Problem | None = None


def install(
    app: FastAPI,
    releases: Releases,
    ask: Callable[[Question], SearchResult],
    explain: Callable[[ExplainRequest], Explanation],
    admission: Admission,
) -> None:
    """Add the page at `/`, the one at `/explain`, and their files."""
    templates = _environment()

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page(
        request: Request,
        q: Annotated[str, Query()] = "",
        limit: Annotated[str, Query()] = "",
        source: Annotated[str, Query()] = "",
        tenant: Annotated[str, Query()] = "",
        group: Annotated[str, Query()] = "",
        where: Annotated[str, Query()] = "",
        x_fragment: Annotated[str | None, Header()] = None,
    ) -> HTMLResponse:
        """Show the search box and, for a query, its hits."""
        asked = (q.strip(), limit, source.strip(), tenant.strip(), group.strip(), where.strip())
        try:
            # Not a dependency: shown on the page like every other problem.
            only_known_parameters(request)
            view, status, headers = await admission.run(_look, releases, ask, *asked)
        except TransientError as error:
            # Too many wait: shown on the page like every other problem.
            status, problem = problem_of(error)
            view, headers = _View(asked[0], _LIMITS[0], *asked[2:], problem=problem), retry_after(error)
        except RequestValidationError as error:
            view, status, headers = _View(asked[0], _LIMITS[0], *asked[2:], problem=invalid_problem(error)), 422, {}
        name = "results.html" if x_fragment else "page.html"
        longest = {"max_query_chars": MAX_QUERY_CHARS, "max_where_chars": MAX_WHERE_CHARS}
        body = templates.get_template(name).render(view=view, limits=_LIMITS, **longest)
        return HTMLResponse(body, status, {**_HEADERS, **headers})

    @app.get("/explain", response_class=HTMLResponse, include_in_schema=False)
    async def explain_page(
        request: Request,
        asked: Annotated[ExplainRequest, Depends(_explain_request)],
    ) -> HTMLResponse:
        """Show why a document was or was not found by a question."""
        found: dict[str, Any] = {"explained": None, "problem": None}
        status, headers = 200, {}
        try:
            only_known_parameters(request)
            found["explained"] = await admission.run(explain, asked)
        except TwinlineError as error:
            status, found["problem"] = problem_of(error)
            headers = retry_after(error)
        except RequestValidationError as error:
            status, found["problem"] = 422, invalid_problem(error)
        body = templates.get_template("explain.html").render(asked=asked, **found)
        return HTMLResponse(body, status, {**_HEADERS, **headers})

    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")


def _explain_request(
    q: Annotated[str, Query(min_length=1, max_length=MAX_QUERY_CHARS)],
    key: Annotated[str, Query(min_length=1, max_length=MAX_NAME_CHARS)],
    document_source: Annotated[str, Query(max_length=MAX_NAME_CHARS)] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_HITS)] = _LIMITS[0],
    source: Annotated[str, Query(max_length=MAX_NAME_CHARS)] = "",
    tenant: Annotated[str, Query(max_length=MAX_NAME_CHARS)] = "",
    where: Annotated[str, Query(max_length=MAX_WHERE_CHARS)] = "",
    *,
    group: bool = True,
) -> ExplainRequest:
    """Return what an address asks: the fields of the page, and a document."""
    question = Question(q, limit, tenant or None, source or None, group=group, where=where_of([where]))
    return ExplainRequest(question, Wanted(key, document_source or None))


def _look(
    releases: Releases,
    ask: Callable[[Question], SearchResult],
    query: str,
    limit: str,
    source: str,
    tenant: str,
    group: str,
    where: str,
) -> tuple[_View, int, Mapping[str, str]]:
    # Compared as text: a number may have more digits than Python reads.
    wanted = next((known for known in _LIMITS if str(known) == limit), _LIMITS[0])
    if limit not in ("", str(wanted)):
        problem = Problem("invalid_request", f"limit: must be one of {', '.join(map(str, _LIMITS))}", "Choose one on the page.")
        return _View(query, wanted, source, tenant, group, where, problem=problem), 422, {}
    if group not in _GROUP:
        problem = Problem("invalid_request", "group: must be true or false", "Choose on the page whether copies are shown.")
        return _View(query, wanted, source, tenant, where=where, problem=problem), 422, {}
    found: dict[str, Any] = {}
    status, headers = 200, {}
    try:
        found["index"] = index_info(releases)
        if query:
            narrowed = where_of([where])
            found["answer"] = ask(Question(query, wanted, tenant or None, source or None, group=_GROUP[group], where=narrowed))
    except TwinlineError as error:
        status, found["problem"] = problem_of(error)
        headers = retry_after(error)
    return _View(query, wanted, source, tenant, group, where, **found), status, headers


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["segments"] = segments
    environment.globals["explain_address"] = _explain_address
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["version"] = _version
    environment.filters["is_hash"] = lambda value: isinstance(value, str) and _HASH.fullmatch(value) is not None
    environment.filters["moment"] = _moment
    return environment


def _explain_address(view: _View, source: str, key: str) -> str:
    """Return the address that explains a document's place in the answer on the page."""
    fields = {
        "q": view.query,
        "key": key,
        "document_source": source,
        "limit": view.limit,
        "source": view.source,
        "tenant": view.tenant,
        "where": view.where,
        "group": view.group,
    }
    return f"/explain?{urlencode({name: value for name, value in fields.items() if value != ''})}"


def _version(version: Version) -> str:
    """Return a document's version for people: its number, or when the log received it."""
    return str(version.number) if version.kind == "explicit" else f"{_moment(version.number)} (by the log)"


def _moment(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
