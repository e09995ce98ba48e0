"""A process that stores a night as the dumper does, record by record, until it is killed or done.

Run as ``python -m store_child DSN SEED`` with `tests` in the path; it prints ``stored N`` after each commit.
"""

from __future__ import annotations

import asyncio
import sys

import lightcurve_messages as mesh
from bins_of_messages import some_days
from trapline.common.channel import Record
from trapline.common.postgres.connection import open_database
from trapline.common.relay.requests import Cursor
from trapline.common.runtime.context import Backoff
from trapline.common.runtime.sink import Unavailable
from trapline.database_dumper.binning import Binning
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.service import Care, LightcurveStore
from trapline.schemas.message import encode


async def main(dsn: str, seed: int) -> None:
    messages, backoff = some_days(seed), Backoff(0.5)
    frames = [[bytes(frame) for frame in encode(message)] for message in messages]
    async with open_database(dsn) as database:
        config = DumperConfig(point_partition_s=1800, segment_after_s=60)
        # All that is done for what is stored is done after each record, a few rows at a time.
        store = LightcurveStore(database, "torture", Binning(config), care=Care(every_s=0, rows=5))
        done = None
        while done is None or done < len(frames):
            try:
                if done is None:
                    done = max((cursor.seq for cursor in await store.positions()), default=0)
                    continue
                record = Record(mesh.place("lightcurves", done), 0, frames[done])
                await store.store([record], [Cursor("lightcurves", "0", done + 1, 0)])
            except Unavailable:
                await asyncio.sleep(backoff.next_s())
            else:
                done += 1
                backoff.reset()
                print("stored", done, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
