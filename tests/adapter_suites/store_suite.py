"""What every store promises. A test module that binds the fixture `store` to an adapter inherits all of it.

class TestEdge(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path): return EdgeStore(tmp_path)
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from twinline.clients.log_record import LogRecord
from twinline.clients.store.conditions import Either, Exists, Range
from twinline.clients.store.protocol import (
    Collection,
    CollectionInfo,
    Filter,
    Head,
    Query,
    Store,
    StoredPoint,
    nearest,
    version_fields,
)
from twinline.clients.store.vectors import DENSE, Ask, VectorSpec, one_dense
from twinline.contract.documents.filterable import LARGEST_INTEGER, FieldType, filterable, moment, typed_value
from twinline.contract.documents.ids import golden_id, head_id, point_id
from twinline.contract.documents.records import Version
from twinline.contract.errors import ContractError, MismatchError
from twinline.contract.release.index_settings import IndexSettings, Quantization
from twinline.contract.sparse.vector import LARGEST_ID, LARGEST_WEIGHT, Sparse

NAME = "documents_r000000000001"
OTHER = "documents_r000000000002"
INFO = CollectionInfo(
    release="r000000000001",
    space="space-a",
    contract_fingerprint="c" * 64,
    vector_fingerprint="v" * 64,
    index_fingerprint="i" * 64,
    vectors=one_dense(4),
)
TERMS = "terms"
WITH_TERMS = replace(INFO, vectors={**one_dense(4), TERMS: VectorSpec("sparse", None, "dot")})


def explicit(number: int) -> Version:
    return Version("explicit", number)


def direction(*values: float) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def chunk(
    key: str,
    index: int,
    version: Version,
    vector: Sequence[float] = (1, 0, 0, 0),
    source: str = "s",
    **fields: object,
) -> StoredPoint:
    payload = {
        "kind": "chunk",
        "source": source,
        "key": key,
        **version_fields(version),
        "chunk_index": index,
        "text": f"{key} {index} v{version.number}",
        "tenant": None,
        "metadata": {},
        **fields,
    }
    return StoredPoint(point_id(source, key, index), payload, {DENSE: direction(*vector)})


def sparse(weights: Mapping[int, int]) -> Sparse:
    return Sparse(tuple(sorted(weights)), tuple(weights[id_] for id_ in sorted(weights)))


def chunk_with_terms(
    key: str, terms: Mapping[int, int], vector: Sequence[float] = (1, 0, 0, 0), version: int = 1, **fields: object
) -> StoredPoint:
    point = chunk(key, 0, explicit(version), vector, **fields)  # type: ignore[arg-type]
    return replace(point, vectors={**point.vectors, TERMS: sparse(terms)})


def by_terms(
    collection: Collection, terms: Mapping[int, int], depth: int = 10, where: Filter | None = None, exact: bool = False
) -> dict[str, float | None]:
    """Return the scores of what a sparse ask finds, by key, best first."""
    [found] = collection.query(Query((Ask(TERMS, sparse(terms), depth),), where, exact))
    return {point.payload["key"]: point.score for point in found}


def head(key: str, version: Version, chunk_count: int = 1, deleted: bool = False) -> Head:
    return Head("s", key, version, deleted, chunk_count)


def texts(collection: Collection) -> set[str]:
    points, following = collection.scroll({"kind": "chunk"}, limit=1000)
    assert following is None
    return {point.payload["text"] for point in points}


_MS = 1_763_800_000_123
# What is stored, what comes, and whether that is written: it is not older.
_PLACES = [
    (Version("log", _MS, 5, 0), Version("log", _MS, 6, 0), True),
    (Version("log", _MS, 5, 0), Version("log", _MS, 5, 0), True),
    (Version("log", _MS, 5, 0), Version("log", _MS, 4, 0), False),
    (Version("log", _MS, 5, 0), Version("log", _MS, 0, 1), True),
    (Version("log", _MS, 0, 1), Version("log", _MS, 5, 0), False),
    (Version("log", _MS, 5, 1), Version("log", _MS, 5, 0), False),
    (Version("log", _MS, 5, 9), Version("log", _MS, 0, 10), True),
    (Version("log", _MS, 900, 1), Version("log", _MS + 1, 0, 0), True),
    (Version("log", _MS + 1, 0, 0), Version("log", _MS, 900, 1), False),
    # Of an older release of Twinline, which stored no partition.
    (Version("log", _MS, 5), Version("log", _MS, 5, 0), True),
    (Version("log", _MS, 5), Version("log", _MS, 6, 0), True),
    (Version("log", _MS, 5), Version("log", _MS, 4, 0), False),
    (Version("log", _MS, 5), Version("log", _MS - 1, 9, 0), False),
    (Version("log", _MS, 5, 0), Version("log", _MS, 4), False),
    (Version("log", _MS, 5, 0), Version("log", _MS, 6), True),
    (Version("log", 0, 5, 1), Version("log", 0, 6, 1), True),
    (Version("explicit", 5), Version("explicit", 5), True),
    (Version("explicit", 5), Version("explicit", 4), False),
]


DECLARED: dict[str, FieldType] = {
    "metadata.k": "keyword",
    "metadata.n": "integer",
    "metadata.f": "float",
    "metadata.t": "datetime",
    "metadata.b": "bool",
    "metadata.by.ad-ı": "keyword",
}
# As `filterable` makes them.
METADATA: dict[str, dict[str, object]] = {
    "a": {"k": "red", "n": 2019, "f": -0.5, "t": "2019-12-31T23:59:59.999999Z", "b": "true", "by": {"ad-ı": "İ"}},
    "b": {"k": "blue", "n": 2020, "f": 0.0, "t": "2020-01-01T00:00:00.000000Z", "b": "false"},
    "c": {"k": ["red", "green"], "n": [1, 5], "f": [0.5, 2.0], "t": ["2020-01-01T00:00:00.000001Z"]},
    "d": {"k": "", "n": LARGEST_INTEGER, "f": 1e300, "t": "0001-01-01T00:00:00.000000Z", "b": ["true", "false"]},
    "e": {"k": [], "n": None},
    "f": {},
    "g": {"k": "RED", "n": -LARGEST_INTEGER, "f": 0.1, "t": "9999-12-31T23:59:59.999999Z", "by": {"ad-ı": "i"}},
}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# A condition, and the documents above that meet it.
CONDITIONS: list[tuple[Filter, str]] = [
    ({"metadata.k": "red"}, "ac"),
    ({"metadata.k": ["red", "blue"]}, "abc"),
    ({"metadata.k": ""}, "d"),
    ({"metadata.k": Exists(True)}, "abcdg"),
    ({"metadata.k": Exists(False)}, "ef"),
    ({"metadata.n": Exists(False)}, "ef"),
    ({"metadata.by.ad-ı": "İ"}, "a"),
    ({"metadata.by.ad-ı": Exists(True)}, "ag"),
    ({"metadata.n": 5}, "c"),
    ({"metadata.n": [2019, 2020]}, "ab"),
    ({"metadata.n": LARGEST_INTEGER}, "d"),
    ({"metadata.n": Range(gte=2019, lt=2020)}, "a"),
    ({"metadata.n": Range(gt=2019)}, "bd"),
    ({"metadata.n": Range(gt=LARGEST_INTEGER - 1)}, "d"),
    ({"metadata.n": Range(lte=-LARGEST_INTEGER)}, "g"),
    ({"metadata.n": Range(gte=2, lte=4)}, ""),  # one value of a list meets the whole range
    ({"metadata.n": Range(gte=2020, lte=2019)}, ""),
    ({"metadata.f": Range(gte=0.1, lte=0.1)}, "g"),
    ({"metadata.f": Either((Range(gte=0, lte=0), Range(gte=2, lte=2)))}, "bc"),
    ({"metadata.f": Range(lt=0)}, "a"),
    ({"metadata.f": Range(gte=1e300)}, "d"),
    ({"metadata.t": Range(gte=at("2020-01-01"))}, "bcg"),
    ({"metadata.t": Range(gt=at("2020-01-01"), lt=at("2021-01-01"))}, "c"),
    ({"metadata.t": Range(lt=at("2020-01-01"))}, "ad"),
    ({"metadata.t": Range(gte=at("2020-01-01"), lte=at("2020-01-01"))}, "b"),
    ({"metadata.t": Either((Range(lte=at("0001-01-01")), Range(gte=at("9999-12-31"))))}, "dg"),
    ({"metadata.b": "true"}, "ad"),
    ({"metadata.b": ["true", "false"]}, "abd"),
    ({"metadata.b": Exists(False)}, "cefg"),
    ({"metadata.k": "red", "metadata.n": Range(gt=3)}, "ac"),
    ({"metadata.k": "red", "metadata.b": Exists(False), "source": "s"}, "c"),
]


def drawn_metadata(draw: random.Random) -> dict[str, Any]:
    """Return metadata with values of the right type, of another, in lists, or none."""
    values: dict[str, Callable[[], Any]] = {
        "k": lambda: draw.choice(["a", "b", "İ", 7]),
        "n": lambda: draw.choice([-1, 0, 3, 9, "9", True, 2.5]),
        "f": lambda: draw.choice([-1.5, 0, 0.1, 3, "x"]),
        "t": lambda: draw.choice(["2020-01-01", "2020-06-01T12:00:00+02:00", "2021-01-01T00:00:00Z", "soon", 2020]),
        "b": lambda: draw.choice([True, False, "true", 1]),
    }
    drawn: dict[str, Any] = {}
    for name, value in values.items():
        form = draw.randrange(4)
        if form:
            drawn[name] = value() if form < 3 else [value() for _ in range(draw.randrange(3))]
    return drawn


def drawn_condition(draw: random.Random) -> tuple[str, Any, Callable[[Any], bool]]:
    """Return a field, a condition, and what says whether a document's value meets it."""
    types: dict[str, FieldType] = {name.removeprefix("metadata."): type_ for name, type_ in DECLARED.items()}
    name = draw.choice(["k", "n", "f", "t", "b"])

    def typed(value: Any) -> list[Any]:
        values = value if isinstance(value, list) else [value]
        read = [typed_value(each, types[name]) for each in values]
        return [moment(each) if name == "t" else each for each in read if each is not None]  # type: ignore[arg-type]

    if draw.randrange(4) == 0:
        there = draw.choice([True, False])
        return name, Exists(there), lambda value: bool(typed(value)) is there
    if name in "kb":
        wanted = draw.sample(["a", "b", "İ"] if name == "k" else ["true", "false"], 2)[: draw.randrange(1, 3)]
        return name, wanted, lambda value: any(each in wanted for each in typed(value))
    low = draw.choice([at("2020-01-01"), at("2020-06-01T10:00:00")] if name == "t" else [-1, 0, 0.1, 3])
    high = draw.choice([at("2020-06-01T10:00:00"), at("2021-01-01")] if name == "t" else [0, 3, 9])
    if draw.randrange(2):
        return name, Range(gte=low, lt=high), lambda value: any(low <= each < high for each in typed(value))
    return name, Range(gt=low, lte=high), lambda value: any(low < each <= high for each in typed(value))


