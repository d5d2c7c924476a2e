"""Make the pieces of a measurement from settings: the release folder, Triton, the online process, Kafka."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from export.encoder.formats import ExportedFormat
from export.encoder.runtimes import open_runtime
from triton_models.names import STABLE_MODEL, tokenizer_model
from twinline.clients.online import AdminClient, OnlineStatus
from twinline.clients.settings import Settings
from twinline.clients.store.protocol import StoredPoint
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.clients.triton.tokenizer import TritonTokenizer
from twinline.contract.encoder.golden import GoldenSet, read_golden
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.runtime import Runtime
from twinline.contract.encoder.specification import Pooling
from twinline.contract.errors import MismatchError, TransientError
from twinline.contract.release.manifest import Format, collection_name
from twinline.contract.sparse.weights import Words
from twinline.registry.fetch import read_manifest
from twinline.search.results import RESULT, Mode, SearchResult
from twinline.upkeep.skew.drift import measure_drift
from twinline.upkeep.skew.measure import measure_skew, refused_release
from twinline.upkeep.skew.pieces import (
    Answered,
    AnsweredHit,
    Live,
    LiveWords,
    Offline,
    SamplePlan,
    Scored,
    StableModel,
    Subject,
    Vector,
)
from twinline.upkeep.skew.report import CannotRunError, SkewReport
from twinline.upkeep.skew.stored import AdminDocuments, KafkaLog

_HITS: Final = 10


def measure_release(settings: Settings, release: str = "", size: int = 100, seed: int = 0) -> SkewReport | None:
    """Measure the active release, or the named one; return None where none is active.

    Raises:
        TransientError: a dependency is away, or the release's collection is not open.
        SettingsError: the named release was not fetched.
    """
    with ExitStack() as opened:
        admin = opened.enter_context(closing(AdminClient(settings.admin_url)))
        status = admin.status()
        active = (status.active or "").removeprefix(collection_name(""))
        chosen = release or active
        if not chosen:
            return None
        try:
            subject = open_subject(settings, chosen)
            preprocessor = Preprocessor.load(subject.folder)
            offline = open_offline(subject, preprocessor)
            stable = subject if active == chosen else open_subject(settings, active) if active else None
        except MismatchError as exc:
            return refused_release(chosen, exc)
        name = collection_name(chosen)
        if status.collection(name) is None and name not in status.refused:
            raise TransientError(
                f"the online process does not serve {name}: wait until it has opened it (twinline status), or build the "
                f"collection first (twinline release build {chosen})"
            )
        live = open_live(settings, subject, stable, _golden_reader(admin, status, name), _searcher(admin, status, name), opened)
        live = replace(live, words=_live_words(admin, status, name))
        plan = None
        if size and name not in status.refused:
            plan = SamplePlan(AdminDocuments(admin, name), KafkaLog(settings), size, seed)
        report = measure_skew(subject, offline, live, plan)
        # Drift is reported only without skew: with skew the comparison would mean nothing.
        return replace(report, drift=measure_drift(settings, admin, subject, preprocessor)) if report.ok else report


def open_subject(settings: Settings, release: str) -> Subject:
    """Return a fetched release's own statements; only their form is checked yet."""
    manifest = read_manifest(settings.releases, release)
    folder = settings.releases / release
    return Subject(folder, manifest, GoldenSet(read_golden(folder), manifest.serving_format().parity.limit))


def open_offline(subject: Subject, preprocessor: Preprocessor) -> Offline:
    """Return the offline path from the release's own files; the framework is loaded at its first use."""

    def open_format(entry: Format) -> Runtime:
        if entry.backend == "tensorrt":
            from export.encoder.to_tensorrt import why_unavailable

            if reason := why_unavailable():
                raise CannotRunError(reason)
        exported = ExportedFormat(entry.name, entry.backend, entry.precision, entry.file)
        return open_runtime(subject.folder, exported)

    return Offline(
        encode=preprocessor.encode,
        chunks=preprocessor.chunks,
        query_text=preprocessor.query_text,
        vectors=_reference(subject.folder / "encoder", preprocessor.contract.vector.pooling),
        open_format=open_format,
        pad_id=preprocessor.pad_id,
        words=_words_reader(subject, preprocessor),
    )


