"""What can be stored of a record that cannot be stored as a whole: all objects but those whose rows are at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import asyncpg
import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.database_dumper.binning import Binning
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.core import rows_of
from trapline.database_dumper.store import write_rows
from trapline.schemas.columns import Array, Arrays, array_to_ids
from trapline.schemas.header import Header, Place
from trapline.schemas.lightcurves import PENDING, POINTS, STATES, Lightcurves
from trapline.schemas.message import Message

_MOST_REFUSED = 100
_AT_FAULT = (ValueError, OverflowError, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
_TABLES = (POINTS, STATES, PENDING)


async def refused_objects(
    con: Connection, place: Place, message: Message[Header], config: DumperConfig
) -> Mapping[bytes, str] | None:
    """Return the objects of a record whose rows cannot be stored, and why; nothing is left of the trials.

    Parameters
    ----------
    con
        A connection that is not in a transaction.
    place, message
        The record.
    config
        Of the dumper.

    Returns
    -------
    mapping or None
        Reasons by object. None when leaving out objects does not help: the record has none, is at fault without them,
        or has more than a hundred that are.
    """
    if not isinstance(message.header, Lightcurves):
        return None
    if await _fault(con, place, only(message, ()), config) is not None:
        return None
    objects = sorted({i for table in _TABLES[:2] for i in array_to_ids(_ids(table.select(message.arrays)))})
    refused: dict[bytes, str] = {}
    waiting = [objects]
    while waiting and len(refused) <= _MOST_REFUSED:
        some = waiting.pop()
        reason = await _fault(con, place, only(message, some), config) if some else None
        if reason is not None and len(some) == 1:
            refused[some[0]] = reason
        elif reason is not None:
            waiting += [some[: len(some) // 2], some[len(some) // 2 :]]
    return refused if refused and not waiting else None


def only(message: Message[Header], objects: Sequence[bytes]) -> Message[Header]:
    """Return a record of `lightcurves` with the rows of some objects; its forks and retirements stay."""
    wanted, arrays = set(objects), dict(message.arrays)
    for table in _TABLES:
        columns = table.select(arrays)
        if columns:
            chosen = np.fromiter((i in wanted for i in array_to_ids(_ids(columns))), bool)
            arrays |= table.prefixed({name: column[chosen] for name, column in columns.items()})
    return replace(message, arrays=arrays)


def without(message: Message[Header], refused: Mapping[bytes, str]) -> Message[Header]:
    """Return a record of `lightcurves` without the rows of some objects."""
    kept = {i for table in _TABLES for i in array_to_ids(_ids(table.select(message.arrays)))} - set(refused)
    return only(message, sorted(kept))


async def _fault(con: Connection, place: Place, message: Message[Header], config: DumperConfig) -> str | None:
    """Return why a record cannot be stored, from trying to; None when it can."""
    try:
        rows = rows_of(place, message)
        trial = con.transaction()
        await trial.start()
        try:
            await write_rows(con, [rows], Binning(config))
        finally:
            await trial.rollback()
    except _AT_FAULT as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def _ids(columns: Arrays) -> Array:
    return columns.get("object_id", np.zeros((0, 16), np.uint8))
