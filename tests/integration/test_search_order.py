"""Equal scores come in one order, whoever asks and how often; and Turkish words are found in every spelling of their i."""

import asyncio
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.workspace import free_ports
from export.encoder.words import WordsParams, write_words
from tests.fixtures_triton import RunningTriton
from tests.integration.test_search import Place, publish, until
from triton_models.repository import write_models
from twinline.clients.kafka.connect import ensure_topics
from twinline.clients.settings import Settings
from twinline.clients.triton.control import TritonControl
from twinline.contract.documents.records import Document
from twinline.contract.encoder.preprocess import Preprocessor
from twinline.contract.encoder.sparse_settings import SparseContract
from twinline.contract.encoder.specification import Contract
from twinline.contract.release.manifest import Fingerprints, Manifest, hash_files
from twinline.contract.sparse.golden import read_sparse
from twinline.search.client import AsyncSearchClient, SearchClient
from twinline.search.results import SearchResult

CALLS = 100
AT_ONCE = 8
SAME = "Bu şehirde eski bir köprü ve küçük bir müze var."
# More than a list of candidates holds, so that its end goes through a tie.
EQUAL = [Document("equal", f"e{number:03}", SAME, version=1) for number in range(130)]
PLACES = [
    Document("places", "istanbul", "İstanbul'da hava bugün yağmurlu ve serin olacak.", title="Hava", version=1),
    Document("places", "isparta", "ISPARTA gülleriyle tanınan bir ildir.", title="Gül", version=1),
    Document("places", "diyarbakir", "Diyarbakır surları çok eskidir ve uzundur.", title="Sur", version=1),
    Document("places", "igdir", "IĞDIR kayısısı yaz aylarında olgunlaşır.", title="Kayısı", version=1),
    Document("places", "izmir", "İZMİR körfezinde vapurlar her saat kalkar.", title="Körfez", version=1),
    Document("places", "kirsehir", "Kırşehir taşı beyaz ve sarı olur.", title="Taş", version=1),
]
SPELLINGS = {
    "istanbul": ["İstanbul", "istanbul", "İSTANBUL", "ISTANBUL", "Istanbul"],
    "isparta": ["Isparta", "ısparta", "ISPARTA", "isparta", "İSPARTA"],
    "diyarbakir": ["Diyarbakır", "diyarbakır", "DİYARBAKIR", "diyarbakir", "DIYARBAKIR"],
    "igdir": ["Iğdır", "ığdır", "IĞDIR", "iğdir", "İĞDİR"],
    "izmir": ["İzmir", "izmir", "İZMİR", "IZMIR", "ızmır"],
    "kirsehir": ["Kırşehir", "kırşehir", "KIRŞEHİR", "kirsehir", "KIRSEHIR"],
}


