"""`trapline associator rebuild`: a new snapshot from the store, or none, so that the next start reads the journals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

from trapline.associator.beginning import lost_beginnings, snapshot_path
from trapline.associator.config import AssociatorConfig
from trapline.associator.rebuilding import Unknown, rebuilt_state
from trapline.associator.regions import domain_of
from trapline.associator.snapshot import dump
from trapline.associator.stored import Stored, is_measured, read_stored, stored_until
from trapline.associator.told import Told, read_told
from trapline.common.config import ConfigError
from trapline.common.config.mesh import MeshConfig
from trapline.common.journal import JournalError, JournalWriter, PartitionReader
from trapline.common.postgres.connection import Connection, open_database, run_blocking
from trapline.common.postgres.migrate import refuse_other_schema
from trapline.common.runtime.order import pack_progress
from trapline.common.runtime.snapshot import write_snapshot
from trapline.common.supervisor.database import existing_database
from trapline.schemas.columns import array_to_ids
from trapline.schemas.message import decode_header

Source = Literal["auto", "journals", "store"]


class CannotRebuildError(ValueError):
    """Why the state cannot be made anew. The text says what would mend it."""


def rebuild(config: MeshConfig, replica: str, source: Source) -> Iterator[str]:
    """Make the state of a stopped associator anew, and yield lines that say what was done and what is lacking.

    Parameters
    ----------
    replica
        Which associator.
    source
        ``journals``: its next start reads them from the beginning, and the state is what it was. ``store``: from what
        is stored and what its own newest records say. ``auto``: journals when they reach back, else the store.

    Raises
    ------
    CannotRebuildError
        When the associator runs, or what is needed is gone.
    DatabaseError
        When there is no store, or it cannot be read.
    """
    told = config.journal_directory / "lightcurves" / replica
    snapshot = snapshot_path(config, replica)
    _refuse_while_running(told, config)
    cut = lost_beginnings(config, replica)
    if source == "journals" and not told.is_dir():
        raise CannotRebuildError(f"there is no journal {told}: is this the directory of a mesh, or its --config named?")
    if source == "journals" and cut:
        raise CannotRebuildError(
            f"the state cannot be made anew from the journals: {'; '.join(cut)}. From the store: --from store"
        )
    if source == "store" or cut or not told.is_dir():
        if source == "auto":
            yield f"from the store, since {'; '.join(cut) or f'there is no journal {told}'}"
        yield from _from_store(config, replica, snapshot)
        return
    yield from _put_aside(snapshot)
    records = PartitionReader(told).next_seq
    yield f"the next start of associator-{replica} makes its state anew from {records} records"


def _from_store(config: MeshConfig, replica: str, snapshot: Path) -> Iterator[str]:
    settings = cast("AssociatorConfig", config.service("associator"))
    try:
        domain = domain_of({r.owner: r.cells for r in settings.regions}, replica, settings.margin_deg)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    stored, told = _read_all(config, settings, replica)
    state, unknown = rebuilt_state(stored, told, settings, domain)
    header, arrays = dump(state)
    values = {"state": header, "consumed": pack_progress(told.consumed), "outputs": told.since}
    yield from _put_aside(snapshot)
    write_snapshot(snapshot, values, arrays)
    for dataset, sky in state.skies.items():
        yield (
            f"dataset {dataset!r}: {len(sky.catalogue)} objects, {len(sky.bands)} bands, {sky.n_measured} images that "
            "set limits"
        )
    yield from _lacking(unknown, told)
    ahead = len(told.later)
    again = f", which takes the last {ahead} steps that are not stored once more" if ahead else ""
    yield f"{snapshot} is for the next start of associator-{replica}{again}"


def _read_all(config: MeshConfig, settings: AssociatorConfig, replica: str) -> tuple[list[Stored], Told]:
    """Return what the store knows, and what the journals say before the first record that is not stored."""
    points = settings.history_points if settings.features else 0

    async def read(con: Connection) -> tuple[list[Stored], Told]:
        async with con.transaction(isolation="repeatable_read", readonly=True):
            await con.execute("SET LOCAL statement_timeout = 0")
            await con.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            told = _read_journals(config, replica, await stored_until(con, replica))
            await _drop_answered(con, told)
            return await read_stored(con, points, forced=settings.forced_statistics), told

    async def connected(dsn: str) -> tuple[list[Stored], Told]:
        opening = open_database(dsn, config.database, program="trapline associator rebuild", read_only=True)
        async with opening as database, database.connection() as con:
            await refuse_other_schema(con)
            return await read(con)

    with existing_database(config) as database:
        return run_blocking(lambda: connected(database.dsn))


def _read_journals(config: MeshConfig, replica: str, until: int) -> Told:
    """Return what the own journals say before the first record that is not stored.

    Raises
    ------
    CannotRebuildError
        When they are not those that the store was filled from, or what the records behind it were made of is gone.
    """
    path = config.journal_directory / "lightcurves" / replica
    reader = PartitionReader(path) if path.is_dir() else None
    end = 0 if reader is None else reader.next_seq
    if until > end:
        raise CannotRebuildError(
            f"the store has read lightcurves/{replica} up to record {until}, and the journal {path} ends at {end}: it "
            "is another one, whose records the store would take for old ones. Give this host a name of its own, "
            '[mesh] host = "NAME", and begin with that (the store then serves as a whole)'
        )
    missing = None if reader is None else _missing_input(config.journal_directory, reader, until)
    if missing:
        raise CannotRebuildError(
            f"lightcurves/{replica} has {end - until} records that are not in the store, and what they were made of is "
            f"gone ({missing}): let the dumper store them (`trapline relay`, `trapline run database_dumper`), and then "
            "do this again"
        )
    return read_told(config.journal_directory, replica, until)


async def _drop_answered(con: Connection, told: Told) -> None:
    """Drop the requests whose answers are stored, where the records that took them are gone."""
    unsure, told.requests = told.requests[: told.unsure], told.requests[told.unsure :]
    for request in reversed(unsure):
        ids, kinds = array_to_ids(request.arrays["object_id"]), request.arrays["kind"]
        parents = request.header.parents
        if ids and parents and not await is_measured(con, parents[0], ids[0], int(kinds[0])):
            told.requests.insert(0, request)


def _missing_input(journals: Path, reader: PartitionReader, since: int) -> str | None:
    """Return an input of a record from `since` on that its journal, when it is on this host, no longer has."""
    first: dict[Path, int] = {}
    if since < reader.first_seq:
        return f"the journal begins at record {reader.first_seq}"
    for _, frame in reader.first_frames(since):
        for place in decode_header(frame).consumed:
            directory = journals / place.channel / place.partition
            if directory not in first:
                first[directory] = PartitionReader(directory).first_seq if directory.is_dir() else 0
            if place.seq < first[directory]:
                return str(place)
    return None


def _lacking(unknown: Unknown, told: Told) -> Iterator[str]:
    """Yield what could not be recovered."""
    if unknown.images:
        yield (
            f"not recovered: limits of {unknown.images} images (not measured, stored by an older version, or of "
            "pointings long ago): where only they looked, a new source is no transient"
        )
    if unknown.first_positions:
        yield f"{unknown.first_positions} objects: first detection no longer stored; their mean stands in its place"
    if unknown.watch_positions:
        yield f"{unknown.watch_positions} objects: measured from now on at their mean, not where they were before"
    if unknown.weights:
        yield f"{unknown.weights} statistics: stored by an older version; their weights are estimated"
    if unknown.requests:
        yield f"not recovered: {unknown.requests} requests for forced values, whose image is not known any more"
    if not told.consumed and told.until:
        yield "not recovered: which inputs were taken; images that come again are known by their ids"


def _put_aside(snapshot: Path) -> Iterator[str]:
    if snapshot.exists():
        aside = snapshot.with_suffix(".aside")
        snapshot.replace(aside)
        yield f"put aside as {aside}"


def _refuse_while_running(directory: Path, config: MeshConfig) -> None:
    if not directory.is_dir():
        return
    try:
        JournalWriter(directory, **config.journal.writer_options("lightcurves")).close()
    except JournalError as error:
        raise CannotRebuildError(f"{error}: stop the associator first") from None
