"""Ten people who keep the dashboard open: what their browsers ask for, without the browsers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

from bench.helpers import Helper, helper, told

PAGES = (
    *[("/", "status,transients")] * 4, *[("/transients", "transients,triage")] * 2, ("/images", "images,sources"),
    ("/log", "dead_letters,status"), *[("/sky/changes?since={}", "sky")] * 2,
)  # fmt: skip
"""what each of them looks at: the page, and what its ticks are about; a map asks for what is new to it"""


class Viewers:
    """A process with ten viewers that come and go when told."""

    def __init__(self, child: Helper) -> None:
        self._child = child

    def watch(self) -> None:
        """Let them open their pages; return when all are open."""
        self._child.tell("watch")
        self._child.hear()

    def leave(self) -> int:
        """Let them close their pages, and return how many pages they pulled meanwhile."""
        self._child.tell("leave")
        return int(self._child.hear())


@contextlib.contextmanager
def viewers(address: str) -> Iterator[Viewers]:
    """Lend viewers of a dashboard; none watches yet."""
    with helper(_be_viewers, address) as child:
        yield Viewers(child)


def _be_viewers(pipe: Connection, address: str) -> None:
    # People's browsers are on other machines.
    os.nice(10)
    asyncio.run(_commanded(pipe, address))


async def _commanded(pipe: Connection, address: str) -> None:
    where = urlsplit(address)
    commands = told(pipe)
    while await asyncio.to_thread(next, commands, None) is not None:
        pulls = [0]
        opened = [asyncio.Event() for _ in PAGES]
        tasks = [
            asyncio.create_task(_watch(str(where.hostname), int(where.port or 80), path, topics, pulls, event))
            for (path, topics), event in zip(PAGES, opened, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in opened))
        pipe.send("open")
        await asyncio.to_thread(next, commands, None)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        pipe.send(pulls[0])


async def _watch(host: str, port: int, path: str, topics: str, pulls: list[int], opened: asyncio.Event) -> None:
    """Take ticks, and after each pull the page as its script does."""
    every = "fast" if topics == "sky" else ""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /events?topics={topics}&every={every} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    version = 0
    pull_reader, pull_writer = await asyncio.open_connection(host, port, limit=1 << 24)
    try:
        while line := await reader.readline():
            if not line.startswith(b"data:"):
                continue
            opened.set()
            pull_writer.write(f"GET {path.format(version)} HTTP/1.1\r\nHost: {host}\r\nX-Fragment: 1\r\n\r\n".encode())
            head = await pull_reader.readuntil(b"\r\n\r\n")
            length = next(int(h.split(b":")[1]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length"))
            body = await pull_reader.readexactly(length)
            if topics == "sky":
                version = json.loads(body.partition(b"\n")[0])["version"]
            pulls[0] += 1
    finally:
        writer.close()
        pull_writer.close()