@pytest.fixture(scope="module")
def served(
    base_release: Path, triton_server: RunningTriton, broker: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A release with Turkish words, its collection of both kinds of documents, and the online process."""
    home = tmp_path_factory.mktemp("order")
    manifest = turkish_release(base_release, home / "releases", tmp_path_factory.mktemp("documents") / "documents.parquet")
    search_port, admin_port = free_ports(2)
    topic = f"documents-{uuid4().hex[:8]}"
    settings = Settings(
        home=home,
        kafka_bootstrap=broker,
        topic=topic,
        triton_grpc=triton_server.grpc,
        search_port=search_port,
        admin_port=admin_port,
    )
    environment = os.environ | {
        "TWINLINE_HOME": str(home),
        "KAFKA_BOOTSTRAP": broker,
        "TWINLINE_TOPIC": topic,
        "TWINLINE_TRITON_GRPC": triton_server.grpc,
        "TWINLINE_SEARCH_PORT": str(search_port),
        "TWINLINE_ADMIN_PORT": str(admin_port),
    }
    ensure_topics(settings)
    publish(settings, *EQUAL, *PLACES)
    place = Place(settings, manifest.release, environment)
    *_, ensemble = write_models(home / "releases" / manifest.release, triton_server.repository)
    with closing(TritonControl(triton_server.grpc)) as control:
        control.load(ensemble)
        with place.online():
            built = place.run("streaming", "build", "--release", place.release)
            assert built.returncode == 0, built.stderr
            place.admin.serve(place.collection)
            place.admin.activate(place.collection)
            until(lambda: place.get("/readyz").is_success)
            yield place
        control.unload(ensemble, with_members=True)


def turkish_release(release: Path, releases: Path, documents: Path) -> Manifest:
    """Copy a release as another one, equal but for its words, which are counted on the documents of this file."""
    rows = [{"source": d.source, "key": d.key, "title": d.title, "text": d.text} for d in [*EQUAL, *PLACES]]
    pq.write_table(pa.Table.from_pylist(rows), documents)
    folder = releases / "other.partial"
    shutil.copytree(release, folder)
    write_words([documents], Preprocessor.load(folder), WordsParams(language="turkish"), folder)
    sparse: SparseContract = read_sparse(folder)
    contract, tokenizer_json = Contract.load(folder)
    contract = replace(contract, index=replace(contract.index, sparse=sparse))
    contract.save(folder, tokenizer_json)
    manifest, prints, files = Manifest.load(release), Fingerprints.of(contract), hash_files(folder)
    made = replace(manifest, fingerprints=prints, files=files)
    made = replace(made, release=made.content_id)
    made.save(folder)
    folder.rename(releases / made.release)
    return made


def ask_often(place: Place, query: str, **fields: Any) -> list[SearchResult]:
    """Ask a question a hundred times: by threads over one client, by tasks over the other, and one call after another."""
    url = place.settings.search_url

    async def by_tasks() -> Sequence[SearchResult]:
        async with AsyncSearchClient(url, at_once=AT_ONCE) as search:
            return await search.search_many([query] * (CALLS // 2), **fields)

    with SearchClient(url, at_once=AT_ONCE) as search:
        one_by_one = [search.search(query, **fields) for _ in range(CALLS // 10)]
        by_threads = search.search_many([query] * (CALLS - CALLS // 2 - len(one_by_one)), **fields)
    found = [*one_by_one, *by_threads, *asyncio.run(by_tasks())]
    assert len(found) == CALLS
    return found


def seen(result: SearchResult) -> list[object]:
    """Return all that an answer says about its hits."""
    return [(result.mode, result.note), *((hit.point, hit.score, hit.dense, hit.words, hit.copies) for hit in result.hits)]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "words"])
@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("limit", [10, 100])
def test_equal_scores_come_in_one_order_at_every_call(served: Place, mode: str, group: bool, limit: int) -> None:
    found = ask_often(served, "eski köprü ve müze", mode=mode, group=group, limit=limit)
    first = seen(found[0])
    assert sum(seen(result) != first for result in found) == 0
    equal = [hit for hit in found[0].hits if hit.source == "equal"]
    assert len({(hit.score, hit.dense and hit.dense.score, hit.words and hit.words.score) for hit in equal}) == 1
    assert [hit.point for hit in equal] == sorted(hit.point for hit in equal), "the stated order"
    if group:
        assert len(equal) == 1
        assert equal[0].copies
    else:
        assert len(equal) >= limit - len(PLACES)


def test_a_longer_answer_begins_with_the_shorter_one_inside_a_tie(served: Place) -> None:
    for mode in ("hybrid", "dense", "words"):
        points = [
            [hit["point"] for hit in served.search("eski köprü ve müze", mode=mode, group=False, limit=limit)["hits"]]
            for limit in (5, 20, 100)
        ]
        assert points[0] == points[1][:5]
        assert points[1] == points[2][:20]


@pytest.mark.parametrize("key", SPELLINGS)
def test_a_turkish_name_is_found_by_words_in_every_spelling_of_its_i(served: Place, key: str) -> None:
    answers = [served.search(spelling, mode="words")["hits"] for spelling in SPELLINGS[key]]
    assert [[hit["key"] for hit in hits] for hits in answers] == [[key]] * len(answers), SPELLINGS[key]
    # A rare word in capitals weighs as a name.
    scores = {spelling.isupper(): {hits[0]["score"]} for spelling, hits in zip(SPELLINGS[key], answers, strict=True)}
    for spelling, hits in zip(SPELLINGS[key], answers, strict=True):
        assert {hits[0]["score"]} == scores[spelling.isupper()], spelling


@pytest.mark.parametrize("key", SPELLINGS)
def test_the_order_of_a_turkish_question_does_not_change_either(served: Place, key: str) -> None:
    found = ask_often(served, f"{SPELLINGS[key][2]} hakkında bilgi", limit=10)
    first = seen(found[0])
    assert sum(seen(result) != first for result in found) == 0
    [place] = [hit for hit in found[0].hits if hit.key == key]
    assert place.words is not None
    assert place.words.rank == 1
