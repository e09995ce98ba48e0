"""How data flow, from one or two answers of the relay: rates of channels, and how far behind their readers are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

Info = Mapping[str, Any]


class Lag(msgspec.Struct, frozen=True):
    """How far a group or a named reader is behind the end of one partition."""

    reader: str
    channel: str
    partition: str
    records: int
    seconds: float
    """age of the oldest record that it has not done; 0 when there is none"""
    leased: int = 0
    redelivered: int = 0


class ChannelFlow(msgspec.Struct, frozen=True):
    """What a channel holds, and what comes; rates are absent when they are not known yet."""

    channel: str
    partitions: int
    records: int
    bytes: int
    """of segment files, which are filled by and by"""
    records_per_s: float | None = None
    bytes_per_s: float | None = None


class HostFlow(msgspec.Struct, frozen=True):
    """A relay: its disk, and what was lost or came again since it was started."""

    address: str
    host: str = ""
    trouble: str | None = None
    disk_free_bytes: int = 0
    disk_bytes: int = 0
    gaps: int = 0
    """records that a reader or a group will never see: dropped before they were read, or damaged"""
    leases_expired: int = 0


class Flow(msgspec.Struct, frozen=True):
    """The mesh at one moment."""

    t_us: int
    channels: list[ChannelFlow]
    readers: list[Lag]
    hosts: list[HostFlow]
    dead_letters: int


def lags(info: Info, now_us: int) -> list[Lag]:
    """Return how far each reader is behind, group or named, by partition."""
    ends = {(p["channel"], p["partition"]): p["next_seq"] for p in info["partitions"]}
    found = []
    for row in [*info["groups"], *info["readers"]]:
        at = row["floor"] if "group" in row else row["seq"]
        records = max(0, ends.get((row["channel"], row["partition"]), 0) - at)
        oldest_us = row.get("oldest_us", now_us)
        found.append(
            Lag(
                row["group"] if "group" in row else row["reader"],
                row["channel"],
                row["partition"],
                records,
                max(0.0, (now_us - oldest_us) / 1e6) if records else 0.0,
                row.get("leased", 0),
                row.get("redelivered", 0),
            )
        )
    return found


def by_channel(found: Iterable[Lag]) -> list[Lag]:
    """Return one row for each reader and channel: sums, and the largest age."""
    merged: dict[tuple[str, str], Lag] = {}
    for lag in found:
        key = (lag.reader, lag.channel)
        was = merged.get(key)
        if was is None:
            merged[key] = msgspec.structs.replace(lag, partition="*")
        else:
            merged[key] = msgspec.structs.replace(
                was,
                records=was.records + lag.records,
                seconds=max(was.seconds, lag.seconds),
                leased=was.leased + lag.leased,
                redelivered=was.redelivered + lag.redelivered,
            )
    return sorted(merged.values(), key=lambda lag: (lag.channel, lag.reader))


def flow(info: Info, now_us: int, before: tuple[Info, int] | None = None) -> Flow:
    """Return the mesh at one moment; with an earlier answer and its time, also the rates since then."""
    dead = [p for p in info["partitions"] if p["channel"] == "dead_letters"]
    hosts = info.get("relays", [{**info, "address": info.get("address", "")}])
    return Flow(
        t_us=now_us,
        channels=list(_channels(info, now_us, before)),
        readers=by_channel(lags(info, now_us)),
        hosts=[_host(host) for host in hosts],
        dead_letters=sum(p["next_seq"] for p in dead),
    )


def _channels(info: Info, now_us: int, before: tuple[Info, int] | None) -> Iterable[ChannelFlow]:
    names = sorted({p["channel"] for p in info["partitions"]})
    for name in names:
        held = [p for p in info["partitions"] if p["channel"] == name]
        rates: tuple[float | None, float | None] = (None, None)
        if before and now_us > before[1]:
            seconds = (now_us - before[1]) / 1e6
            rates = _growth(held, before[0], "next_seq", seconds), _growth(held, before[0], "data_bytes", seconds)
        records = sum(p["next_seq"] - p["first_seq"] for p in held)
        yield ChannelFlow(name, len(held), records, sum(p["bytes"] for p in held), *rates)


def _growth(held: Iterable[Mapping[str, Any]], before: Info, what: str, seconds: float) -> float:
    """Return how much something grew a second. Retention takes bytes away: that is no growth."""
    was = {(p["channel"], p["partition"]): p[what] for p in before["partitions"]}
    grown = [p[what] - was.get((p["channel"], p["partition"]), 0) for p in held]
    return float(sum(max(0, n) for n in grown)) / seconds


def _host(relay: Mapping[str, Any]) -> HostFlow:
    counters = relay.get("counters", {})
    return HostFlow(
        relay["address"],
        relay.get("host", ""),
        relay.get("trouble"),
        relay.get("disk_free_bytes", 0),
        relay.get("disk_bytes", 0),
        counters.get("records_dropped_unread", 0) + counters.get("records_damaged", 0),
        counters.get("leases_expired", 0),
    )
