"""Values of headers as columns take them: nothing that a stranger sends makes the server refuse a row."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from trapline.common.ids import fact_id
from trapline.database_dumper.binary_copy import MAX_T_US, MIN_T_US
from trapline.schemas.columns import SchemaError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_INTEGER = (1 << 31) - 1


def dataset_id(name: str) -> bytes:
    """Return the id of a dataset: its name is all there is to it."""
    return fact_id(0, "dataset", name)


def position_id(reader: str, channel: str, partition: str) -> bytes:
    """Return the id of a read position."""
    return fact_id(0, "position", reader, channel, partition)


def as_uuid(fact: bytes) -> uuid.UUID:
    """Return an id as the driver takes it."""
    return uuid.UUID(bytes=fact)


def as_text(text: str) -> str:
    """Return text that a column can hold: the one character that none can, NUL, is marked as unreadable."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def as_time(t_us: int, what: str) -> datetime:
    """Return a time since 1970-01-01 UTC, exact to the microsecond, or raise `SchemaError`."""
    if not MIN_T_US <= t_us <= MAX_T_US:
        raise SchemaError(f"{what} = {t_us} us lies outside the years 1 to 9999")
    return _EPOCH + timedelta(microseconds=t_us)


def as_integer(value: int, what: str) -> int:
    """Return a count that a column can hold, or raise `SchemaError`."""
    if not -_MAX_INTEGER <= value <= _MAX_INTEGER:
        raise SchemaError(f"{what} = {value} does not fit an integer column (up to {_MAX_INTEGER})")
    return value
