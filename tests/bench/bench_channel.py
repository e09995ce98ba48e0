"""`channel`, `channel-small`: a writer's journal, the relay, and a reader over tcp, each in a process of its own.

The baseline is a PUSH socket in one process and a PULL socket in another, with the same bytes over tcp.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import numpy as np
import zmq

from bench.harness import Comparison, InvalidRunError, Note, Size, Target, in_pairs
from bench.helpers import Helper, cpu_s, helper, resident_bytes, told
from bench.meshes import Running, running_service
from trapline.common.channel import ChannelReader, Gap, RelayConnection
from trapline.common.channel.ticks import Ticker
from trapline.common.journal import JournalWriter, now_us
from trapline.common.relay.requests import Position, Read
from trapline.common.testing.relay import mesh_config

_CHANNEL, _PARTITION = "bench", "0"
_STEADY_PER_S, _STEADY_S = 1000, 5
_BIG_BYTES = 65536  # from here on pyzmq is faster without a copy


@dataclass(frozen=True, slots=True)
class _Load:
    """What travels in one measurement, and how often it is measured."""

    record_bytes: int
    records: int
    pairs: int
    segment_bytes: int


_LARGE: dict[Size, _Load] = {"small": _Load(4 << 20, 20, 3, 128 << 20), "full": _Load(4 << 20, 200, 12, 128 << 20)}
_SMALL: dict[Size, _Load] = {"small": _Load(1000, 5000, 3, 16 << 20), "full": _Load(1000, 100_000, 12, 16 << 20)}


def large(size: Size) -> list[Comparison]:
    """Compare MB/s of 4 MiB records."""
    load = _LARGE[size]
    return [_compare(load, "4 MiB records", "MB/s", load.record_bytes / 1e6, Target(">=", 0.5))]


def small(size: Size) -> list[Comparison]:
    """Compare records/s of 1 kB records."""
    return [_compare(_SMALL[size], "1 kB records", "records/s", 1.0, Target(">=", 0.2))]


def _compare(load: _Load, case: str, unit: str, per_record: float, target: Target) -> Comparison:
    # What was read is given up at once, as far as the reader has said that it needs no more.
    kept = {"segment_bytes": load.segment_bytes, "retention": {"limit_bytes": 2 * load.segment_bytes}}
    tables = {"journal": {"channels": {_CHANNEL: kept}}, "relay": {"retention_s": 0.5}}
    with (
        TemporaryDirectory(prefix="trapline-bench-") as name,
        asyncio.Runner() as runner,
        running_service("trapline.common.relay", Path(name), tables) as relay,
        helper(_append, relay.relay, name, load) as writer,
        helper(_push, load) as pusher,
        zmq.Context() as context,
        context.socket(zmq.PULL) as pull,
    ):
        port = pull.bind_to_random_port("tcp://127.0.0.1")
        pusher.tell(port)
        connection = runner.run(RelayConnection(relay.relay).__aenter__())
        try:
            ours = _Ours(runner, connection, relay, writer, load)
            values = in_pairs(
                lambda: per_record * ours.records_per_s(),
                lambda: per_record * _pulled_per_s(pull, pusher, load),
                load.pairs,
            )
            notes = ours.notes()
        finally:
            runner.run(connection.__aexit__())
        return Comparison(case, unit, *values, target, notes)


class _Ours:
    """The reader of the channel, in this process."""

    def __init__(
        self, runner: asyncio.Runner, connection: RelayConnection, relay: Running, writer: Helper, load: _Load
    ) -> None:
        self._runner, self._connection, self._relay = runner, connection, relay
        self._writer, self._load = writer, load
        self._reader = ChannelReader(connection, (_CHANNEL,))
        self._records = 0
        self._relay_cpu_s = cpu_s(relay.process.pid)
        self._writer_s = 0.0

    def records_per_s(self) -> float:
        """Let the writer append a load, and return how many records per second are read meanwhile and after."""
        start = time.perf_counter()
        self._writer.tell((self._load.records, 0.0))
        self._runner.run(self._read(self._load.records))
        seconds = time.perf_counter() - start
        self._writer_s += self._writer.hear()
        self._records += self._load.records
        return self._load.records / seconds

    def notes(self) -> dict[str, Note]:
        """Return what else was measured, over all loads, and after them at a steady rate."""
        cpu = cpu_s(self._relay.process.pid) - self._relay_cpu_s
        steady = self._steady() if self._load.record_bytes < _BIG_BYTES else {}
        return steady | {
            "append alone, records/s": self._records / self._writer_s,
            "processor time of the relay, us per record": 1e6 * cpu / self._records,
            "memory of the relay with its maps, MB": resident_bytes(self._relay.process.pid) / 1e6,
        }

    def _steady(self) -> dict[str, Note]:
        """Return how long records take from the append to the reader's hands, at `_STEADY_PER_S`."""
        late_us: list[int] = []
        records = min(self._load.records, _STEADY_S * _STEADY_PER_S)
        self._writer.tell((records, 1 / _STEADY_PER_S))
        self._runner.run(self._read(records, late_us))
        self._writer.hear()
        case = f"append to delivery at {_STEADY_PER_S:,} records/s"
        return {f"{case}, ms, p{p}": float(np.percentile(late_us, p)) / 1e3 for p in (50, 99)}

    async def _read(self, left: int, late_us: list[int] | None = None) -> None:
        while left:
            items = await self._reader.read(1.0)
            if late_us is not None:
                now = now_us()
                late_us += [now - item.t_us for item in items if not isinstance(item, Gap)]
            for item in items:
                if isinstance(item, Gap) or len(item.frames[0]) != self._load.record_bytes:
                    raise InvalidRunError(f"records were lost: {item}")
            left -= len(items)
            reads = [Read(_CHANNEL, c.partition, seq=c.seq, safe=c.seq) for c in self._reader.cursors.values()]
            self._connection.notify(Position(reader="bench", reads=reads))


