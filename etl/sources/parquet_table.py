"""The rows of Parquet files. A value that Python cannot hold, such as a date after the year 9999, costs no row."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from etl.sources.cells import without_bytes
from etl.sources.csv_table import duplicate_columns
from etl.sources.items import Reject
from etl.sources.lines import twice_in
from twinline.contract.errors import DocumentError

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet_rows(stream: BinaryIO, place: str) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    """Yield the rows of a Parquet file, numbered from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        file = pq.ParquetFile(stream)
        if twice := _twice(file.schema_arrow):
            yield duplicate_columns(place, twice, 1)
            return
        for batch in file.iter_batches(batch_size=1_000):
            for row in zip(*map(_values, batch.columns), strict=True):
                number += 1
                try:
                    yield number, without_bytes(dict(zip(batch.schema.names, row, strict=True)))
                except DocumentError as exc:
                    yield Reject(place, exc.reason, str(exc), number)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        yield Reject(place, "corrupt_parquet", str(exc)[:500], number + 1)


def _twice(schema: "pa.Schema") -> list[str]:
    """Return the names that stand more than once, among the columns or among the fields of one of them."""
    found = twice_in(schema.names)
    fields = list(schema)
    while fields:
        kind = fields.pop().type
        inner = [kind.field(at) for at in range(kind.num_fields)]
        fields += inner
        found += twice_in([field.name for field in inner])
    return found


def _values(column: "pa.Array") -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        return [_value(scalar) for scalar in column]
    return values


def _value(scalar: "pa.Scalar") -> Any:
    """Return a value, or what can be said of it: a time as text, text that is not UTF-8 as its bytes."""
    import pyarrow as pa

    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        if isinstance(scalar, pa.StructScalar):
            return {name: _value(inner) for name, inner in scalar.items()}
        if isinstance(scalar, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar):
            return [_value(inner) for inner in scalar.values]
        if isinstance(scalar, pa.StringScalar | pa.LargeStringScalar):
            return scalar.as_buffer().to_pybytes()
        if isinstance(scalar, pa.DictionaryScalar):
            return _value(scalar.value)
        try:
            return scalar.cast(pa.string()).as_py()
        except pa.ArrowException:
            return f"{scalar.value} {scalar.type}"
