"""The content of a fetch as records. Bytes that kafka-python cannot read become a record of their own, with their offsets.

kafka-python raises for such bytes, and its consumer then reads no further, of no partition. Here they are set apart:

record    its fields are damaged and its neighbours whole: it alone
batch     wrong checksum, unknown codec, damaged or excessive compressed bytes: all its offsets together
offset    the batch's header cannot be believed: one offset; the next fetch begins behind it
"""

import gzip
import io
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Self

import lz4.frame
import zstandard
from kafka import KafkaConsumer
from kafka.codec import snappy_decode
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords
from kafka.record.util import decode_varint

# A batch arrives again this often before it is set apart: the bytes may have been damaged on their way.
TRIES: Final = 3
# More than the largest message many times over; a few kilobytes can be made to unpack to gigabytes.
MOST_UNPACKED_BYTES: Final = 256 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024
_MAX_ERROR_CHARS: Final = 500
_OFFSET_BYTES: Final = 8


class Unreadable(ConsumerRecord):  # type: ignore[misc]
    """Stands for the offsets from `offset` to `last`, which nothing here can read; without key, value and headers."""

    last: int
    error: str

    @classmethod
    def at(cls, place: Any, first: int, last: int, error: str) -> Self:
        """Return the record that stands for a stretch of offsets of a partition."""
        made = cls(place.topic, place.partition, -1, first, -1, 1, None, None, [], None, -1, -1, -1)
        made.last, made.error = last, error[:_MAX_ERROR_CHARS]
        return made


def set_apart_unreadable(consumer: KafkaConsumer) -> KafkaConsumer:
    """Let a consumer hand out `Unreadable` records where it would raise; return the consumer."""
    # By the one name under which its fetcher looks for the class: no other client of the process is touched.
    consumer._fetcher.PartitionRecords = partial(FetchedRecords, arrivals={})
    return consumer


class FetchedRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of one partition in one fetch."""

    next_fetch_offset: int

    def __init__(self, fetch_offset: int, place: Any, records: Any, *, arrivals: dict[Any, int], **more: Any) -> None:
        """Read nothing yet.

        Args:
            arrivals: how often damaged bytes have arrived, by place and offset; shared by all fetches of a consumer.
        """
        self._arrivals = arrivals
        # Bytes without one whole batch: its length is damaged. kafka-python would raise for them before anything is read.
        self._has_no_batch = not records.has_next() and records.size_in_bytes() > 0
        if self._has_no_batch:
            records._buffer = b""
        aborted = _aborted_since(more.pop("aborted_transactions", None) or (), fetch_offset, bytes(records._buffer))
        super().__init__(fetch_offset, place, records, aborted_transactions=aborted, **more)

    def _unpack_records(self, place: Any, records: Any, *_: object) -> Iterator[ConsumerRecord]:
        """Yield the records in order. Nothing may be raised in here: kafka-python would then spin on this fetch for ever."""
        if self._has_no_batch and not self._may_arrive_whole(place):
            yield from self._apart(place, self.next_fetch_offset, self.next_fetch_offset, "no whole batch: its length is damaged")
        while (batch := _next_batch(records)) is not None:
            damage = self._damage(batch)
            if damage is not None:
                if self._may_arrive_whole(place):
                    break
                last = _last_offset_of_damaged(batch, records, self.next_fetch_offset)
                yield from self._apart(place, self.next_fetch_offset, last, damage)
                continue
            behind = _next_offset(batch, records)
            if not self._is_to_be_left_out(batch):
                for record in _records_of(batch, behind - 1):
                    if isinstance(record, _Damaged):
                        first = max(record.first, self.next_fetch_offset)
                        if first <= record.last:
                            yield from self._apart(place, first, record.last, record.error)
                        continue
                    self.records_read += 1
                    self.bytes_read += record.size_in_bytes
                    self.next_fetch_offset = max(self.next_fetch_offset, record.offset + 1)
                    yield _consumer_record(place, self.leader_epoch, record)
            # Behind the batch, not behind its last record: markers and compacted records have offsets too.
            self.next_fetch_offset = max(self.next_fetch_offset, behind)
        self.drain()

    def _damage(self, batch: Any) -> str | None:
        """Return why nothing in a batch can be believed; None for a batch whose checksum is right."""
        if isinstance(batch, Exception):
            return str(batch)
        if self.check_crcs and not batch.validate_crc():
            return f"the checksum of the batch at offset {batch.base_offset} is wrong"
        return None

    def _may_arrive_whole(self, place: Any) -> bool:
        self._arrivals[place, self.next_fetch_offset] = self._arrivals.get((place, self.next_fetch_offset), 0) + 1
        return self._arrivals[place, self.next_fetch_offset] < TRIES

    def _apart(self, place: Any, first: int, last: int, error: str) -> Iterator[ConsumerRecord]:
        self._arrivals.pop((place, first), None)
        # A record in the middle of other things: they may have been counted further already.
        self.next_fetch_offset = max(self.next_fetch_offset, last + 1)
        yield Unreadable.at(place, first, last, error)

    def _is_to_be_left_out(self, batch: Any) -> bool:
        """Say whether a batch holds no messages for a consumer: a marker, or a part of an aborted transaction."""
        if batch.magic < 2:
            return False
        self.leader_epoch = batch.leader_epoch
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if batch.is_control_batch:
                if _is_abort(batch):
                    self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


class _Damaged:
    """A stretch of offsets within a batch, both ends inclusive."""

    def __init__(self, first: int, last: int, error: str) -> None:
        self.first, self.last, self.error = first, last, error


def _aborted_since(transactions: Sequence[Any], fetch_offset: int, data: bytes) -> list[Any]:
    """Return the aborted transactions that can have messages in a fetch.

    Apache Kafka names no others. The embedded broker names all that the partition ever had: a later, committed transaction of the
    same producer would then be taken for an aborted one. One that began before the fetch was over by then if the producer's next
    marker commits, for transactions of a producer do not overlap.
    """
    earlier = {each.producer_id: each for each in sorted(transactions, key=_first_offset) if each.first_offset < fetch_offset}
    if not earlier:
        return list(transactions)
    next_is_abort = _next_markers(data, fetch_offset)
    return [
        each
        for each in transactions
        if each.first_offset >= fetch_offset or (each is earlier[each.producer_id] and next_is_abort.get(each.producer_id, True))
    ]


def _first_offset(transaction: Any) -> int:
    return int(transaction.first_offset)


def _next_markers(data: bytes, fetch_offset: int) -> dict[int, bool]:
    """Return, by producer, whether its first marker in a fetch aborts."""
    found: dict[int, bool] = {}
    records = MemoryRecords(data)
    while (batch := _next_batch(records)) is not None:
        if isinstance(batch, DefaultRecordBatch) and batch.is_control_batch and batch.base_offset >= fetch_offset:
            found.setdefault(batch.producer_id, _is_abort(batch))
    return found


def _next_batch(records: Any) -> Any:
    """Return the next batch, the error that its header raises, or None after the last whole one."""
    try:
        return records.next_batch()
    except (CorruptRecordError, struct.error, ValueError, IndexError) as exc:
        # The next one's place is unknown too where this one is too short to have a length.
        records._next_slice = None
        return CorruptRecordError(f"a batch has no readable header ({exc})")


def _next_offset(batch: Any, records: Any) -> int:
    """Return the offset behind a batch with a right checksum, never beyond the batch that follows."""
    # In the format of before Kafka 0.11, the offset of a batch is that of its last record.
    behind = int(batch.next_offset if batch.magic >= 2 else batch.base_offset + 1)
    following = _following_offset(records)
    return behind if following is None else min(behind, following)


def _following_offset(records: Any) -> int | None:
    following = records._next_slice
    return int(struct.unpack_from(">q", following)[0]) if following is not None and len(following) >= _OFFSET_BYTES else None


def _last_offset_of_damaged(batch: Any, records: Any, at: int) -> int:
    """Return the last offset of a batch whose header may be damaged too; `at`, the first one, where nothing says more."""
    following = _following_offset(records)
    if following is not None:
        return max(at, following - 1)
    if isinstance(batch, DefaultRecordBatch) and batch.records_count == batch.last_offset_delta + 1 and batch.base_offset <= at:
        # Two fields that say the same.
        return max(at, int(batch.last_offset))
    return at


def _records_of(batch: Any, last: int) -> Iterator[Any]:
    """Yield the records of a batch with a right checksum, and a `_Damaged` for what cannot be read in it."""
    try:
        if isinstance(batch, DefaultRecordBatch):
            _unpack(batch)
    except MemoryError:
        raise
    except Exception as exc:  # noqa: BLE001  each codec's library has errors of its own
        yield _Damaged(batch.base_offset, last, f"the compressed batch cannot be unpacked: {type(exc).__name__}: {exc}")
        return
    begins = batch._pos if isinstance(batch, DefaultRecordBatch) else 0
    try:
        read = list(batch)
        if isinstance(batch, DefaultRecordBatch) and any(not batch.base_offset <= record.offset <= last for record in read):
            raise CorruptRecordError("a record has an offset beyond its batch")
    except (CorruptRecordError, ValueError, IndexError, struct.error, EOFError, OSError) as exc:
        if isinstance(batch, DefaultRecordBatch):
            yield from _one_by_one(batch, begins, last)
        else:
            yield _Damaged(batch.base_offset, last, f"{type(exc).__name__}: {exc}")
    else:
        yield from read


def _one_by_one(batch: DefaultRecordBatch, begins: int, last: int) -> Iterator[Any]:
    """Yield the records of an unpacked batch, each by the length that stands before it."""
    data, position, offset = bytes(batch._buffer), begins, batch.base_offset
    for _ in range(batch.records_count):
        try:
            length, start = decode_varint(data, position)
            end = start + length
            if length < 0 or end > len(data):
                raise CorruptRecordError(f"a record of {length} bytes, of which the batch has {len(data) - start}")
        except (CorruptRecordError, ValueError, IndexError) as exc:
            yield _Damaged(offset, last, f"the rest of a batch has no readable records: {exc}")
            return
        position = end
        try:
            record = _record(batch, data[start:end], last)
        except (CorruptRecordError, ValueError, IndexError) as exc:
            yield _Damaged(offset, offset, f"damaged fields of a record: {type(exc).__name__}: {exc}")
            offset += 1
        else:
            yield record
            offset = record.offset + 1


def _record(batch: DefaultRecordBatch, data: bytes, last: int) -> DefaultRecord:
    """Return a record; names of headers may hold any bytes, which kafka-python takes for damage."""
    length = len(data)

    def part(at: int, needed: bool) -> tuple[bytes | None, int]:
        size, at = decode_varint(data, at)
        if size < 0 and not needed:
            return None, at
        if size < 0 or at + size > length:
            raise CorruptRecordError(f"a field of {size} bytes, of which the record has {length - at}")
        return data[at : at + size], at + size

    _, at = decode_varint(data, 0)  # attributes: none is defined
    time_delta, at = decode_varint(data, at)
    offset_delta, at = decode_varint(data, at)
    key, at = part(at, needed=False)
    value, at = part(at, needed=False)
    count, at = decode_varint(data, at)
    headers = []
    for _ in range(count):
        name, at = part(at, needed=True)
        said, at = part(at, needed=False)
        headers.append(((name or b"").decode("utf-8", "backslashreplace"), said))
    if count < 0 or at != length or not 0 <= offset_delta <= last - batch.base_offset:
        raise CorruptRecordError(f"{count} headers, {at} of {length} bytes read, offset {offset_delta} of the batch")
    time = batch.max_timestamp if batch.timestamp_type == batch.LOG_APPEND_TIME else batch.first_timestamp + time_delta
    return DefaultRecord(length, batch.base_offset + offset_delta, time, batch.timestamp_type, key, value, headers)


def _is_abort(batch: DefaultRecordBatch) -> bool:
    try:
        return bool(next(batch).abort)
    except (CorruptRecordError, StopIteration, struct.error, ValueError, IndexError):
        # An emptied marker, as compaction leaves it, ends no transaction.
        return False


def _unpack(batch: DefaultRecordBatch) -> None:
    """Unpack a batch in place, up to `MOST_UNPACKED_BYTES`; kafka-python has no limit."""
    if batch.compression_type == batch.CODEC_NONE:
        return
    batch._assert_has_codec(batch.compression_type)
    data = bytes(memoryview(batch._buffer)[batch._pos :])
    batch._buffer, batch._pos, batch._decompressed = bytearray(_UNPACK[batch.compression_type](data)), 0, True


def _bounded(stream: Any) -> bytes:
    pieces, total = [], 0
    while piece := stream.read(_PIECE_BYTES):
        total += len(piece)
        if total > MOST_UNPACKED_BYTES:
            raise CorruptRecordError(f"it unpacks to more than {MOST_UNPACKED_BYTES} bytes")
        pieces.append(piece)
    return b"".join(pieces)


_UNPACK: Final[Mapping[int, Callable[[bytes], bytes]]] = {
    DefaultRecordBatch.CODEC_GZIP: lambda data: _bounded(gzip.GzipFile(fileobj=io.BytesIO(data))),
    # Its packing is bounded by its format: at most some twenty bytes out of each.
    DefaultRecordBatch.CODEC_SNAPPY: snappy_decode,
    DefaultRecordBatch.CODEC_LZ4: lambda data: _bounded(lz4.frame.LZ4FrameFile(io.BytesIO(data))),
    DefaultRecordBatch.CODEC_ZSTD: lambda data: _bounded(
        zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True)
    ),
}


def _consumer_record(place: Any, leader_epoch: int, record: Any) -> ConsumerRecord:
    key_size = len(record.key) if record.key is not None else -1
    value_size = len(record.value) if record.value is not None else -1
    return ConsumerRecord(
        place.topic,
        place.partition,
        leader_epoch,
        record.offset,
        record.timestamp,
        record.timestamp_type,
        record.key,
        record.value,
        record.headers,
        record.checksum,
        key_size,
        value_size,
        -1,
    )
