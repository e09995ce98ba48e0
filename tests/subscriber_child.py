"""Many subscribers in one process: python subscriber_child.py ADDRESS REPORT COUNT [DIES_AFTER].

Each has a connection of its own and reads four channels from their first record. How far the slowest is stands in the
file REPORT, as {channel/partition: next seq}. A hole in what one of them gets ends the process with code 3; with
DIES_AFTER it kills itself after so many events.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from trapline.client import connect_async

CHANNELS = ("images", "sources", "lightcurves", "status")


async def subscribe(address, positions, dies_after):
    async with connect_async(address) as mesh:
        number = 0
        async for event in mesh.subscribe(*CHANNELS, start="first"):
            key = f"{event.place.channel}/{event.place.partition}"
            if event.place.seq != positions.get(key, 0):
                print(f"{key}: {event.place.seq} instead of {positions.get(key, 0)}", flush=True)
                os._exit(3)
            positions[key] = event.place.seq + 1
            number += 1
            if number == dies_after:
                os.kill(os.getpid(), signal.SIGKILL)


async def report(path, all_positions):
    while True:
        keys = set().union(*all_positions)
        slowest = {key: min(positions.get(key, 0) for positions in all_positions) for key in keys}
        new = path.with_suffix(".new")
        new.write_text(json.dumps(slowest))
        new.replace(path)
        await asyncio.sleep(0.2)


async def main(address, path, count, dies_after=0):
    all_positions = [{} for _ in range(int(count))]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(report(Path(path), all_positions))
        for positions in all_positions:
            tasks.create_task(subscribe(address, positions, int(dies_after)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
