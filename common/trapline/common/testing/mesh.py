"""A mesh in the memory of a test: what a plug-in reads and publishes, without a relay, files or sockets.

>>> with memory_mesh() as mesh:
...     mesh.channels()
[]
"""

from __future__ import annotations

from trapline.client.asynchronous import AsyncMesh
from trapline.client.blocking import Mesh
from trapline.common.channel.memory import MemoryChannels


def memory_mesh(channels: MemoryChannels | None = None) -> Mesh:
    """Return a blocking client, for ``with``, of channels in memory: of its own, or of those that others share."""
    return Mesh((channels or MemoryChannels()).connect())


def memory_mesh_async(channels: MemoryChannels | None = None) -> AsyncMesh:
    """Return an asyncio client, for ``async with``; see `memory_mesh`. All clients of some channels share a loop."""
    return AsyncMesh((channels or MemoryChannels()).connect())
