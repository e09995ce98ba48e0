"""A whole mesh on one machine: the store, the relay, the services, in order, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

from trapline.common.channel import ChannelReader, RelayConnection, RelayRefusedError, RelayUnreachableError
from trapline.common.config.mesh import MeshConfig
from trapline.common.relay.requests import Info
from trapline.common.supervisor.board import StatusBoard
from trapline.common.supervisor.plugins import Plugins
from trapline.common.supervisor.process import ManagedProcess
from trapline.common.supervisor.progress import backlog, in_order_of_data

_PATIENCE_S = 5.0  # on top of what a process may take to drain
_RELAY_START_S = 30.0
_LAST_EVENTS_S = 5.0  # for plug-ins to take what there is when a mesh ends
_HOPELESS = 8  # failures in a row after which nobody waits for a process any more


class MeshError(RuntimeError):
    """The mesh cannot run. The text says why, and what would mend it."""


class Mesh:
    """Runs a relay, the services and the plug-ins of a configuration as child processes; an async context manager.

    Parameters
    ----------
    config
        The effective configuration.
    environment
        What makes a child's configuration the same: a config file and variables.
    board
        Where it reports.
    """

    def __init__(
        self, config: MeshConfig, environment: Mapping[str, str], arguments: list[str], board: StatusBoard
    ) -> None:
        self.config = config
        self.board = board
        self._environment = environment
        self._arguments = arguments
        self._services = {n: s for n, s in config.services().items() if s.replicas}
        self._relay = self._process(f"relay-{config.replica('0')}", "trapline.common.relay")
        self._children = {
            name: [
                self._process(f"{name}-{config.replica(str(i))}", f"trapline.{name}", "--replica", str(i))
                for i in range(section.replicas)
            ]
            for name, section in self._services.items()
        }
        self._plugins = Plugins(config, environment, arguments)
        self._backlog: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        self._relay.start()
        try:
            await self._wait_for_relay()
            self._connection = await self._stack.enter_async_context(RelayConnection(f"ipc://{self.config.ipc_path}"))
            for name in reversed(in_order_of_data(self._services)):
                for child in self._children[name]:
                    child.start()
            self._plugins.start()
        except BaseException:
            await self._stop_all()
            raise
        self._watcher = asyncio.create_task(self._watch(), name="watch the mesh")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)
        await self._stop_all()

    def children(self) -> Iterator[ManagedProcess]:
        """Yield all processes, in the order of the data."""
        yield self._relay
        for name in in_order_of_data(self._services):
            yield from self._children[name]
        yield from self._plugins

    def of(self, service: str) -> list[ManagedProcess]:
        """Return the processes of a service."""
        return self._children.get(service, [])

    async def stop_service(self, service: str) -> None:
        """Let a service drain and end."""
        await asyncio.gather(*(child.stop(self._patience_s) for child in self.of(service)))

    async def drained(self) -> None:
        """Return when every service has done all that there is.

        Raises
        ------
        MeshError
            When a process that is needed has failed for good.
        """
        while True:
            self._raise_failed()
            left = await self.backlog()
            if left is not None and not any(left.values()):
                return
            await asyncio.sleep(0.1)

    async def backlog(self) -> dict[str, int] | None:
        """Return how many records each service has still to do; None when the relay does not answer."""
        try:
            info = await self.info()
        except (RelayUnreachableError, RelayRefusedError):
            return None
        left = backlog(info, self._services)
        self._backlog = left | self._plugins.backlog(info)
        return left

    async def told_to_plugins(self) -> None:
        """Return when the plug-ins that run have taken what there is, or after some seconds: they can go on later."""
        with contextlib.suppress(TimeoutError, RelayUnreachableError, RelayRefusedError):
            async with asyncio.timeout(_LAST_EVENTS_S):
                waiting = True
                while waiting:
                    waiting = self._plugins.waited_for(await self.info())
                    await asyncio.sleep(0.1)

    async def info(self) -> dict[str, Any]:
        """Return what the relay says of its channels, groups and readers."""
        return await self._connection.info()

    @property
    def _patience_s(self) -> float:
        return self.config.mesh.drain_s + _PATIENCE_S

    def _process(self, name: str, module: str, *arguments: str) -> ManagedProcess:
        return ManagedProcess(
            name,
            module,
            arguments=[*self._arguments, *arguments],
            environment=self._environment,
            log_directory=self.config.data_directory / "log",
        )

    async def _wait_for_relay(self) -> None:
        """Return when the relay answers; a relay that cannot start is the end of the story."""
        async with RelayConnection(f"ipc://{self.config.ipc_path}") as connection:
            deadline = asyncio.get_running_loop().time() + _RELAY_START_S
            while asyncio.get_running_loop().time() < deadline:
                if self._relay.restarts or self._relay.state == "failed":
                    break
                with contextlib.suppress(RelayUnreachableError):
                    await connection.request(Info(), timeout_s=0.5)
                    return
        raise MeshError(f"the relay cannot run: {self._relay.last_words()}")

    def _raise_failed(self) -> None:
        needed = [n for n, section in self._services.items() if section.essential]
        for child in (self._relay, *(child for name in needed for child in self._children[name])):
            if child.state == "failed" or child.failures >= _HOPELESS:
                raise MeshError(f"{child.name} cannot run: {child.last_words()}")

    async def _watch(self) -> None:
        """Follow `status` and `transients`, and show them."""
        reader = ChannelReader(self._connection, ("status", "transients"), start="latest")
        restarts: dict[str, int] = {}
        while True:
            try:
                self.board.take(await reader.read(0.5))
                await self.backlog()
            except (RelayUnreachableError, RelayRefusedError):
                await asyncio.sleep(0.5)
            for child in self.children():
                if child.restarts > restarts.get(child.name, 0):
                    restarts[child.name] = child.restarts
                    # One that dies for ever is told of more and more seldom.
                    if child.deaths & (child.deaths - 1) == 0:
                        self.board.say(f"{child.name} died and is started again: {child.last_words()}", "yellow")
            self.board.show({child.name: child.state for child in self.children()}, self._backlog)

    async def _stop_all(self) -> None:
        """Stop the services in the order of the data, then the plug-ins, then the relay."""
        for name in in_order_of_data(self._services):
            await self.stop_service(name)
        await self._plugins.stop()
        await self._stack.aclose()
        await self._relay.stop(self._patience_s)