def open_live(
    settings: Settings,
    subject: Subject,
    active: Subject | None,
    read_stored: Callable[[], dict[str, Vector]],
    search: Callable[[str], list[Scored]],
    opened: ExitStack,
) -> Live:
    """Return the services of the release.

    Args:
        active: the release that the stable name must point to.
        read_stored: reads the golden vectors of the collection.
        search: asks a query and returns the hits' scores with the stored vectors.
        opened: closes the connections.
    """
    grpc, http = settings.triton_grpc_address, settings.triton_http_address
    release, space = subject.manifest.release, subject.manifest.space
    tokenizer = opened.enter_context(TritonTokenizer(grpc, tokenizer_model(release)))
    embedders = {
        "triton grpc": opened.enter_context(TritonEmbedder(grpc, release, space)),
        "triton http": opened.enter_context(TritonEmbedder(http, release, space, "http")),
    }
    stable = None
    if active is not None:
        stands_for = TritonEmbedder(grpc, active.manifest.release, active.manifest.space, model=STABLE_MODEL)
        stable = StableModel(opened.enter_context(stands_for), active.golden)
    return Live(tokenizer.token_ids, embedders, stable, read_stored, search)


def _reference(encoder: Path, pooling: Pooling) -> Callable[[Sequence[Sequence[int]]], Vector]:
    @cache
    def loaded() -> Callable[[Sequence[Sequence[int]]], Vector]:
        # torch takes seconds to import, and a measurement may end before it is needed.
        from export.encoder.reference import ReferenceEncoder

        return ReferenceEncoder.load(encoder, pooling).vectors

    def vectors(token_ids: Sequence[Sequence[int]]) -> Vector:
        return loaded()(token_ids)

    return vectors


def _words_reader(subject: Subject, preprocessor: Preprocessor) -> Callable[[], Words] | None:
    sparse = preprocessor.contract.index.sparse
    return None if sparse is None else cache(partial(Words.load, subject.folder, sparse))


def _golden_reader(admin: AdminClient, status: OnlineStatus, name: str) -> Callable[[], dict[str, Vector]]:
    def read() -> dict[str, Vector]:
        # The online process keeps such a collection closed, and has the reason.
        if name in status.refused:
            raise MismatchError(f"the online process does not open {name}: {status.refused[name]}")
        return admin.golden(name)

    return read


def _searcher(admin: AdminClient, status: OnlineStatus, name: str) -> Callable[[str], list[Scored]]:
    def search(text: str) -> list[Scored]:
        if name in status.refused:
            raise CannotRunError(f"the online process does not open {name}")
        answer = admin.search(name, text, _HITS)
        # An online process of an older version gives no sides: its one score is the cosine.
        sides = [(hit["point"], hit.get("dense", hit)) for hit in with_vectors(answer)["hits"]]
        scores = [(UUID(point), float(dense["score"])) for point, dense in sides]
        return scored(scores, admin.read_points(name, [id_ for id_, _ in scores], with_vectors=True))

    return search


def _live_words(admin: AdminClient, status: OnlineStatus, name: str) -> LiveWords:
    def answer(text: str, mode: Mode) -> Answered:
        if name in status.refused:
            raise CannotRunError(f"the online process does not open {name}")
        found = admin.search(name, text, _HITS, exact=True, mode=mode)
        return answered(RESULT.validate_python(found if mode == "words" else with_vectors(found)))

    return LiveWords(answer, lambda query: admin.query(name, query))


def with_vectors(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an answer that vectors took part in.

    Raises:
        TransientError: the encoder was away, so words answered alone.
    """
    if answer.get("mode") == "words":
        raise TransientError(answer["note"])
    return answer


def answered(result: SearchResult) -> Answered:
    """Return a search result as the hops of words compare it."""
    hits = [
        AnsweredHit(
            hit.point, hit.score, hit.dense.score if hit.dense else None, hit.words.score if hit.words else None, hit.chunk.text
        )
        for hit in result.hits
    ]
    return Answered(result.mode, hits)


def scored(hits: Iterable[tuple[UUID, float]], stored: Mapping[UUID, StoredPoint]) -> list[Scored]:
    """Return scores with their vectors; a point that is gone by now is left out."""
    found = ((score, stored[id_].dense) for id_, score in hits if id_ in stored)
    return [(score, vector) for score, vector in found if vector is not None]
