"""Bytes of the log that kafka-python cannot read are set apart with their offsets, and all that lies around them is read."""

import gzip
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import calc_crc32c

from twinline.clients.kafka import fetched
from twinline.clients.kafka.fetched import TRIES, FetchedRecords, Unreadable

PLACE = TopicPartition("documents", 0)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_HEAD = DefaultRecordBatch.HEADER_STRUCT


class RawName(str):
    """A header's name of any bytes: a foreign client need not write UTF-8."""

    __slots__ = ("raw",)
    raw: bytes

    def __new__(cls, raw: bytes) -> "RawName":
        made = super().__new__(cls, raw.decode("latin-1"))
        made.raw = raw
        return made

    def encode(self, *_: Any) -> bytes:
        return self.raw


def batch_of(first: int, values: Sequence[bytes], codec: int = 0, headers: Sequence[Any] = (), **producer: Any) -> bytearray:
    """Return a batch as a broker stores it."""
    options = {"is_transactional": 0, "producer_id": -1, "producer_epoch": -1, "base_sequence": -1, **producer}
    builder = DefaultRecordBatchBuilder(2, codec, batch_size=10_000_000, **options)
    for index, value in enumerate(values):
        assert builder.append(index, 1_000 + index, b"k%d" % index, value, list(headers))
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, first)
    return made


def with_right_checksum(batch: bytearray) -> bytearray:
    struct.pack_into(
        ">I", batch, DefaultRecordBatch.CRC_OFFSET, calc_crc32c(bytes(batch[DefaultRecordBatch.ATTRIBUTES_OFFSET :]))
    )
    return batch


def repacked(batch: bytearray, codec: int, packed: bytes) -> bytearray:
    """Return a batch with other compressed bytes, of a right length and checksum."""
    made = batch[: _HEAD.size] + packed
    attributes = struct.unpack_from(">h", made, DefaultRecordBatch.ATTRIBUTES_OFFSET)[0]
    struct.pack_into(">h", made, DefaultRecordBatch.ATTRIBUTES_OFFSET, attributes & ~7 | codec)
    struct.pack_into(">i", made, 8, len(made) - 12)
    return with_right_checksum(made)


def control(first: int, producer: int, kind: int) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, 0, 10_000)
    builder.append(0, 1_000, struct.pack(">hh", 0, kind), b"\0\0\0\0\0\0", [])
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, first)
    attributes = struct.unpack_from(">h", made, DefaultRecordBatch.ATTRIBUTES_OFFSET)[0]
    struct.pack_into(">h", made, DefaultRecordBatch.ATTRIBUTES_OFFSET, attributes | 0x20)
    return with_right_checksum(made)


def read(log: bytes, at: int = 0, aborted: Sequence[Any] = ()) -> tuple[list[Any], int]:
    """Fetch from `at` until the log's bytes bring no more; return the records and the position."""
    arrivals: dict[Any, int] = {}
    found: list[Any] = []
    for _ in range(200):
        rest = _from(log, at)
        part = FetchedRecords(
            at,
            PLACE,
            MemoryRecords(rest),
            arrivals=arrivals,
            isolation_level=IsolationLevel.READ_COMMITTED,
            aborted_transactions=aborted,
        )
        while part:
            taken = part.take(3)
            found += taken
            at = part.next_fetch_offset
            if not taken:
                assert not part, "kafka-python would spin for ever"
        if not rest:
            return found, at
    raise AssertionError("it never gets on")


def _from(log: bytes, at: int) -> bytes:
    """Return the bytes of the batches from the one with `at` on, as a broker does by their true places."""
    position = 0
    for _, last, size in _places[bytes(log)]:
        if last >= at:
            return bytes(log[position:])
        position += size
    return b""


_places: dict[bytes, list[tuple[int, int, int]]] = {}


def log_of(*batches: tuple[int, int, bytearray]) -> bytes:
    """Return batches as one log; each with its true offsets."""
    log = b"".join(bytes(batch) for _, _, batch in batches)
    _places[log] = [(first, last, len(batch)) for first, last, batch in batches]
    return log


def values(records: Sequence[Any]) -> list[bytes | None]:
    return [record.value for record in records if not isinstance(record, Unreadable)]


