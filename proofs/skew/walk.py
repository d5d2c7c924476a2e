"""The walk: every door and hop of the platform, in the order in which they meet a fault; the first refusal ends it.

process start ─> training/export ─> export parity ─> release files ─> triton load ─> client ─> consumer start
                                                ─> index open ─> query ─> the hops of `twinline skew`, live sample last

Two steps take long: the parity stage and loading models. Like the platform, the walk repeats neither over files that have passed
before. The training framework's vectors of documents are cached by weights and token ids. Its vectors of golden texts are
computed in every walk, which shows whether the framework has changed.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from bench.stored import CollectionDocuments
from export.encoder.build import WEIGHTS_FILE, load_encoder_contract
from export.encoder.params import DEFAULT_BUCKETS, ParityParams, served_buckets
from export.encoder.parity_stage import check_parity
from proofs.skew.system import NothingErased, System
from streaming.dead_letters import DeadLetter
from streaming.indexer import Indexer
from train.encoder.torch_encoder import TorchEncoder
from triton_models.names import STABLE_MODEL, embed_model
from twinline.clients.release import open_release
from twinline.clients.store.door import check_index
from twinline.clients.store.open import make_store
from twinline.clients.triton.control import TritonControl
from twinline.clients.triton.embedder import TritonEmbedder
from twinline.contract.encoder.golden import GoldenSet
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.selfcheck import check_chunks_in_code, check_process, check_rules_in_code
from twinline.contract.encoder.space import hash_safetensors
from twinline.contract.errors import TransientError, TwinlineError
from twinline.contract.principal import LOCAL_OPERATOR
from twinline.contract.release.manifest import collection_name, hash_files
from twinline.registry.fetch import open_release as verify_release
from twinline.search import opening as search_opening
from twinline.search.query import answer_from
from twinline.search.releases import Served
from twinline.search.results import Mode, Question
from twinline.upkeep.skew.measure import measure_skew
from twinline.upkeep.skew.opening import answered, open_live, open_offline, open_subject, scored
from twinline.upkeep.skew.pieces import Answered, LiveWords, Offline, SamplePlan, Scored, Vector
from twinline.upkeep.skew.report import SkewReport
from twinline.upkeep.skew.stored import KafkaLog

Hashes: TypeAlias = Mapping[str, str]
_QUESTION: Final = Question("How do I read a file line by line?")
# More than the small corpus has, so that the sample holds every document and finds a fault in any of them.
_ALL_DOCUMENTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Finding:
    """The refusal that ended a walk, or the report of a walk without one.

    Attributes:
        found_by: the door or hop; None without a refusal.
        message: of the refusal.
        seconds: from the start of the walk until then.
        report: of the hops, if the walk reached them.
    """

    found_by: str | None
    message: str
    seconds: float
    report: SkewReport | None = None


@dataclass
class Walker:
    """Walks over one system, any number of times."""

    system: System
    _passed: dict[str, list[Hashes]] = field(default_factory=dict)
    _vectors: dict[tuple[str, tuple[int, ...]], Vector] = field(default_factory=dict)

    def walk(self) -> Finding:
        """Go through all doors, then all hops, until one refuses.

        Raises:
            TransientError: a part of the system is away, so that the walk has no result.
        """
        started = time.perf_counter()
        place = ""
        try:
            with ExitStack() as opened:
                for name, door in self._doors():
                    place = name
                    door()
                place = "index open"
                served = self._open_index(opened)
                place = "query"
                answer_from(served, _QUESTION, LOCAL_OPERATOR)
                place = "hops"
                report = self._measure(served, opened)
        except TransientError:
            raise
        except TwinlineError as exc:
            return Finding(place, str(exc), time.perf_counter() - started)
        return Finding(report.broken_hop, report.sentence(), time.perf_counter() - started, report)

    def _doors(self) -> Iterator[tuple[str, Callable[[], object]]]:
        yield "process start", self._start_process
        yield "training/export", self._load_encoder
        yield "export parity", lambda: self._once("parity", (self.system.encoder, self.system.exported), self._check_parity)
        yield "release files", lambda: verify_release(self.system.settings.releases, self.system.a.release)
        yield "triton load", lambda: self._once("models", self._served_files(), self._load_models)
        yield "client", self._ask_as_client
        yield "consumer start", self._start_consumer

    def _served_files(self) -> tuple[Path, Path]:
        settings = self.system.settings
        return settings.model_repository, settings.model_repository.parent / "backends"

    def _start_process(self) -> None:
        # As in a new process, which runs the cases once.
        check_rules_in_code.cache_clear()
        check_chunks_in_code.cache_clear()
        check_process()

    def _load_encoder(self) -> None:
        load_encoder_contract(self.system.encoder)
        TorchEncoder.load(self.system.encoder)

    def _check_parity(self) -> None:
        buckets = served_buckets(DEFAULT_BUCKETS, load_encoder_contract(self.system.encoder).vector.max_tokens)
        check_parity(self.system.encoder, self.system.exported, [], buckets, ParityParams())

    def _load_models(self) -> None:
        """Load A's models again, as in a server's start; the stable name last, as in a switch."""
        name = embed_model(self.system.a.release)
        with closing(TritonControl(self.system.settings.triton_grpc_address)) as control:
            for model in (STABLE_MODEL, name):
                if control.ready(model):
                    control.unload(model, with_members=True)
            for model in (name, STABLE_MODEL):
                control.load(model)

    def _ask_as_client(self) -> None:
        a = self.system.a
        with TritonEmbedder(self.system.settings.triton_grpc_address, a.release, a.space) as embedder:
            embedder.check()

    def _start_consumer(self) -> None:
        settings = self.system.settings
        release = open_release(settings, self.system.a.release)
        with closing(make_store(settings).open(release.collection_name, release.info)) as collection:
            check_index(collection, release.golden)
            Indexer(collection, release, NoDeadLetters(), NothingErased())

    def _open_index(self, opened: ExitStack) -> Served:
        settings = self.system.settings
        served = search_opening.open_served(settings, make_store(settings), collection_name(self.system.a.release))
        opened.enter_context(closing(served.collection))
        return served

    def _measure(self, served: Served, opened: ExitStack) -> SkewReport:
        settings = self.system.settings
        subject = open_subject(settings, self.system.a.release)
        offline = self._with_cache(open_offline(subject, Preprocessor.load(subject.folder)), subject.golden)

        def search(text: str) -> list[Scored]:
            result = answer_from(served, Question(text, group=False), LOCAL_OPERATOR)
            if result.mode == "words":
                raise TransientError(result.note)
            hits = result.hits
            stored = served.collection.read_points([hit.point for hit in hits], with_vectors=True)
            return scored(((hit.point, hit.dense.score) for hit in hits if hit.dense), stored)

        def answer(text: str, mode: Mode) -> Answered:
            return answered(answer_from(served, Question(text, exact=True, mode=mode, group=False), LOCAL_OPERATOR))

        live = open_live(settings, subject, subject, served.collection.read_golden, search, opened)
        live = replace(live, words=LiveWords(answer, served.collection.query))
        plan = SamplePlan(CollectionDocuments(served.collection), KafkaLog(settings), _ALL_DOCUMENTS, pause_seconds=0)
        return measure_skew(subject, offline, live, plan)

    def _with_cache(self, offline: Offline, golden: GoldenSet) -> Offline:
        weights = hash_safetensors(self.system.encoder / WEIGHTS_FILE)
        golden_ids = {entry.token_ids for entry in golden.entries}

        def vectors(token_ids: Sequence[Sequence[int]]) -> Vector:
            keys = [(weights, tuple(ids)) for ids in token_ids]
            new = [key for key in dict.fromkeys(keys) if key not in self._vectors or key[1] in golden_ids]
            if new:
                self._vectors |= zip(new, offline.vectors([key[1] for key in new]), strict=True)
            return np.stack([self._vectors[key] for key in keys])

        return replace(offline, vectors=vectors)

    def _once(self, name: str, places: Sequence[Path], step: Callable[[], None]) -> None:
        found: list[Hashes] = [hash_files(place) for place in places]
        if self._passed.pop(name, None) != found:
            step()
        self._passed[name] = found


class NoDeadLetters:
    """The dead letters of a consumer that is only started."""

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Refuse every letter: no message was handled."""
        if letters:
            raise RuntimeError(f"{len(letters)} messages were set aside: {letters[0].error}")
