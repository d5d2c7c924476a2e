"""The search service over HTTP: questions, the active release, health, metrics, the page and its API documentation."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel

from twinline.contract.principal import Principal
from twinline.search import page, problems
from twinline.search.address import question_by_address
from twinline.search.admission import Admission
from twinline.search.explain import AskLog, explain
from twinline.search.explanation import EXPLANATION, ExplainRequest, Explanation
from twinline.search.index import IndexInfo, index_info
from twinline.search.metrics import SearchMetrics
from twinline.search.middleware import BodyLimit, HeadAsGet, OwnHosts, RequestLog
from twinline.search.parameters import only_known_parameters
from twinline.search.query import answer
from twinline.search.readiness import Check, encoder_answers, missing
from twinline.search.releases import Releases
from twinline.search.results import RESULT, Question, SearchResult


class ProblemBody(BaseModel):
    """The body of every error."""

    error: str
    detail: str
    remedy: str


_ERRORS: Final[dict[int | str, dict[str, object]]] = {
    400: {
        "model": ProblemBody,
        "description": "There is nothing to search for in the query, or the `Host` is another one.",
    },
    413: {"model": ProblemBody, "description": "The body is too large."},
    422: {
        "model": ProblemBody,
        "description": "A field or parameter is missing, unknown or out of its limits, or the body is not JSON.",
    },
    503: {
        "model": ProblemBody,
        "description": "No release is active, a dependency is away, or there is too much to do; see `Retry-After`.",
    },
}


def build_app(
    releases: Releases,
    *,
    principal: Principal,
    checks: Sequence[Check] = (),
    registry: CollectorRegistry | None = None,
    admission: Admission | None = None,
    hosts: Collection[str] = (),
    ask_log: AskLog | None = None,
) -> FastAPI:
    """Return the search application.

    Args:
        releases: the served releases, and the active one.
        principal: the caller that every request counts as.
        checks: further conditions of readiness, such as running consumers.
        registry: shown at /metrics; may hold metrics of other parts of the process.
        admission: how many questions are answered at once, and how many may wait.
        hosts: the names that it is asked under, beside those of loopback; see `search_hosts`.
        ask_log: tells what of a document the log holds beyond the index; None: this process does not read the log.
    """
    app = FastAPIOffline(
        redoc_url=None,
        title="Twinline search",
        summary="Questions in, documents with their lineage out.",
        version="1",
        # The page would otherwise send the schema's address to an outside validator.
        swagger_ui_parameters={"validatorUrl": None, "defaultModelsExpandDepth": 0},
    )
    metrics = SearchMetrics(registry or CollectorRegistry())
    app.add_middleware(BodyLimit)
    app.add_middleware(OwnHosts, hosts=hosts)
    app.add_middleware(RequestLog, metrics=metrics)
    app.add_middleware(HeadAsGet)
    problems.install(app)

    admitted = admission or Admission()

    def ask(question: Question) -> SearchResult:
        result = answer(releases, question, principal)
        metrics.answered(result)
        return result

    async def ask_in_turn(question: Question) -> SearchResult:
        return await admitted.run(ask, question)

    def explain_document(asked: ExplainRequest) -> Explanation:
        return explain(releases, asked.question, asked.document, principal, ask_log)

    async def explain_in_turn(asked: ExplainRequest) -> Explanation:
        return await admitted.run(explain_document, asked)

    app.include_router(_search_routes(ask_in_turn, explain_in_turn))
    app.include_router(_state_routes(releases, metrics, [encoder_answers(releases), *checks]))
    page.install(app, releases, ask, explain_document, admitted)
    return app


def _search_routes(
    ask: Callable[[Question], Awaitable[SearchResult]], explain_in_turn: Callable[[ExplainRequest], Awaitable[Explanation]]
) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(only_known_parameters)])

    @router.post("/search", response_model=SearchResult, responses=_ERRORS)
    async def search(question: Question) -> Response:
        """Answer a question with documents, each by its best chunk, from the release that is active."""
        return _as_json(await ask(question))

    @router.get("/search", response_model=SearchResult, responses=_ERRORS)
    async def search_by_address(question: Annotated[Question, Depends(question_by_address)]) -> Response:
        """Answer a question given in the address; for a browser or curl."""
        return _as_json(await ask(question))

    @router.post("/explain", response_model=Explanation, responses=_ERRORS)
    async def explain_a_document(asked: ExplainRequest) -> Response:
        """Say why a document was or was not found by a question: its state, its exact ranks, the words that it has and lacks."""
        return Response(EXPLANATION.dump_json(await explain_in_turn(asked)), media_type="application/json")

    return router


def _as_json(found: SearchResult) -> Response:
    # Serialised once, by its own type; FastAPI would validate it again first.
    return Response(RESULT.dump_json(found), media_type="application/json")


def _state_routes(releases: Releases, metrics: SearchMetrics, checks: Sequence[Check]) -> APIRouter:
    router = APIRouter(tags=["state"], dependencies=[Depends(only_known_parameters)])

    # Plain functions: FastAPI runs them in its thread pool, which searches do not use.
    @router.get("/index", responses={503: _ERRORS[503]})
    def index() -> IndexInfo:
        """Describe the searched index: release, space, contract, counts, and the encoder's training."""
        return index_info(releases)

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that this process answers."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: {"description": "Not ready; `missing` says what is missing."}})
    def readyz() -> JSONResponse:
        """Say whether a search would be answered, and name the missing conditions if not."""
        faults = missing(checks)
        return JSONResponse({"ready": not faults, "missing": faults}, 503 if faults else 200)

    @router.get("/metrics", response_class=PlainTextResponse)
    def prometheus() -> PlainTextResponse:
        """Give all counters and times in the Prometheus text format."""
        return PlainTextResponse(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