def apart(records: Sequence[Any]) -> list[tuple[int, int]]:
    return [(record.offset, record.last) for record in records if isinstance(record, Unreadable)]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_every_codec_is_read_also_from_the_middle_of_a_batch(codec: int) -> None:
    log = log_of((0, 4, batch_of(0, [b"v%d" % n * 400 for n in range(5)], codec)))

    records, position = read(log, 2)

    assert (values(records), position, apart(records)) == ([b"v%d" % n * 400 for n in (2, 3, 4)], 5, [])


def _flip(at: int) -> Callable[[bytearray], bytearray]:
    def damage(batch: bytearray) -> bytearray:
        batch[at] ^= 0x55
        return batch

    return damage


DAMAGES: dict[str, Callable[[bytearray], bytearray]] = {
    # the checksum's own, then each field that it covers, a field that the size of the batch depends on, and records
    "checksum": _flip(DefaultRecordBatch.CRC_OFFSET),
    "attributes": _flip(DefaultRecordBatch.ATTRIBUTES_OFFSET + 1),
    "producer": _flip(45),
    "record": _flip(_HEAD.size + 9),
    "last_byte": _flip(-1),
    "codec_5": lambda batch: repacked(batch, 5, bytes(batch[_HEAD.size :])),
    "codec_7": lambda batch: repacked(batch, 7, bytes(batch[_HEAD.size :])),
    "no_gzip": lambda batch: repacked(batch, 1, b"no gzip at all"),
    "cut_gzip": lambda batch: repacked(batch, 1, gzip.compress(b"x" * 5_000)[:-12]),
    "no_snappy": lambda batch: repacked(batch, 2, b"\xff" * 40),
    "no_lz4": lambda batch: repacked(batch, 3, b"\x04\x22\x4d\x18" + b"\0" * 20),
    "no_zstd": lambda batch: repacked(batch, 4, b"\x28\xb5\x2f\xfd" + b"\xff" * 20),
    "empty_zstd": lambda batch: repacked(batch, 4, b""),
    "gzip_of_something_else": lambda batch: repacked(batch, 1, gzip.compress(b"\xff" * 300)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_batch_that_cannot_be_read_is_set_apart_by_its_offsets_and_its_neighbours_are_read(
    damage: Callable[[bytearray], bytearray],
) -> None:
    log = log_of((0, 1, batch_of(0, [b"a", b"b"])), (2, 4, damage(batch_of(2, [b"x", b"y", b"z"]))), (5, 5, batch_of(5, [b"c"])))

    records, position = read(log)

    assert values(records) == [b"a", b"b", b"c"]
    assert apart(records) == [(2, 4)]
    assert position == 6


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_so_it_is_at_the_end_of_the_log(damage: Callable[[bytearray], bytearray]) -> None:
    log = log_of((0, 1, batch_of(0, [b"a", b"b"])), (2, 4, damage(batch_of(2, [b"x", b"y", b"z"]))))

    records, position = read(log)

    assert (values(records), position) == ([b"a", b"b"], 5)
    assert apart(records)[0][0] == 2
    assert apart(records)[-1][1] == 4


@pytest.mark.parametrize("length", [-1, 0, 3, 48, 10_000_000, 2**31 - 1])
def test_a_batch_whose_length_is_damaged_costs_its_own_offsets_only(length: int) -> None:
    broken = batch_of(2, [b"x", b"y", b"z"])
    struct.pack_into(">i", broken, 8, length)
    log = log_of((0, 1, batch_of(0, [b"a", b"b"])), (2, 4, broken), (5, 5, batch_of(5, [b"c"])))

    records, position = read(log)

    assert (values(records), position) == ([b"a", b"b", b"c"], 6)
    assert [offset for first, last in apart(records) for offset in range(first, last + 1)] == [2, 3, 4]


def test_a_damaged_record_leaves_its_batch_to_the_others() -> None:
    whole = batch_of(0, [b"first", b"second", b"third"])
    # The second record says that it has a header more than it has.
    at = bytes(whole).index(b"second") + len(b"second")
    whole[at] = 2
    log = log_of((0, 2, with_right_checksum(whole)))

    records, position = read(log)

    assert (values(records), apart(records), position) == ([b"first", b"third"], [(1, 1)], 3)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_header_may_have_any_bytes_for_a_name(codec: int) -> None:
    headers = [(RawName(b"\xff\xfe name"), b"\x00\xff"), ("source_uri", b"file:/a")]
    log = log_of((0, 1, batch_of(0, [b"a", b"b"], codec, headers)))

    records, _ = read(log)

    assert values(records) == [b"a", b"b"]
    assert records[0].headers == [("\\xff\\xfe name", b"\x00\xff"), ("source_uri", b"file:/a")]


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_a_batch_that_unpacks_to_too_much_is_set_apart_before_it_does(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, "MOST_UNPACKED_BYTES", 3_000_000)
    packed = batch_of(0, [b"\0" * 4_000_000], CODECS[codec])
    assert len(packed) < 100_000
    log = log_of((0, 0, packed), (1, 1, batch_of(1, [b"c"])))

    records, _ = read(log)

    assert (values(records), apart(records)) == ([b"c"], [(0, 0)])
    assert "unpacks to more than" in records[0].error


def test_markers_and_aborted_transactions_move_the_position_and_bring_nothing() -> None:
    class Aborted:
        producer_id, first_offset = 7, 1

    ours = {"is_transactional": 1, "producer_id": 7, "producer_epoch": 0, "base_sequence": 0}
    log = log_of(
        (0, 0, batch_of(0, [b"plain"])),
        (1, 2, batch_of(1, [b"gone", b"gone too"], **ours)),
        (3, 3, control(3, 7, 0)),
        (4, 4, batch_of(4, [b"kept"], **ours)),
        (5, 5, control(5, 7, 1)),
    )

    records, position = read(log, aborted=[Aborted()])

    assert (values(records), apart(records), position) == ([b"plain", b"kept"], [], 6)


@pytest.mark.parametrize("seed", range(300))
def test_any_damage_leaves_the_batches_around_it_whole(seed: int) -> None:
    chance = random.Random(seed)
    codec = chance.choice(list(CODECS.values()))
    broken = batch_of(3, [chance.randbytes(30) for _ in range(4)], codec, [("h", chance.randbytes(5))])
    # Not the first twelve bytes: a broker finds its batches by them, and refuses them itself.
    for _ in range(chance.randint(1, 8)):
        broken[chance.randrange(12, len(broken))] = chance.randrange(256)
    if chance.random() < 0.5:
        with_right_checksum(broken)
    log = log_of((0, 2, batch_of(0, [b"a", b"b", b"c"])), (3, 6, broken), (7, 7, batch_of(7, [b"d"])))

    records, position = read(log)

    around = [record.value for record in records if not isinstance(record, Unreadable) and record.offset not in range(3, 7)]
    assert (around, position) == ([b"a", b"b", b"c", b"d"], 8)
    assert all(3 <= first <= last <= 6 for first, last in apart(records))


def test_damage_on_the_way_is_fetched_again() -> None:
    good = batch_of(0, [b"a"])
    bad = _flip(-1)(bytearray(good))
    arrivals: dict[Any, int] = {}
    for arrival, log in enumerate((bad, bad, good)):
        part = FetchedRecords(0, PLACE, MemoryRecords(bytes(log)), arrivals=arrivals)
        records = part.take(10)
        assert values(records) == ([b"a"] if log is good else [])
        assert not apart(records)
        assert arrival < TRIES


@pytest.mark.parametrize("at", range(10))
def test_a_transaction_that_was_aborted_long_ago_takes_no_later_one_with_it(at: int) -> None:
    class Old:
        producer_id, first_offset = 7, 0

    class New:
        producer_id, first_offset = 7, 6

    ours = {"is_transactional": 1, "producer_id": 7, "producer_epoch": 0, "base_sequence": 0}
    log = log_of(
        (0, 1, batch_of(0, [b"gone", b"gone too"], **ours)),
        (2, 2, control(2, 7, 0)),
        (3, 4, batch_of(3, [b"kept", b"kept too"], **ours)),
        (5, 5, control(5, 7, 1)),
        (6, 7, batch_of(6, [b"gone again", b"and again"], **ours)),
        (8, 8, control(8, 7, 0)),
        (9, 9, batch_of(9, [b"plain"])),
    )

    # As the embedded broker names them, whatever is fetched.
    records, position = read(log, at, aborted=[Old(), New()])

    wanted = {3: b"kept", 4: b"kept too", 9: b"plain"}
    assert (values(records), position) == ([value for offset, value in wanted.items() if offset >= at], 10)