def _append(pipe: Connection, relay: str, directory: str, load: _Load) -> None:
    """Append loads to a journal, tick the relay, and sync in a thread now and then, as a service does."""
    config = mesh_config(Path(directory))
    path = config.journal_directory / _CHANNEL / _PARTITION
    payload, done = os.urandom(load.record_bytes), Event()

    def sync(writer: JournalWriter) -> None:
        while not done.wait(config.journal.sync_s):
            writer.sync()

    async def work() -> None:
        async with RelayConnection(relay) as connection:
            ticker = Ticker(connection.notify)
            for count, pause_s in told(pipe):
                start = time.perf_counter()
                for number in range(count):
                    if pause_s:
                        await asyncio.sleep(max(0.0, start + number * pause_s - time.perf_counter()))
                    writer.append([payload])
                    ticker.tell(_CHANNEL, _PARTITION)
                ticker.flush()
                pipe.send(time.perf_counter() - start)

    with JournalWriter(path, segment_bytes=load.segment_bytes) as writer, ThreadPoolExecutor(1) as threads:
        threads.submit(sync, writer)
        try:
            asyncio.run(work())
        finally:
            done.set()


def _push(pipe: Connection, load: _Load) -> None:
    payload, copy = os.urandom(load.record_bytes), load.record_bytes < _BIG_BYTES
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(f"tcp://127.0.0.1:{pipe.recv()}")
        for count in told(pipe):
            for _ in range(count):
                push.send(payload, copy=copy)
        push.setsockopt(zmq.LINGER, 0)


def _pulled_per_s(pull: zmq.Socket[bytes], pusher: Helper, load: _Load) -> float:
    copy = load.record_bytes < _BIG_BYTES
    start = time.perf_counter()
    pusher.tell(load.records)
    for _ in range(load.records):
        if len(pull.recv(copy=copy)) != load.record_bytes:
            raise InvalidRunError("the baseline lost bytes")
    return load.records / (time.perf_counter() - start)
