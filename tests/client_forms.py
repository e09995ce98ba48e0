"""The two forms of the client behind one: so that a test of what it does need not be written twice."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import CancelledError, ThreadPoolExecutor

import msgspec

from trapline.client import connect, connect_async
from trapline.schemas.examples import example_id, example_messages
from trapline.schemas.message import Message
from trapline.schemas.transients import Transients

EVENT = next(m for m in example_messages() if isinstance(m.header, Transients))


def message(number):
    """Return an event with an id of its own."""
    return Message(msgspec.structs.replace(EVENT.header, id=example_id(number)), EVENT.arrays)


def seqs(items):
    return [item.place.seq for item in items]


class Asynchronous:
    """The asyncio form."""

    def __init__(self, address: str) -> None:
        self._mesh = connect_async(address)

    async def __aenter__(self):
        await self._mesh.__aenter__()
        return self

    async def __aexit__(self, *exception):
        await self._mesh.__aexit__(*exception)

    async def call(self, name, /, *arguments, **options):
        return await getattr(self._mesh, name)(*arguments, **options)

    async def into(self, target, call, /, *arguments, **options):
        """Put what a stream yields into a list, until cancelled."""
        async with contextlib.aclosing(getattr(self._mesh, call)(*arguments, **options)) as stream:
            async for item in stream:
                target.append(item)


class Blocking:
    """The blocking form, in threads."""

    def __init__(self, address: str) -> None:
        self._mesh = connect(address)
        self._pool = ThreadPoolExecutor()

    async def __aenter__(self):
        await self._run(self._mesh.__enter__)
        return self

    async def __aexit__(self, *exception):
        await self._run(self._mesh.__exit__, *exception)
        self._pool.shutdown()

    async def call(self, name, /, *arguments, **options):
        return await self._run(lambda: getattr(self._mesh, name)(*arguments, **options))

    async def into(self, target, call, /, *arguments, **options):
        def read():
            with contextlib.suppress(CancelledError):
                for item in getattr(self._mesh, call)(*arguments, **options):
                    target.append(item)

        # A thread cannot be cancelled: this one ends with the connection.
        await self._run(read)

    async def _run(self, call, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)


FORMS = {"asyncio": Asynchronous, "blocking": Blocking}
