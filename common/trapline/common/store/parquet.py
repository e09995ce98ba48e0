"""Exports as Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from trapline.common.store.export import Batch, plain_text
from trapline.common.store.writing import Columns, Sink


@contextmanager
def parquet(columns: Columns, file: BinaryIO) -> Iterator[Sink]:
    """Lend a function that writes batches; times are UTC microseconds, units and descriptions are field metadata.

    Raises
    ------
    ValueError
        When pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet as pq
    except ImportError:
        raise ValueError("Parquet needs pyarrow: pip install 'trapline[science]'") from None
    types = {
        "text": pa.string(), "time": pa.timestamp("us", tz="UTC"), "integer": pa.int64(), "float": pa.float64(),
        "bool": pa.bool_(),
    }  # fmt: skip
    notes = {
        name: {"unit": columns.unit(name), "description": columns.descriptions.get(name)} for name in columns.kinds
    }
    schema = pa.schema(
        pa.field(name, types[kind], metadata={k: v for k, v in notes[name].items() if v})
        for name, kind in columns.kinds.items()
    )
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:

        def take(batch: Batch) -> None:
            values = zip(*batch.rows, strict=True)
            arrays = [_array(kind, v) for kind, v in zip(columns.kinds.values(), values, strict=True)]
            writer.write_batch(
                pa.record_batch([pa.array(a, f.type) for a, f in zip(arrays, schema, strict=True)], schema)
            )

        yield take


def _array(kind: str, values: Any) -> Any:
    if kind == "text":
        return [None if value is None else plain_text(value) for value in values]
    return values
