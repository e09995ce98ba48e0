"""A proxy for TCP that holds everything back for a while: `python slow_link.py PORT HOST TARGET_PORT SECONDS`."""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass bytes on, each so much later than it came, however many are on their way."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)

    async def receive() -> None:
        while data := await reader.read(65536):
            await queue.put((loop.time() + delay_s, data))
        await queue.put((0.0, b""))

    receiving = asyncio.create_task(receive())
    with contextlib.suppress(OSError):
        while (item := await queue.get())[1]:
            await asyncio.sleep(max(0.0, item[0] - loop.time()))
            writer.write(item[1])
            await writer.drain()
    receiving.cancel()
    writer.close()


async def main(port: int, host: str, target: int, delay_s: float) -> None:
    """Serve for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass(reader, far_writer, delay_s), _pass(far_reader, writer, delay_s))

    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
