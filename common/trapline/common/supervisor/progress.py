"""How far the mesh is: from one answer of the relay, in which everything is seen at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trapline.common.config import ServiceSection

Info = Mapping[str, Any]


def backlog(info: Info, services: Mapping[str, ServiceSection]) -> dict[str, int]:
    """Return how many records each service has still to do, over all channels that it reads.

    A worker's are those that its group has not acknowledged; those of a fold or a sink are what its slowest replica has
    not folded or stored. Since every service publishes before it acknowledges, all zeros mean that the mesh is drained.
    """
    ends = {(p["channel"], p["partition"]): p["next_seq"] for p in info["partitions"]}
    done = _positions(info)
    left = {}
    for name, section in services.items():
        partitions = [key for key in ends if key[0] in section.reads]
        left[name] = sum(max(0, ends[key] - done.get((name, *key), 0)) for key in partitions)
    return left


def plugin_backlog(info: Info, names: Iterable[str]) -> dict[str, int]:
    """Return how many records each of some plug-ins has still to take, of what it has begun to read."""
    ends = {(p["channel"], p["partition"]): p["next_seq"] for p in info["partitions"]}
    left = dict.fromkeys(names, 0)
    for (name, *key), seq in _positions(info).items():
        if name in left:
            left[name] += max(0, ends.get((key[0], key[1]), 0) - seq)
    return left


def _positions(info: Info) -> dict[tuple[str, str, str], int]:
    """Return the first record not done, by (service, channel, partition)."""
    found: dict[tuple[str, str, str], int] = {}
    entries = [(g["group"], g["channel"], g["partition"], g["floor"]) for g in info["groups"]]
    entries += [(r["reader"].partition("-")[0], r["channel"], r["partition"], r["seq"]) for r in info["readers"]]
    for service, channel, partition, seq in entries:
        key = (service, channel, partition)
        found[key] = min(found.get(key, seq), seq)
    return found


def in_order_of_data(services: Mapping[str, ServiceSection]) -> list[str]:
    """Return service names in the order in which data pass through them: the first is stopped first."""
    return sorted(services, key=lambda name: (services[name].stage, name))
