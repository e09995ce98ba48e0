"""From a service to a process: configuration, signals, heartbeats, health, and an orderly end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from trapline.common.channel import Connection
from trapline.common.channel.joining import join
from trapline.common.config import ConfigError
from trapline.common.config.mesh import MeshConfig, load_config
from trapline.common.journal import JournalError
from trapline.common.logging import configure_logging
from trapline.common.runtime.context import Context
from trapline.common.runtime.hang import HangError
from trapline.common.runtime.health import HealthServer
from trapline.common.runtime.heartbeat import report_for_ever, report_now
from trapline.common.runtime.outputs import Outputs
from trapline.common.runtime.snapshot import SnapshotError
from trapline.common.runtime.systemd import Systemd, tell_for_ever
from trapline.common.runtime.threads import begin_again_with_one_thread

EXIT_CONFIG = 2
EXIT_FAILED = 1


@dataclass(frozen=True, slots=True)
class Service:
    """A service: its name, which is that of its package and its table in `mesh.toml`, and what it does."""

    name: str
    run: Callable[[Context], Awaitable[None]]
    alone: bool = False
    """whether it needs the channels of this host only"""
    connection: Connection | None = None
    """another one than to the mesh that this host belongs to"""


def main(service: Service, arguments: Sequence[str] | None = None) -> int:
    """Run one replica of a service until it is done or told to stop; return the exit code."""
    if arguments is None:
        begin_again_with_one_thread()
    parser = argparse.ArgumentParser(prog=f"trapline run {service.name}")
    parser.add_argument("--config", type=Path, help="mesh.toml; without it ./mesh.toml or the defaults")
    parser.add_argument("--replica", default="0", help="name of this replica: its partitions have it")
    parser.add_argument("--supervised", action="store_true", help="end when standard input closes")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIG
    return run_process(service, config, config.replica(options.replica), supervised=options.supervised)


def run_process(service: Service, config: MeshConfig, replica: str, *, supervised: bool = False) -> int:
    """Run a service in this process until it is done or told to stop; return the exit code."""
    configure_logging(config.log.level, service=service.name, replica=replica)
    try:
        asyncio.run(_run(service, config, replica, supervised=supervised))
    except ConfigError as error:
        structlog.get_logger().error("cannot run", reason=str(error))
        return EXIT_CONFIG
    except (JournalError, SnapshotError, OSError) as error:
        structlog.get_logger().error("cannot run", reason=str(error))
        return EXIT_FAILED
    except Exception:  # noqa: BLE001  whatever ends a service is told in its log
        structlog.get_logger().exception("died")
        return EXIT_FAILED
    return 0


async def _run(service: Service, config: MeshConfig, replica: str, *, supervised: bool) -> None:
    try:
        opened = open_context(service.name, config, replica, alone=service.alone, connection=service.connection)
        async with opened as context:
            _install_signals(context)
            if supervised:
                _watch_parent(context)
            context.log.info("started", pid=os.getpid(), health_port=context.health_port)
            await _work(service, context)
            context.log.info("stopped", **dict(context.counters))
    except HangError as hang:
        structlog.get_logger().error("hung", reason=str(hang))
        # An orderly exit would wait for the thread that hangs.
        os._exit(EXIT_FAILED)


async def _work(service: Service, context: Context) -> None:
    work = asyncio.ensure_future(service.run(context))
    deadline = asyncio.create_task(_drain_deadline(context, work))
    try:
        await work
    except asyncio.CancelledError:
        context.log.warning("stopped before it was done", after_s=context.config.mesh.drain_s)
    finally:
        deadline.cancel()


@contextlib.asynccontextmanager
async def open_context(
    service: str, config: MeshConfig, replica: str, *, alone: bool = False, connection: Connection | None = None
) -> AsyncIterator[Context]:
    """Open what a service needs, report on `status` while it runs, and close everything in order.

    With `alone` it has the channels of this host, and not those of the others; or those of a given connection.
    """
    async with contextlib.AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connection or join(config, alone=alone))
        outputs = Outputs(config, service, replica, connection.notify)
        stack.callback(outputs.close)
        context = Context(service, replica, config, connection, outputs)
        health = stack.enter_context(HealthServer(context, config.runtime.health_host))
        context.health_port = health.port
        systemd = Systemd(os.environ)
        reporters = [
            asyncio.create_task(report_for_ever(context), name="heartbeat"),
            asyncio.create_task(tell_for_ever(context, systemd), name="systemd"),
        ]
        try:
            yield context
        finally:
            for reporter in reporters:
                reporter.cancel()
            context.state = "stopped"
            report_now(context)
            systemd.tell(STOPPING=1)


def _install_signals(context: Context) -> None:
    """Let the first signal drain and the second end at once."""

    def stop(name: str) -> None:
        if context.draining.is_set():
            context.log.warning("stopping at once", signal=name)
            os._exit(EXIT_FAILED)
        context.log.info("draining", signal=name)
        _drain(context)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)


def _drain(context: Context) -> None:
    context.draining.set()
    context.state = "draining"


def _watch_parent(context: Context) -> None:
    """Drain when the supervisor is gone: its end of our standard input closes however it died."""
    loop = asyncio.get_running_loop()

    def closed() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            _drain(context)

    loop.add_reader(0, closed)


async def _drain_deadline(context: Context, work: asyncio.Future[None]) -> None:
    await context.draining.wait()
    await asyncio.sleep(context.config.mesh.drain_s)
    work.cancel()
