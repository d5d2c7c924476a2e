"""The admin API: acts on releases and reads of points, for the other commands of this machine. Loopback only."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from streaming.message_json import message_of_json
from twinline.clients.online import MOST_DEPTH, MOST_POINTS, OnlineStatus
from twinline.clients.store.audit import PointFacts
from twinline.clients.store.protocol import Query as StoreQuery
from twinline.clients.store.protocol import StoredPoint
from twinline.clients.store.vectors import DENSE, Ask, vectors_from_json
from twinline.contract.documents.ids import head_id
from twinline.contract.encoder.golden import encode_vector
from twinline.contract.errors import SettingsError
from twinline.contract.principal import Principal
from twinline.contract.sparse.fusion import Rule
from twinline.online.applying import Applier
from twinline.online.service import OnlineService
from twinline.online.status import read_status
from twinline.search import problems
from twinline.search.middleware import HeadAsGet, OwnHosts
from twinline.search.parameters import only_known_parameters
from twinline.search.query import answer_from
from twinline.search.releases import Served
from twinline.search.results import Question, SearchResult

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class TrialQuestion(Question):
    """A question to one given collection, active or not, with other search settings than its release has; None: the release's.

    Verification reads more hits than people do, and each by itself. `rule`, `depth`, `k` and `dense_percent` are fields of
    `twinline.contract.sparse.fusion.Fusion`, `ef_search` of `twinline.contract.release.index_settings.IndexSettings`.
    """

    limit: Annotated[int, Field(ge=1, le=1_000)] = 10
    group: bool = False
    rule: Rule | None = None
    depth: int | None = None
    k: int | None = None
    dense_percent: int | None = None
    ef_search: Annotated[int | None, Field(ge=1, le=10_000)] = None

    def under(self, served: Served) -> Served:
        """Return a release as it answers this question.

        Raises:
            SettingsError: a number is out of bounds.
        """
        fields: dict[str, Any] = {"rule": self.rule, "depth": self.depth, "k": self.k, "dense_percent": self.dense_percent}
        fusion = replace(served.fusion, **{name: value for name, value in fields.items() if value is not None})
        return replace(served, release=replace(served.release, fusion=fusion), ef_search=self.ef_search)


class _Body(BaseModel):
    """What is sent here; an unknown field is refused, since a mistyped one would be ignored."""

    model_config = ConfigDict(extra="forbid")


class WantedPoints(_Body):
    """Points to be read by their ids."""

    ids: list[UUID] = Field(max_length=MOST_POINTS)
    with_vectors: bool = False


class AskedVector(_Body):
    """One ask of a query: the vector's name, its values as `StoredPoint` writes them, and the length of the list."""

    using: str
    depth: int = Field(ge=1, le=MOST_DEPTH)
    vector: list[float] | dict[str, list[int]]


class AskedQuery(_Body):
    """Asks to the store, without a word of search in between."""

    asks: list[AskedVector] = Field(min_length=1, max_length=2)
    exact: bool = False
    among: list[UUID] | None = Field(default=None, max_length=MOST_DEPTH)


class PointState(_Body):
    """A point, and its version fields at the caller's read."""

    id: UUID
    version: dict[str, Any]


class UnwantedPoints(_Body):
    """Points to be removed where they are unchanged."""

    points: list[PointState] = Field(max_length=MOST_POINTS)


class Messages(_Body):
    """Messages of the log, as `streaming.message_json` writes them."""

    messages: list[dict[str, Any]] = Field(max_length=MOST_POINTS)


def build_admin(service: OnlineService, applier: Applier | None = None, *, principal: Principal) -> FastAPI:
    """Return the admin application; without an applier, it cannot apply messages of the log.

    Args:
        principal: the caller that every request counts as.
    """
    app = FastAPI(title="Twinline online process", docs_url=None, redoc_url=None, dependencies=[Depends(only_known_parameters)])
    problems.install(app)
    # A web page in a browser can reach loopback too: it would send its origin, or another host's name.
    app.add_middleware(OwnHosts)
    app.add_middleware(HeadAsGet)

    @app.middleware("http")
    async def refuse_browsers(request: Request, go_on: Any) -> Response:
        if "origin" in request.headers:
            return JSONResponse({"error": "forbidden", "detail": "not for browsers", "remedy": "Use `twinline`."}, 403)
        passed: Response = await go_on(request)
        return passed

    @app.get("/status")
    def status() -> OnlineStatus:
        """Return the served collections, the active one, the lag of each, and the faults."""
        return read_status(service)

    _add_acts(app, service)
    _add_reads(app, service, principal)
    _add_upkeep(app, service, applier)
    return app


