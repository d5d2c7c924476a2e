"""The online process's admin API, from the other commands of the same machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx
import numpy as np
from numpy.typing import NDArray

from twinline.clients.store.audit import PointFacts
from twinline.clients.store.protocol import Head, Query, StoredPoint, version_part
from twinline.clients.store.vectors import DENSE, vectors_to_json
from twinline.contract.encoder.golden import decode_vector
from twinline.contract.errors import ContractError, MismatchError, SettingsError, TransientError, TwinlineError
from twinline.contract.monitor.drift import Features

# Enough to open a large collection, or for a consumer to finish its batch.
_ACT_SECONDS: Final = 90.0
_READ_SECONDS: Final = 30.0
# The limit of one request for points by id: searches wait while they are read.
MOST_POINTS: Final = 500
# Of one list of a query, ids and scores alone.
MOST_DEPTH: Final = 4_096


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """One served collection. An unknown number is None, and `faults` say why.

    Args:
        lag: offsets of the log not yet handled, up to the last stable one, as the broker says.
        faults: why documents are not indexed, or cannot be counted.
        notes: what holds the consumer up without a fault of its own, such as an open transaction.
        idle_seconds: since a batch was last handled, or nothing was found to handle.
        alarms: what stops nothing: what the topic's configuration will lose, steps back of the broker's clock.
    """

    name: str
    release: str
    space: str
    contract: str
    active: bool
    consumer_running: bool
    documents: int | None
    chunks: int | None
    lag: int | None
    faults: list[str]
    notes: list[str] = field(default_factory=list)
    idle_seconds: float | None = None
    alarms: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OnlineStatus:
    """The served collections, the active one, and the reasons why others are not served."""

    active: str | None
    collections: list[CollectionStatus]
    refused: dict[str, str]
    # Collections with an unfinished build.
    begun: tuple[str, ...] = ()

    def collection(self, name: str) -> CollectionStatus | None:
        """Return one served collection, or None."""
        return next((listed for listed in self.collections if listed.name == name), None)


class AdminClient:
    """Acts on releases, and reads stored points.

    Every method raises TransientError when the online process is away or busy, ContractError when it refuses.
    """

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url
        self._client = httpx.Client(
            base_url=url,
            timeout=_READ_SECONDS,
            # A proxy must not stand between us and loopback.
            trust_env=False,
            # Calls are rare and loopback is near: an idle connection saves nothing.
            limits=httpx.Limits(max_keepalive_connections=0),
            transport=transport,
        )

    def status(self) -> OnlineStatus:
        """Return the served collections, the active one and the lag of each."""
        value = self._send("GET", "/status")
        collections = [CollectionStatus(**listed) for listed in value["collections"]]
        return OnlineStatus(value["active"], collections, value["refused"], tuple(value["begun"]))

    def serve(self, name: str) -> None:
        """Open a built collection and start its consumer; no effect when both are so already."""
        self._send("POST", f"/collections/{name}/serve", timeout=_ACT_SECONDS)

    def activate(self, name: str) -> None:
        """Answer searches from a served collection from now on."""
        self._send("POST", f"/collections/{name}/activate", timeout=_ACT_SECONDS)

    def retire(self, name: str) -> bool:
        """Stop a collection's consumer, close it and drop it, finished or not; return whether it was there."""
        answer = self._send("POST", f"/collections/{name}/retire", timeout=_ACT_SECONDS)
        return bool(answer["retired"])

    def replace(self, name: str) -> None:
        """Replace a served collection by the rebuilt one of the same release beside it."""
        self._send("POST", f"/collections/{name}/replace", timeout=_ACT_SECONDS)

    def search(self, name: str, query: str, limit: int = 10, exact: bool = False, mode: str = "hybrid") -> Mapping[str, Any]:
        """Ask one collection, active or not; return the search API's result."""
        return self.trial(name, {"query": query, "limit": limit, "exact": exact, "mode": mode})

    def trial(self, name: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask one collection with other settings than its release has; return the search API's result.

        Args:
            fields: of `twinline.online.admin.TrialQuestion`.
        """
        found: dict[str, Any] = self._send("POST", f"/collections/{name}/search", json=fields)
        return found

    def query(self, name: str, query: Query) -> list[list[StoredPoint]]:
        """Return a list of chunk points for each ask, ids and scores alone, straight from the store: see `Collection.query`."""
        asks = [{"using": ask.using, "depth": ask.depth, **vectors_to_json({DENSE: ask.vector})} for ask in query.asks]
        among = None if query.among is None else [str(id_) for id_ in query.among]
        lists = self._send("POST", f"/collections/{name}/query", json={"asks": asks, "exact": query.exact, "among": among})
        return [[StoredPoint(UUID(point["id"]), {}, score=point["score"]) for point in points] for points in lists["lists"]]

    def points(
        self,
        name: str,
        *,
        source: str | None = None,
        key: str | None = None,
        kind: str | None = None,
        limit: int = 256,
        offset: UUID | None = None,
        with_vectors: bool = False,
    ) -> tuple[list[StoredPoint], UUID | None]:
        """Return a page of points, in the order of their ids, and the offset of the next page, None after the last."""
        fields = {"source": source, "key": key, "kind": kind, "offset": offset and str(offset)}
        params = {field: value for field, value in fields.items() if value is not None}
        value = self._send("GET", f"/collections/{name}/points", params={**params, "limit": limit, "with_vectors": with_vectors})
        following = value["next"]
        return [StoredPoint.from_json(point) for point in value["points"]], UUID(following) if following else None

    def point(self, name: str, point_id: UUID) -> StoredPoint | None:
        """Return one point with its vector, or None."""
        value = self._send("GET", f"/collections/{name}/points/{point_id}")["point"]
        return StoredPoint.from_json(value) if value else None

    def read_points(self, name: str, ids: Sequence[UUID], with_vectors: bool = False) -> dict[UUID, StoredPoint]:
        """Return the points of these ids that exist, heads too, by their id."""
        found: dict[UUID, StoredPoint] = {}
        for start in range(0, len(ids), MOST_POINTS):
            wanted = [str(id_) for id_ in ids[start : start + MOST_POINTS]]
            body = {"ids": wanted, "with_vectors": with_vectors}
            points = self._send("POST", f"/collections/{name}/points", json=body)["points"]
            found |= {point.id: point for point in map(StoredPoint.from_json, points)}
        return found

    def head(self, name: str, source: str, key: str) -> Head | None:
        """Return a collection's head of one document, or None when it has never seen it."""
        value = self._send("GET", f"/collections/{name}/heads", params={"source": source, "key": key})["head"]
        return Head.from_payload(value) if value else None

    def golden(self, name: str) -> dict[str, NDArray[np.float32]]:
        """Return the vectors `(dim,)` of golden texts that a served collection holds, by the text's name."""
        value = self._send("GET", f"/collections/{name}/golden")["golden"]
        return {text: decode_vector(vector) for text, vector in value.items()}

    def query_features(self, name: str) -> Features | None:
        """Return the features of a collection's recent queries; None when its release has no drift reference."""
        value = self._send("GET", f"/collections/{name}/queries/features")["features"]
        return Features.from_json(value) if value else None

    def audit(self, name: str, limit: int, offset: UUID | None, where: Mapping[str, str]) -> tuple[list[PointFacts], UUID | None]:
        """Return a page of facts about points, in the order of their ids, and the offset of the next.

        Args:
            where: `source` and `key` of a document, or nothing: all points.
        """
        params = {**where, "limit": limit, **({"offset": str(offset)} if offset else {})}
        value = self._send("GET", f"/collections/{name}/audit", params=params)
        following = value["next"]
        return [PointFacts.from_json(facts) for facts in value["facts"]], UUID(following) if following else None

    def apply(self, name: str, messages: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Apply messages of the log to a collection again, by the consumer's own law; return counts of the outcomes."""
        done: dict[str, int] = self._send("POST", f"/collections/{name}/apply", timeout=_ACT_SECONDS, json={"messages": messages})
        return done

    def remove_points(self, name: str, points: Sequence[StoredPoint]) -> None:
        """Remove surplus points, except where another version of one is stored by now."""
        body = {"points": [{"id": str(point.id), "version": version_part(point.payload)} for point in points]}
        self._send("POST", f"/collections/{name}/remove", json=body)

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def _send(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._client.request(method, path, **options)
        except httpx.TransportError as exc:
            raise TransientError(
                f"the online process does not answer at {self._url} ({exc}): start it with `twinline up`"
            ) from exc
        if response.is_success:
            return response.json() if response.content else None
        raise _error(response)


def _error(response: httpx.Response) -> TwinlineError:
    place = f"{response.request.method} {response.request.url}"
    try:
        problem = response.json()
        message = f"{problem['detail']} ({place})"
    except (ValueError, KeyError, TypeError):
        return TransientError(f"{place} answers {response.status_code} without saying why: is it Twinline's admin port?")
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return TransientError(message, _seconds(response.headers.get("retry-after")))
    if problem["error"] == "mismatch":
        return MismatchError(message)
    if response.is_client_error:
        return SettingsError(message)
    return ContractError(message)


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isdecimal() and len(header) < 7 else None