class StoreSuite:
    @pytest.fixture
    def collection(self, store: Store) -> Collection:
        return store.create(NAME, INFO)

    @pytest.fixture
    def with_terms(self, store: Store) -> Collection:
        return store.create(NAME, WITH_TERMS)

    # --- points ---

    def test_a_point_is_removed_only_as_long_as_it_is_what_was_looked_at(self, store: Store) -> None:
        collection = store.create(NAME, INFO)
        collection.put_heads([head("a", explicit(1))])
        collection.put_points([chunk("a", 0, explicit(1)), chunk("b", 0, explicit(1)), chunk("c", 0, explicit(1))])
        looked_at = list(collection.read_points([point_id("s", key, 0) for key in "abc"]).values())
        collection.put_points([chunk("b", 0, explicit(2))])
        collection.remove_points([point for point in looked_at if point.payload["key"] != "c"])
        collection.remove_points([StoredPoint(point_id("s", "never", 0), version_fields(explicit(1)))])
        collection.remove_points([])
        assert texts(collection) == {"b 0 v2", "c 0 v1"}
        assert collection.read_heads([head_id("s", "a")])[head_id("s", "a")].version == explicit(1)
        collection.close()

    def test_a_point_comes_back_as_it_was_written(self, collection: Collection) -> None:
        point = chunk("a", 0, explicit(7), (0, 3, 4, 0), metadata={"team": "x", "deep": [1, None, {"y": 1.5}]})
        collection.put_points([point])
        found = collection.read_points([point.id, point_id("s", "missing", 0)], with_vectors=True)
        assert list(found) == [point.id]
        assert found[point.id].payload == point.payload
        # Cosine: the store keeps the direction.
        vector = found[point.id].dense
        assert vector is not None
        np.testing.assert_allclose(vector, direction(0, 0.6, 0.8, 0), atol=1e-6)
        assert collection.read_points([point.id])[point.id].vectors == {}

    def test_reading_nothing_returns_nothing(self, collection: Collection) -> None:
        assert collection.read_points([]) == {}
        assert collection.read_heads([head_id("s", "missing")]) == {}

    def test_writing_a_point_twice_leaves_one(self, collection: Collection) -> None:
        for _ in range(2):
            collection.put_points([chunk("a", 0, explicit(1))])
        assert collection.count() == 1

    def test_an_older_point_does_not_replace_a_newer_one(self, collection: Collection) -> None:
        collection.put_points([chunk("a", 0, explicit(2))])
        collection.put_points([chunk("a", 0, explicit(1)), chunk("b", 0, explicit(1))])
        assert texts(collection) == {"a 0 v2", "b 0 v1"}

    def test_log_versions_of_one_millisecond_are_ordered_by_offset(self, collection: Collection) -> None:
        now = 1_763_800_000_123
        for offset, title in ((10, "new"), (9, "old")):
            collection.put_points([chunk("a", 0, Version("log", now, offset), title=title)])
        assert collection.read_points([point_id("s", "a", 0)])[point_id("s", "a", 0)].payload["title"] == "new"

    @pytest.mark.parametrize(("stored", "coming", "is_written"), _PLACES)
    def test_places_of_the_log_are_ordered_by_time_then_partition_then_offset(
        self, collection: Collection, stored: Version, coming: Version, is_written: bool
    ) -> None:
        """Numbers of one partition never go back: the consumer sees to that."""
        for version, title in ((stored, "stored"), (coming, "coming")):
            collection.put_points([chunk("a", 0, version, title=title), chunk("a", 1, version, title=title)])
            collection.put_heads([head("b", version, 2)])
        expected = "coming" if is_written else "stored"
        assert collection.read_points([point_id("s", "a", 0)])[point_id("s", "a", 0)].payload["title"] == expected
        assert collection.read_heads([head_id("s", "b")])[head_id("s", "b")].version == (coming if is_written else stored)
        # What may be replaced may be removed as surplus, and nothing else.
        collection.put_points([chunk("c", 0, stored), chunk("c", 1, stored)])
        collection.delete_surplus([head("c", coming, 1)])
        assert len(collection.read_points([point_id("s", "c", 0), point_id("s", "c", 1)])) == (1 if is_written else 2)

    def test_the_record_of_the_log_stays_and_no_version_of_a_release_has_it_by_itself(self, store: Store) -> None:
        begun = store.begin(NAME, INFO)
        assert begun.read_log() is None
        record = LogRecord("cluster", "documents", "id-1", "log-time", 3, (0, 17, 5))
        begun.put_log(record)
        begun.close()
        store.finish(NAME)
        opened = store.open(NAME, INFO)
        assert (opened.read_log(), store.log(NAME)) == (record, record)
        opened.put_log(replace(record, mark=None))
        opened.close()
        assert store.log(NAME) == replace(record, mark=None)
        assert store.info(NAME) == INFO

    def test_the_largest_versions_are_told_apart(self, collection: Collection) -> None:
        largest = 2**53 - 1
        collection.put_heads([head("a", explicit(largest), 2)])
        collection.put_heads([head("a", explicit(largest - 1), 1)])
        assert collection.read_heads([head_id("s", "a")])[head_id("s", "a")].version.number == largest

    def test_a_vector_of_another_dimension_is_refused(self, collection: Collection) -> None:
        with pytest.raises(ContractError):
            collection.put_points([chunk("a", 0, explicit(1), (1, 0))])

    # --- heads ---

    def test_heads_come_back_by_id(self, collection: Collection) -> None:
        heads = [head("a", explicit(1), 3), head("b", Version("log", 17, 4), 0, deleted=True)]
        collection.put_heads(heads)
        assert collection.read_heads([one.id for one in heads]) == {one.id: one for one in heads}

    def test_an_older_head_does_not_replace_a_newer_one_nor_a_tombstone(self, collection: Collection) -> None:
        tombstone = head("a", explicit(5), 0, deleted=True)
        collection.put_heads([tombstone])
        collection.put_heads([head("a", explicit(4)), head("b", explicit(4))])
        assert collection.read_heads([tombstone.id])[tombstone.id] == tombstone

    def test_a_head_of_an_equal_version_is_written_again(self, collection: Collection) -> None:
        collection.put_heads([head("a", explicit(5), 1)])
        collection.put_heads([head("a", explicit(5), 2)])
        assert collection.read_heads([head_id("s", "a")])[head_id("s", "a")].chunk_count == 2

    # --- golden texts ---

    def test_golden_vectors_come_back_by_name(self, collection: Collection) -> None:
        assert collection.read_golden() == {}
        collection.put_golden({"short": direction(0, 3, 4, 0), "": direction(1, 0, 0, 0)})
        collection.put_golden({"short": direction(0, 4, 3, 0)})
        found = collection.read_golden()
        assert sorted(found) == ["", "short"]
        np.testing.assert_allclose(found["short"], direction(0, 0.8, 0.6, 0), atol=1e-6)

    def test_golden_points_say_whose_they_are_and_carry_no_vector_that_is_searched(self, collection: Collection) -> None:
        collection.put_golden({"short": direction(1, 0, 0, 0)})
        stored = collection.read_points([golden_id("short")], with_vectors=True)[golden_id("short")]
        assert stored.payload == {"kind": "golden", "name": "short", "release": INFO.release, "space": INFO.space}
        assert stored.vectors == {}

    def test_golden_points_are_met_by_no_search_and_counted_as_nothing_else(self, collection: Collection) -> None:
        collection.put_golden({f"text {number}": direction(1, 0, 0, number) for number in range(20)})
        collection.put_heads([head("a", explicit(1))])
        collection.put_points([chunk("a", 0, explicit(1), (0, 1, 0, 0))])
        collection.optimize()
        for exact in (False, True):
            hits = nearest(collection, direction(1, 0, 0, 0), limit=50, exact=exact)
            assert [hit.payload["kind"] for hit in hits] == ["chunk"]
        assert [collection.count({"kind": kind}) for kind in ("chunk", "head", "golden")] == [1, 1, 20]
        assert collection.count() == 22

    def test_golden_points_outlive_the_documents(self, collection: Collection) -> None:
        collection.put_golden({"short": direction(1, 0, 0, 0)})
        collection.delete_surplus([Head("", "short", explicit(9), True, 0), head("a", explicit(9), 0, deleted=True)])
        assert list(collection.read_golden()) == ["short"]

    def test_golden_vectors_of_another_dimension_are_refused(self, collection: Collection) -> None:
        with pytest.raises(ContractError):
            collection.put_golden({"short": direction(1, 0)})

    # --- surplus ---

    def test_surplus_below_the_count_is_left_to_be_replaced_in_place(self, collection: Collection) -> None:
        """A newer head whose chunks are still to come must not cost the document its old ones."""
        collection.put_points([chunk("a", index, explicit(1)) for index in range(4)])
        collection.put_heads([head("a", explicit(2), 2)])
        collection.delete_surplus([head("a", explicit(2), 2)])
        assert texts(collection) == {"a 0 v1", "a 1 v1"}

    def test_surplus_is_what_is_beyond_the_count(self, collection: Collection) -> None:
        collection.put_points([chunk("a", index, explicit(1)) for index in range(4)])
        collection.put_points([chunk("a", index, explicit(2)) for index in range(2)])
        collection.put_points([chunk("b", 0, explicit(1))])
        collection.delete_surplus([head("a", explicit(2), 2)])
        assert texts(collection) == {"a 0 v2", "a 1 v2", "b 0 v1"}

    def test_surplus_of_an_equal_version_with_fewer_chunks_goes(self, collection: Collection) -> None:
        collection.put_points([chunk("a", index, explicit(1)) for index in range(3)])
        collection.delete_surplus([head("a", explicit(1), 1)])
        assert texts(collection) == {"a 0 v1"}

    def test_surplus_never_takes_what_is_newer(self, collection: Collection) -> None:
        collection.put_points([chunk("a", 0, explicit(3)), chunk("a", 1, explicit(3))])
        collection.delete_surplus([head("a", explicit(2), 1), head("a", explicit(1), 0, deleted=True)])
        assert texts(collection) == {"a 0 v3", "a 1 v3"}

    def test_surplus_of_a_log_version_goes_by_offset_too(self, collection: Collection) -> None:
        collection.put_points([chunk("a", 0, Version("log", 5, 1), text="old"), chunk("a", 1, Version("log", 5, 3), text="new")])
        collection.delete_surplus([head("a", Version("log", 5, 2), 0, deleted=True)])
        assert texts(collection) == {"new"}

    def test_a_tombstone_removes_all_chunks_and_keeps_other_sources(self, collection: Collection) -> None:
        collection.put_points([chunk("a", index, explicit(1)) for index in range(3)])
        collection.put_points([chunk("a", 0, explicit(1), source="other", text="theirs")])
        collection.delete_surplus([head("a", explicit(2), 0, deleted=True)])
        assert texts(collection) == {"theirs"}

    # --- reading in bulk ---

    def test_a_query_returns_the_nearest_chunks_best_first_and_no_heads(self, collection: Collection) -> None:
        collection.put_heads([head(key, explicit(1)) for key in "abc"])
        collection.put_points(
            [
                chunk("a", 0, explicit(1), (1, 0, 0, 0)),
                chunk("b", 0, explicit(1), (1, 1, 0, 0)),
                chunk("c", 0, explicit(1), (0, 0, 1, 0)),
            ]
        )
        hits = nearest(collection, direction(1, 0, 0, 0), limit=2)
        assert [hit.payload["key"] for hit in hits] == ["a", "b"]
        assert [hit.score for hit in hits] == pytest.approx([1.0, 2**-0.5], abs=1e-6)
        assert [hit.payload["key"] for hit in nearest(collection, direction(1, 0, 0, 0), limit=10, exact=True)] == ["a", "b", "c"]

    def test_a_query_can_be_narrowed(self, collection: Collection) -> None:
        collection.put_points(
            [
                chunk("a", 0, explicit(1), tenant="t1", metadata={"team": "red"}),
                chunk("b", 0, explicit(1), tenant="t2", metadata={"team": "blue"}),
                chunk("c", 0, explicit(1), source="other", tenant="t1"),
            ]
        )
        vector = direction(1, 0, 0, 0)

        def keys(where: dict[str, object]) -> set[str]:
            return {hit.payload["key"] for hit in nearest(collection, vector, 10, where)}  # type: ignore[arg-type]

        assert keys({"tenant": "t1"}) == {"a", "c"}
        assert keys({"tenant": "t1", "source": "s"}) == {"a"}
        assert keys({"source": ["s", "other"]}) == {"a", "b", "c"}
        assert keys({"metadata.team": "blue"}) == {"b"}
        assert keys({"tenant": "nobody"}) == set()

    def test_counts_can_be_narrowed(self, collection: Collection) -> None:
        collection.put_heads([head("a", explicit(1), 2)])
        collection.put_points([chunk("a", index, explicit(1)) for index in range(2)])
        assert (collection.count(), collection.count({"kind": "chunk"}), collection.count({"kind": "head"})) == (3, 2, 1)

    def test_scrolling_in_pages_meets_every_point_once(self, collection: Collection) -> None:
        points = [chunk(f"k{number}", 0, explicit(1)) for number in range(7)]
        collection.put_points(points)
        seen, offset = [], None
        while True:
            page, offset = collection.scroll(limit=3, offset=offset, with_vectors=True)
            assert all(point.dense is not None for point in page)
            seen += [point.id for point in page]
            if offset is None:
                break
        assert sorted(seen) == sorted(point.id for point in points)

    # --- vectors by name ---

    def test_each_vector_of_a_point_comes_back_under_its_name(self, with_terms: Collection) -> None:
        written = {"a": sparse({0: 1, 7: 3, LARGEST_ID: LARGEST_WEIGHT}), "no words": sparse({})}
        with_terms.put_points(
            [chunk_with_terms(key, dict(zip(terms.ids, terms.weights, strict=True))) for key, terms in written.items()]
        )
        ids = {key: point_id("s", key, 0) for key in written}
        read = with_terms.read_points(list(ids.values()), with_vectors=True)
        scrolled, _ = with_terms.scroll({"kind": "chunk"}, with_vectors=True)
        for points in (read, {point.id: point for point in scrolled}):
            assert {key: points[id_].vectors[TERMS] for key, id_ in ids.items()} == written
            assert all(np.array_equal(point.dense, direction(1, 0, 0, 0)) for point in points.values())  # type: ignore[arg-type]
        assert [point.vectors for point in with_terms.read_points(list(ids.values())).values()] == [{}, {}]

    def test_a_sparse_ask_scores_by_the_dot_product_and_finds_only_shared_terms(self, with_terms: Collection) -> None:
        with_terms.put_heads([head("a", explicit(1))])
        with_terms.put_golden({"short": direction(1, 0, 0, 0)})
        with_terms.put_points(
            [
                chunk_with_terms("a", {3: 2, 7: 1}),
                chunk_with_terms("b", {7: 5, 9: 100}),
                chunk_with_terms("c", {8: 9}),
                chunk_with_terms("no words", {}),
            ]
        )
        for exact in (False, True):
            assert list(by_terms(with_terms, {3: 10, 7: 1, 11: 50}, exact=exact).items()) == [("a", 21), ("b", 5)]
            assert by_terms(with_terms, {3: 10, 7: 1}, depth=1, exact=exact) == {"a": 21}
            assert by_terms(with_terms, {12: 1}, exact=exact) == {}
            assert by_terms(with_terms, {}, exact=exact) == {}

    def test_named_points_alone_are_scored_and_without_payload(self, with_terms: Collection) -> None:
        with_terms.put_points([chunk_with_terms(key, {3: number}) for number, key in enumerate("abc", start=1)])
        ids = {key: point_id("s", key, 0) for key in "abc"}
        asks = (Ask(TERMS, sparse({3: 10}), 5), Ask(DENSE, direction(1, 0, 0, 0), 5))
        for among, keys in ((("a", "b"), ["b", "a"]), ((), []), (("a", "unknown"), ["a"])):
            named = tuple(ids.get(key, point_id("s", key, 0)) for key in among)
            terms, dense = with_terms.query(Query(asks, exact=True, among=named, with_payload=False))
            assert [(point.id, point.score, point.payload) for point in terms] == [
                (ids[key], 10 * ("abc".index(key) + 1), {}) for key in keys
            ]
            assert {point.id for point in dense} == {ids[key] for key in keys}

    def test_sparse_scores_are_exact_to_the_last_unit(self, with_terms: Collection) -> None:
        with_terms.put_points([chunk_with_terms("a", {1: 4_095, 2: 1}), chunk_with_terms("b", {1: 4_095, 2: 2})])
        assert by_terms(with_terms, {1: 4_096, 2: 3}) == {"b": 4_095 * 4_096 + 6, "a": 4_095 * 4_096 + 3}

    def test_a_sparse_ask_finds_what_comparing_all_finds_before_and_after_the_index_is_built(
        self, with_terms: Collection
    ) -> None:
        numbers = np.random.default_rng(5)
        weights = {
            f"k{row}": {int(id_): int(numbers.integers(1, 9)) for id_ in numbers.choice(60, 8, replace=False)}
            for row in range(200)
        }
        with_terms.put_points([chunk_with_terms(key, terms) for key, terms in weights.items()])
        asked = {id_: id_ % 5 + 1 for id_ in range(0, 60, 7)}
        scores = {key: sum(asked.get(id_, 0) * weight for id_, weight in terms.items()) for key, terms in weights.items()}
        wanted = {key: score for key, score in scores.items() if score}
        for _ in range(2):
            found = by_terms(with_terms, asked, depth=200)
            assert found == wanted
            assert list(found.values()) == sorted(found.values(), reverse=True)
            with_terms.optimize()

    def test_several_asks_of_one_query_are_answered_in_their_order_each_by_its_own_vector(self, with_terms: Collection) -> None:
        with_terms.put_points(
            [
                chunk_with_terms("a", {1: 5}, (1, 0, 0, 0), tenant="t"),
                chunk_with_terms("b", {1: 7, 2: 1}, (1, 1, 0, 0), tenant="t"),
                chunk_with_terms("c", {1: 9, 2: 9}, (1, 0, 0, 0), tenant="other"),
            ]
        )
        asks = (
            Ask(TERMS, sparse({1: 1}), 10),
            Ask(DENSE, direction(1, 0, 0, 0), 1),
            Ask(DENSE, direction(0, 1, 0, 0), 10),
            Ask(TERMS, sparse({2: 4}), 10),
        )
        for exact in (False, True):
            answers = with_terms.query(Query(asks, {"tenant": "t"}, exact))
            assert [[point.payload["key"] for point in points] for points in answers] == [["b", "a"], ["a"], ["b", "a"], ["b"]]
            scores = [[point.score for point in points] for points in answers]
            assert (scores[0], scores[3]) == ([7, 5], [4])
            assert scores[1] == pytest.approx([1], abs=1e-6)
            assert scores[2] == pytest.approx([2**-0.5, 0], abs=1e-6)
        assert with_terms.query(Query(())) == []

    def test_terms_are_replaced_and_removed_with_their_point(self, with_terms: Collection) -> None:
        with_terms.put_points([chunk_with_terms("a", {1: 1}, version=2), chunk_with_terms("b", {1: 2}, version=2)])
        with_terms.put_points([chunk_with_terms("a", {2: 1}, version=3), chunk_with_terms("b", {2: 1}, version=1)])
        assert (by_terms(with_terms, {1: 1}), by_terms(with_terms, {2: 1})) == ({"b": 2}, {"a": 1})
        with_terms.delete_surplus([head("a", explicit(4), 0, deleted=True)])
        assert by_terms(with_terms, {2: 1}) == {}

    def test_a_point_with_other_vectors_than_the_collections_is_refused(self, store: Store) -> None:
        dense, both = store.create(NAME, INFO), store.create(OTHER, replace(WITH_TERMS, release="r000000000002"))
        whole = chunk_with_terms("a", {1: 1})
        with pytest.raises(ContractError, match=r"takes dense .*, not a sparse vector as 'terms'"):
            dense.put_points([whole])
        with pytest.raises(ContractError, match="has no terms"):
            both.put_points([chunk("a", 0, explicit(1))])
        with pytest.raises(ContractError, match="as 'words'"):
            both.put_points([replace(whole, vectors={**whole.vectors, "words": sparse({1: 1})})])
        with pytest.raises(ContractError, match="not a sparse vector as 'dense'"):
            both.put_points([replace(whole, vectors={DENSE: sparse({1: 1}), TERMS: sparse({1: 1})})])
        assert (dense.count(), both.count()) == (0, 0)

    @pytest.mark.parametrize(
        "ask",
        [
            Ask("words", Sparse((1,), (1,)), 5),
            Ask(TERMS, direction(1, 0, 0, 0), 5),
            Ask(DENSE, Sparse((1,), (1,)), 5),
            Ask(DENSE, direction(1, 0), 5),
            Ask("golden", direction(1, 0, 0, 0), 5),  # of the right size, and no search's to name
        ],
    )
    def test_an_ask_for_a_vector_that_the_collection_does_not_have_is_refused(self, with_terms: Collection, ask: Ask) -> None:
        with_terms.put_golden({"short": direction(1, 0, 0, 0)})
        with pytest.raises(ContractError, match=rf"not a .* as '{ask.using}'"):
            with_terms.query(Query((Ask(DENSE, direction(1, 0, 0, 0), 5), ask)))

    def test_a_collection_with_terms_is_built_and_opened_again_with_all_that_it_had(self, store: Store) -> None:
        building = store.begin(NAME, WITH_TERMS)
        building.put_points([chunk_with_terms("a", {1: 2})])
        building.close()
        building = store.begin(NAME, WITH_TERMS)
        building.put_golden({"short": direction(0, 1, 0, 0)})
        building.optimize()
        building.close()
        store.finish(NAME)
        with pytest.raises(MismatchError, match=TERMS):
            store.open(NAME, INFO)
        opened = store.open(NAME, WITH_TERMS)
        assert (opened.info, by_terms(opened, {1: 3}), list(opened.read_golden())) == (WITH_TERMS, {"a": 6}, ["short"])
        assert [hit.payload["key"] for hit in nearest(opened, direction(0, 1, 0, 0), 5)] == ["a"]

    # --- collections ---

    def test_an_open_collection_has_what_was_written(self, store: Store) -> None:
        made = store.create(NAME, INFO)
        made.put_points([chunk("a", 0, explicit(1))])
        made.close()
        made.close()
        opened = store.open(NAME, INFO)
        assert (opened.name, opened.info, texts(opened)) == (NAME, INFO, {"a 0 v1"})

    @pytest.mark.parametrize(
        ("field", "wanted"),
        [
            ("space", replace(INFO, space="space-b")),  # other weights
            ("contract_fingerprint", replace(INFO, contract_fingerprint="d" * 64)),  # another chunker, say
            ("dimension", replace(INFO, vectors=one_dense(8))),
            ("vectors", WITH_TERMS),
        ],
    )
    def test_a_collection_of_something_else_is_not_opened(self, store: Store, field: str, wanted: CollectionInfo) -> None:
        store.create(NAME, INFO).close()
        with pytest.raises(MismatchError) as caught:
            store.open(NAME, wanted)
        assert str(getattr(INFO, field)) in str(caught.value)
        assert str(getattr(wanted, field)) in str(caught.value)
        assert "build" in str(caught.value)

    def test_a_collection_that_is_not_there_is_named(self, store: Store) -> None:
        with pytest.raises(ContractError, match=NAME):
            store.open(NAME, INFO)

    def test_a_name_is_taken_only_once(self, store: Store) -> None:
        store.create(NAME, INFO).close()
        with pytest.raises(ContractError, match=NAME):
            store.create(NAME, INFO)

    def test_a_collection_being_built_is_hidden_until_it_is_finished(self, store: Store) -> None:
        building = store.begin(NAME, INFO)
        building.put_points([chunk("a", 0, explicit(1))])
        building.close()
        assert (store.names(), store.begun()) == ([], [NAME])
        with pytest.raises(ContractError):
            store.open(NAME, INFO)
        with pytest.raises(ContractError):
            store.activate(NAME)
        again = store.begin(NAME, INFO)
        again.put_points([chunk("b", 0, explicit(1))])
        again.put_golden({"short": direction(1, 0, 0, 0)})
        again.optimize()
        again.close()
        store.finish(NAME)
        assert (store.names(), store.begun()) == ([NAME], [])
        opened = store.open(NAME, INFO)
        assert texts(opened) == {"a 0 v1", "b 0 v1"}
        assert list(opened.read_golden()) == ["short"]

    def test_an_unfinished_build_of_something_else_is_not_gone_on_with(self, store: Store) -> None:
        store.begin(NAME, INFO).close()
        with pytest.raises(MismatchError):
            store.begin(NAME, replace(INFO, space="space-b"))

    def test_an_unfinished_build_can_be_dropped_and_begun_anew_as_something_else(self, store: Store) -> None:
        store.begin(NAME, INFO).close()
        store.drop(NAME)
        assert store.begun() == []
        store.begin(NAME, replace(INFO, space="space-b")).close()

    def test_the_active_name_moves_in_one_step_and_back(self, store: Store) -> None:
        assert store.active() is None
        store.create(NAME, INFO).close()
        store.create(OTHER, replace(INFO, release="r000000000002")).close()
        for name in (NAME, OTHER, NAME):
            store.activate(name)
            assert store.active() == name
        assert store.names() == [NAME, OTHER]
        assert store.info(OTHER).release == "r000000000002"

    def test_what_is_not_there_cannot_be_activated(self, store: Store) -> None:
        with pytest.raises(ContractError, match=NAME):
            store.activate(NAME)
        assert store.active() is None

    def test_the_active_collection_cannot_be_dropped_and_others_can(self, store: Store) -> None:
        store.create(NAME, INFO).close()
        store.create(OTHER, replace(INFO, release="r000000000002")).close()
        store.activate(NAME)
        with pytest.raises(ContractError, match="active"):
            store.drop(NAME)
        store.drop(OTHER)
        assert store.names() == [NAME]
        with pytest.raises(ContractError):
            store.drop(OTHER)

    # --- how far a build has come ---

    def test_what_a_build_noted_is_there_again_and_is_no_document(self, store: Store) -> None:
        collection = store.begin(NAME, INFO)
        assert collection.read_build() == {}
        for rows in (1, 2):
            collection.put_build({"snapshot": "s1", "rows": rows})
        collection.put_points([chunk("a", 0, explicit(1))])
        collection.close()
        again = store.begin(NAME, INFO)
        assert again.read_build() == {"snapshot": "s1", "rows": 2}
        assert [point.payload["key"] for point in nearest(again, direction(1, 0, 0, 0), 10)] == ["a"]
        assert again.count({"kind": "chunk"}) == 1
        again.close()

    def test_a_collection_that_was_only_begun_is_listed_and_can_be_dropped(self, store: Store) -> None:
        store.begin(NAME, INFO).close()
        assert (store.begun(), store.names()) == ([NAME], [])
        store.drop(NAME)
        assert store.begun() == []
        store.create(NAME, INFO).close()
        assert (store.begun(), store.names()) == ([], [NAME])
        store.sweep()
        assert store.names() == [NAME]

    # --- the index ---

    @pytest.mark.parametrize("quantization", ["none", "int8", "binary"])
    def test_a_compressed_index_finds_what_exact_search_finds(self, store: Store, quantization: Quantization) -> None:
        index = IndexSettings(m=8, ef_construct=64, ef_search=200, quantization=quantization, oversampling_percent=2_000)
        info = replace(INFO, vectors=one_dense(64), index=index)
        collection = store.create(NAME, info)
        numbers = np.random.default_rng(7)
        vectors = numbers.standard_normal((1_200, 64), np.float32)
        for start in range(0, len(vectors), 400):
            rows = range(start, min(start + 400, len(vectors)))
            collection.put_points([chunk(f"k{row}", 0, explicit(1), vectors[row].tolist()) for row in rows])
        collection.optimize()
        agreed = 0
        for row in range(20):
            asked = vectors[row] + numbers.standard_normal(64, np.float32) / 4
            quick = {point.id for point in nearest(collection, asked, 10)}
            agreed += len(quick & {point.id for point in nearest(collection, asked, 10, exact=True)})
        assert agreed >= (0.7 if quantization == "binary" else 0.97) * 200, agreed
        # rescored: the scores are those of the full vectors
        best = nearest(collection, vectors[3], 1)[0]
        assert (best.payload["key"], best.score) == ("k3", pytest.approx(1.0, abs=1e-5))

    def test_a_collection_with_another_index_is_not_opened(self, store: Store) -> None:
        store.create(NAME, INFO).close()
        wanted = replace(INFO, index=IndexSettings(m=32, quantization="int8"))
        with pytest.raises(MismatchError, match=r"has index .*m=16.*needs .*m=32"):
            store.open(NAME, wanted)
        assert store.info(NAME).index == IndexSettings()

    def test_a_field_of_the_release_can_be_filtered_by(self, store: Store) -> None:
        collection = store.create(NAME, replace(INFO, index=IndexSettings(keywords=("metadata.team",))))
        collection.put_points([chunk(key, 0, explicit(1), metadata={"team": key}) for key in ("a", "b")])
        found = nearest(collection, direction(1, 0, 0, 0), 5, {"metadata.team": "b"})
        assert [point.payload["key"] for point in found] == ["b"]

    # --- conditions ---

    @pytest.mark.parametrize(("condition", "keys"), CONDITIONS)
    def test_a_condition_finds_what_meets_it(self, store: Store, condition: Filter, keys: str) -> None:
        collection = store.create(NAME, replace(INFO, index=IndexSettings(filters=DECLARED)))
        collection.put_points([chunk(key, 0, explicit(1), metadata=metadata) for key, metadata in METADATA.items()])
        found = nearest(collection, direction(1, 0, 0, 0), 20, condition)
        assert "".join(sorted(point.payload["key"] for point in found)) == keys
        page, _ = collection.scroll({"kind": "chunk", **condition}, limit=20)
        assert "".join(sorted(point.payload["key"] for point in page)) == keys
        assert collection.count(condition) == len(keys)

    @pytest.mark.parametrize("number", range(4))
    def test_conditions_find_what_a_look_at_every_document_finds(self, store: Store, number: int) -> None:
        """Random documents and conditions; the oracle reads the documents one by one."""
        draw = random.Random(number)
        collection = store.create(NAME, replace(INFO, index=IndexSettings(filters=DECLARED)))
        documents = {f"k{key}": drawn_metadata(draw) for key in range(40)}
        collection.put_points(
            [chunk(key, 0, explicit(1), metadata=filterable(each, DECLARED)) for key, each in documents.items()]
        )
        for _ in range(25):
            name, condition, meets = drawn_condition(draw)
            found, _ = collection.scroll({"kind": "chunk", f"metadata.{name}": condition}, limit=100)
            expected = {key for key, each in documents.items() if meets(each.get(name))}
            assert {point.payload["key"] for point in found} == expected, (name, condition)

    def test_all_metadata_of_a_head_come_back_and_go_with_the_document(self, collection: Collection) -> None:
        metadata = {"team": "x", "deep": [1, None, {"y": 1.5, "ı": "İ"}]}
        collection.put_heads([Head("s", "a", explicit(1), False, 1, metadata), head("old", explicit(1))])
        found = collection.read_heads([head_id("s", "a"), head_id("s", "old")])
        assert found[head_id("s", "a")].metadata == metadata
        assert found[head_id("s", "old")].metadata is None
        collection.put_heads([Head("s", "a", explicit(2), False, 1, {})])
        assert collection.read_heads([head_id("s", "a")])[head_id("s", "a")].metadata == {}
        collection.put_heads([head("a", explicit(3), 0, deleted=True)])
        assert collection.read_heads([head_id("s", "a")])[head_id("s", "a")].metadata is None
        assert "metadata" not in collection.read_points([head_id("s", "a")])[head_id("s", "a")].payload