def _add_acts(app: FastAPI, service: OnlineService) -> None:
    @app.post("/collections/{name}/serve", status_code=204)
    def serve(name: str) -> None:
        """Open a built collection, and start its consumer."""
        service.serve(name)

    @app.post("/collections/{name}/activate", status_code=204)
    def activate(name: str) -> None:
        """Answer searches from this collection from now on."""
        service.activate(name)

    @app.post("/collections/{name}/retire")
    def retire(name: str) -> dict[str, bool]:
        """Stop the collection's consumer, close it and drop it; say whether it was there."""
        return {"retired": service.retire(name)}

    @app.post("/collections/{name}/replace", status_code=204)
    def replace(name: str) -> None:
        """Replace this collection by the rebuilt one beside it."""
        service.replace(name)


def _add_reads(app: FastAPI, service: OnlineService, principal: Principal) -> None:
    @app.post("/collections/{name}/search")
    def search(name: str, trial: TrialQuestion) -> SearchResult:
        """Answer a question from one collection, for verification before a switch, or to try search settings."""
        with service.releases.using(name) as served:
            return answer_from(trial.under(served), trial, principal)

    @app.get("/collections/{name}/points")
    def points(
        name: str,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 256,
        offset: UUID | None = None,
        kind: str | None = None,
        source: str | None = None,
        key: str | None = None,
        with_vectors: bool = False,
    ) -> dict[str, Any]:
        """Return a page of points, in the order of their ids, and where the next page begins."""
        named = {"kind": kind, "source": source, "key": key}
        only = {field: value for field, value in named.items() if value is not None}
        with service.releases.using(name) as served:
            found, following = served.collection.scroll(only, limit, offset, with_vectors)
        return {"points": [point.to_json() for point in found], "next": following}

    @app.post("/collections/{name}/points")
    def points_by_id(name: str, wanted: WantedPoints) -> dict[str, Any]:
        """Return the existing points, heads too."""
        with service.releases.using(name) as served:
            found = served.collection.read_points(wanted.ids, wanted.with_vectors)
        return {"points": [point.to_json() for point in found.values()]}

    @app.post("/collections/{name}/query")
    def query(name: str, asked: AskedQuery) -> dict[str, Any]:
        """Return ids and scores of the store's own lists, for a comparison with those of search."""
        asks = tuple(Ask(each.using, vectors_from_json({"vector": each.vector})[DENSE], each.depth) for each in asked.asks)
        among = None if asked.among is None else tuple(asked.among)
        with service.releases.using(name) as served:
            lists = served.collection.query(StoreQuery(asks, exact=asked.exact, among=among, with_payload=False))
        return {"lists": [[{"id": str(point.id), "score": point.score} for point in points] for points in lists]}

    @app.get("/collections/{name}/points/{point_id}")
    def point(name: str, point_id: UUID) -> dict[str, Any]:
        """Return one point with its vector; null when there is none."""
        with service.releases.using(name) as served:
            found = served.collection.read_points([point_id], with_vectors=True).get(point_id)
        return {"point": found and found.to_json()}

    @app.get("/collections/{name}/queries/features")
    def query_features(name: str) -> dict[str, Any]:
        """Return numbers about the recent queries, never their text; null where the release has no drift reference."""
        with service.releases.using(name) as served:
            return {"features": served.recent and served.recent.features().to_json()}

    @app.get("/collections/{name}/heads")
    def head(name: str, source: str, key: str) -> dict[str, Any]:
        """Return the collection's head of one document; null when it has never seen it."""
        with service.releases.using(name) as served:
            found = served.collection.read_heads([head_id(source, key)]).get(head_id(source, key))
        return {"head": found and found.to_payload()}

    @app.get("/collections/{name}/golden")
    def golden(name: str) -> dict[str, Any]:
        """Return the collection's vectors of the golden texts: base64 of little-endian float32."""
        with service.releases.using(name) as served:
            return {"golden": {text: encode_vector(vector) for text, vector in served.collection.read_golden().items()}}


def _add_upkeep(app: FastAPI, service: OnlineService, applier: Applier | None) -> None:
    @app.get("/collections/{name}/audit")
    def audit(
        name: str,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 500,
        offset: UUID | None = None,
        source: str | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """Return a page of each point's facts for reconciliation; vectors are checked here, not sent."""
        named = {"source": source, "key": key}
        only = {field: value for field, value in named.items() if value is not None}
        with service.releases.using(name) as served:
            found, following = served.collection.scroll(only, limit, offset, with_vectors=True)
            specs = served.info.vectors
        return {"facts": [PointFacts.of(point, specs).to_json() for point in found], "next": following}

    @app.post("/collections/{name}/remove", status_code=204)
    def remove(name: str, unwanted: UnwantedPoints) -> None:
        """Remove surplus points, where they are unchanged."""
        with service.releases.using(name) as served:
            served.collection.remove_points([StoredPoint(point.id, point.version) for point in unwanted.points])

    @app.post("/collections/{name}/apply")
    def apply(name: str, wanted: Messages) -> dict[str, int]:
        """Apply messages of the log again, by the consumer's own law."""
        if applier is None:
            raise SettingsError("this process applies nothing but what its consumers read")
        return applier.apply(name, [message_of_json(message) for message in wanted.messages])
