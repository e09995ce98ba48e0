"""The plug-ins that the configuration lists: kept alive beside the services, and missed by none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from trapline.common.config.mesh import MeshConfig
from trapline.common.supervisor.process import ManagedProcess
from trapline.common.supervisor.progress import Info, plugin_backlog

_PATIENCE_S = 10.0  # for one that does not end when it is told to: `kill -9` loses nothing
_LONGEST_PAUSE_S = 30.0  # between two starts of one that always dies


class Plugins:
    """Runs the plug-ins of ``[plugins]``. One that dies is started again for ever, more and more seldom.

    Parameters
    ----------
    config
        The effective configuration.
    environment
        Variables of every child; each plug-in has its own besides.
    arguments
        What makes a child's configuration the same.
    """

    def __init__(self, config: MeshConfig, environment: Mapping[str, str], arguments: Sequence[str]) -> None:
        self._config = config
        self._processes = {
            name: [self._process(name, str(i), environment, arguments) for i in range(plugin.replicas)]
            for name, plugin in config.plugins.items()
        }

    def __iter__(self) -> Iterator[ManagedProcess]:
        """Yield all processes."""
        for processes in self._processes.values():
            yield from processes

    def start(self) -> None:
        """Start all, and keep them alive from now on."""
        for process in self:
            process.start()

    async def stop(self) -> None:
        """Let all end, at the same time."""
        await asyncio.gather(*(process.stop(_PATIENCE_S) for process in self))

    def backlog(self, info: Info) -> dict[str, int]:
        """Return how many records each has still to take."""
        return plugin_backlog(info, self._processes)

    def waited_for(self, info: Info) -> bool:
        """Return whether one that runs has something to do."""
        left = self.backlog(info)
        return any(left[n] for n, processes in self._processes.items() if any(p.state == "up" for p in processes))

    def _process(
        self, name: str, number: str, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> ManagedProcess:
        plugin = self._config.plugins[name]
        start = ["--from", plugin.start] if plugin.start else []
        return ManagedProcess(
            f"{name}-{self._config.replica(number)}",
            "trapline.cli",
            arguments=["plugin", str(plugin.file), "--name", name, "--replica", number, *start, *arguments],
            environment={**environment, **plugin.environment},
            log_directory=self._config.data_directory / "log",
            for_ever=_LONGEST_PAUSE_S,
        )
