"""`open_store`: the lightcurve store in notebooks and scripts, as astropy tables.

>>> from trapline.client import open_store
>>> store = open_store("night.store")                              # doctest: +SKIP
>>> objects = store.objects(cone=(350.85, 58.81, 0.5))             # doctest: +SKIP
>>> store.lightcurve(objects["object"][0])["time", "flux_int"]     # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

from trapline.common.config.mesh import MeshConfig, load_config
from trapline.common.postgres.connection import Connection, Database, open_database
from trapline.common.postgres.migrate import refuse_other_schema
from trapline.common.store.arguments import When, as_cone, as_id, as_time
from trapline.common.store.events import find_images, find_transients
from trapline.common.store.export import EXPORTS, Batch, batches
from trapline.common.store.history import history
from trapline.common.store.lightcurve import MOST_POINTS, Resolution, lightcurve
from trapline.common.store.objects import FoundObject, ObjectFilter, find_objects
from trapline.common.store.polygon import Polygon
from trapline.common.store.series import Window
from trapline.common.supervisor.database import existing_database

T = TypeVar("T")


class LightcurveReader:
    """The store, read-only: each call is one query. Made by `open_store`; usable with or without ``with``."""

    def __init__(self, config: MeshConfig) -> None:
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="trapline store", daemon=True)
        thread.start()
        open_things = ExitStack()
        # What a notebook forgets to close is closed with it, an embedded server too.
        self._finalizer = weakref.finalize(self, _close, self._loop, thread, open_things)
        try:
            dsn = open_things.enter_context(existing_database(config)).dsn
            stack = AsyncExitStack()
            opening = open_database(dsn, config.database, program="trapline read", read_only=True)
            self._database: Database = self._call(stack.enter_async_context(opening))
            open_things.callback(_run_in, self._loop, stack.aclose)
            self._read(refuse_other_schema)
        except BaseException:
            self._finalizer()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and an embedded server that was started for it."""
        self._finalizer()

    def objects(self, *, cone: Any = None, region: Sequence[tuple[float, float]] | None = None, **filters: Any) -> Any:
        """Return objects as an astropy `Table`, nearest first.

        Parameters
        ----------
        cone
            (ra, dec, radius) in ICRS degrees, or (`SkyCoord`, radius as an angle or in degrees).
        region
            Three or more corners (ra, dec) in ICRS degrees, joined by great circles.
        **filters
            Fields of `ObjectFilter`: dataset, band, min_points, min_v, min_eta, seen_since, kind, retired.

        Raises
        ------
        ValueError
            When the cone or the region is none.
        """
        from trapline.common.store.tables import kinds_of, table_of

        polygon = None if region is None else Polygon.of(region)
        if filters.get("seen_since") is not None:
            filters["seen_since"] = as_time(filters["seen_since"])
        wanted = ObjectFilter(cone=as_cone(cone), region=polygon, **filters)
        rows = self._all(lambda con: find_objects(con, wanted))
        names = FoundObject.__struct_fields__
        return table_of(kinds_of(FoundObject.__annotations__), ([getattr(r, n) for n in names] for r in rows))

    def lightcurve(
        self,
        object_id: str | bytes | UUID,
        band: str | None = None,
        since: When = None,
        until: When = None,
        *,
        resolution: Resolution = "auto",
        most: int = MOST_POINTS,
    ) -> Any:
        """Return the lightcurve of an object as an astropy `TimeSeries`, with what it inherited.

        Parameters
        ----------
        object_id
            As `objects` and `transients` have it.
        band
            Only this band.
        since, until
            Observation time, from and up to but not including.
        resolution
            ``point``, ``minute``, ``hour``, ``day``, or ``auto``: the finest with no more than `most` rows. Where
            points are no longer kept, bins stand in their place; `width_s` tells which is which.

        Raises
        ------
        LookupError
            When there is no such object, or it was not measured in this band.
        """
        from trapline.common.store.timeseries import time_series

        key, window = as_id(object_id), Window(as_time(since), as_time(until))
        return time_series(self._read(lambda con: lightcurve(con, key, band, window, resolution, most)))

    def history(
        self,
        objects: Any = None,
        since: When = None,
        until: When = None,
        *,
        cone: Any = None,
        region: Sequence[tuple[float, float]] | None = None,
        forced: bool = True,
    ) -> Any:
        """Return all points of many objects as an astropy `Table`, in the order of object and time.

        Parameters
        ----------
        objects
            Their ids; or give a `cone` or a `region`, as for `objects`.
        since, until
            Observation time; by default the twelve months before the newest image.
        cone, region
            Where the objects are now.
        forced
            Also what was measured because the position was known.
        """
        from trapline.common.store.timeseries import history_table

        if objects is None:
            objects = self.objects(cone=cone, region=region)["object"]
        keys = [as_id(key) for key in objects]
        window = None if since is None and until is None else Window(as_time(since), as_time(until))
        return history_table(self._read(lambda con: history(con, keys, window, forced=forced)))

    def transients(self, since: When = None, until: When = None, *, cone: Any = None, **filters: Any) -> Any:
        """Return events as an astropy `Table`, in the order of time.

        ``filters`` are dataset, kind ("new_source", "flare", ...), alert_type ("initial", "update", "retraction"), role
        ("observation", "test", "injection") and object_id.
        """
        window, circle = Window(as_time(since), as_time(until)), as_cone(cone)
        if filters.get("object_id") is not None:
            filters["object_id"] = UUID(bytes=as_id(filters["object_id"]))
        return self._table("transients", lambda con: find_transients(con, window, cone=circle, **filters))

    def images(self, since: When = None, until: When = None, *, cone: Any = None, **filters: Any) -> Any:
        """Return images as an astropy `Table`, in the order of time; `cone` holds their centres.

        ``filters`` are dataset, band, and rejected (True or False).
        """
        window, circle = (as_time(since), as_time(until)), as_cone(cone)
        return self._table("images", lambda con: find_images(con, *window, cone=circle, **filters))

    def stream(self, what: str, dataset: str | None = None, rows: int = 50_000) -> Iterator[Any]:
        """Yield a whole export ("objects", "lightcurves", "transients", "images") as tables of some rows each.

        All of it is as it was at the start; memory does not grow with the number of rows.
        """
        from trapline.common.store.tables import table_of

        found = self._batches(what, dataset, rows)
        batch: Batch | None
        try:
            while (batch := self._call(anext(found, None))) is not None:
                yield table_of(batch.kinds, batch.rows)
        finally:
            if self._finalizer.alive:
                self._call(found.aclose())

    async def _batches(self, what: str, dataset: str | None, rows: int) -> AsyncGenerator[Batch]:
        async with self._database.connection() as con:
            async for batch in batches(con, what, dataset, rows):
                yield batch

    def _table(self, what: str, query: Any) -> Any:
        from trapline.common.store.tables import table_of

        return table_of(EXPORTS[what].kinds, self._all(query))

    def _all(self, query: Any) -> list[Any]:
        async def collect(con: Connection) -> list[Any]:
            found: AsyncIterator[Any] = query(con)
            return [row async for row in found]

        rows: list[Any] = self._read(collect)
        return rows

    def _read(self, query: Any) -> Any:
        async def connected() -> Any:
            async with self._database.connection() as con:
                return await query(con)

        return self._call(connected())

    def _call(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        future = asyncio.run_coroutine_threadsafe(awaited(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C reaches only this thread
            raise


def open_store(where: str | Path | None = None) -> LightcurveReader:
    """Return the lightcurve store, read-only.

    Parameters
    ----------
    where
        ``postgresql://reader@host/name``; or a directory of ``trapline process --store`` or ``trapline up``; or a
        mesh.toml. By default what the configuration in this directory says.

    Raises
    ------
    ConfigError, DatabaseError
        When there is no store, or it does not answer; the text says what would mend it.
    """
    text = "" if where is None else str(where)
    if text.startswith(("postgresql://", "postgres://")):
        return LightcurveReader(load_config(database={"dsn": text}))
    path = Path(text)
    if where is None or path.is_file():
        return LightcurveReader(load_config(path if where is not None else None))
    if not path.is_dir():
        raise ValueError(f"{text!r} is neither postgresql://..., nor a directory with a store, nor a mesh.toml")
    return LightcurveReader(load_config(mesh={"data_directory": str(path)}))


def _run_in(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run_coroutine_threadsafe(work(), loop).result()


def _close(loop: asyncio.AbstractEventLoop, thread: threading.Thread, open_things: ExitStack) -> None:
    open_things.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
