"""What an operator must see of a mesh, worked out of its own reports and of what its relay says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trapline.common.config import ServiceSection
from trapline.common.supervisor.progress import backlog, plugin_backlog
from trapline.dashboard.alarms import Alarm, backlog_alarms, feed_alarms, process_alarms, stopped_alarms
from trapline.dashboard.diagram import Diagram, diagram_of
from trapline.dashboard.processes import Alive, Process, process_of
from trapline.schemas.status import Status

Reports = Mapping[str, Sequence[Status]]
"""reports by partition of `status`, oldest first"""

_FORGOTTEN_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Channel:
    """What a channel holds on the disk. Retention of 0 is without bound."""

    name: str
    partitions: int
    records: int
    size_bytes: int
    rate_hz: float
    limit_bytes: int
    hard_limit_bytes: int
    age_s: float
    at_limit: str

    @property
    def filled(self) -> float | None:
        """Share of the hard limit that its fullest partition may have; None without a limit."""
        bound = self.hard_limit_bytes or self.limit_bytes
        return self.size_bytes / (bound * max(1, self.partitions)) if bound else None


@dataclass(frozen=True, slots=True)
class Expected:
    """What should be there, by the configuration."""

    sections: Mapping[str, ServiceSection]
    """services that should run on this host"""
    heartbeat_s: float
    retention: Mapping[str, Mapping[str, Any]]
    """how long each channel is kept; ``*`` for the others"""
    plugins: Mapping[str, int] = field(default_factory=dict)
    """how many processes of each plug-in should run on this host"""


@dataclass(slots=True)
class Health:
    """Everything the health page shows. Times are us since 1970-01-01 UTC."""

    now_us: int
    processes: list[Process] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list)
    feeds: dict[str, dict[str, float]] = field(default_factory=dict)
    backlog: dict[str, int] = field(default_factory=dict)
    alarms: list[Alarm] = field(default_factory=list)
    diagram: Diagram = field(default_factory=Diagram)

    @property
    def level(self) -> str:
        """``good``, ``busy`` when something is to be seen to, ``bad`` when something is broken."""
        levels = {alarm.level for alarm in self.alarms}
        if "critical" in levels:
            return "bad"
        busy = "warning" in levels or any(p.level == "busy" for p in self.processes)
        return "busy" if busy else "good"


def health_of(
    reports: Reports, info: Mapping[str, Any] | None, now_us: int, expected: Expected, alive: Alive
) -> Health:
    """Return how a mesh is.

    Parameters
    ----------
    reports
        The last minutes of `status`.
    info
        The relay's answer to `info`; None when it does not answer.
    now_us
        Time, us since 1970-01-01 UTC.
    expected
        What the configuration says.
    alive
        Whether the process of a report can be seen to run.
    """
    processes = _processes(reports, now_us, expected, alive)
    rates = _channel_rates(processes, reports)
    health = Health(now_us, processes)
    health.feeds = {name: feed for p in processes if p.report for name, feed in p.report.sources.items()}
    needed = {*expected.sections, "relay"}
    for p in processes:
        health.alarms += [*process_alarms(p, plugin=p.service not in needed), *_feeds_alarms(p)]
    if info is None:
        text = "does not answer: nothing that follows is newer than its last answer"
        health.alarms.insert(0, Alarm("critical", "relay", text, "Services go on writing. Start it: `trapline relay`."))
    else:
        health.backlog = backlog(info, expected.sections)
        done_hz = {name: sum(p.rate_hz for p in processes if p.service == name) for name in expected.sections}
        for p in processes:
            health.alarms += stopped_alarms(p, health.backlog.get(p.service, 0))
        health.alarms += backlog_alarms(health.backlog, done_hz)
        health.backlog |= plugin_backlog(info, {p.service for p in processes} - needed)
        health.channels = _channels(info, rates, expected)
    health.alarms.sort(key=lambda alarm: alarm.level != "critical")
    drawn = [p for p in processes if p.service != "relay"]
    health.diagram = diagram_of(expected.sections, drawn, health.backlog, rates)
    return health


def _processes(reports: Reports, now_us: int, expected: Expected, alive: Alive) -> list[Process]:
    found = [process_of(r, now_us, expected.heartbeat_s, alive) for r in reports.values() if r]
    wanted = {f"{name}-{i}" for name, section in expected.sections.items() for i in range(section.replicas)}
    wanted |= {f"{name}-{i}" for name, replicas in expected.plugins.items() for i in range(replicas)}
    wanted.add("relay-0")
    # What ran here once, and is no longer configured, is history an hour after it stopped.
    found = [p for p in found if p.name in wanted or not p.report or now_us - p.report.t_us < _FORGOTTEN_US]
    missing = sorted(wanted - {p.name for p in found})
    found += [Process(name.rpartition("-")[0], name.rpartition("-")[2], "absent") for name in missing]
    stages = {name: section.stage for name, section in expected.sections.items()} | {"relay": -1}
    return sorted(found, key=lambda p: (stages.get(p.service, 9), p.service, p.replica))


def _feeds_alarms(process: Process) -> list[Alarm]:
    if process.report is None or process.level == "bad" or process.condition == "stopped":
        return []
    return list(feed_alarms(process, process.report.sources))


def _channel_rates(processes: Sequence[Process], reports: Reports) -> dict[str, float]:
    """Return records a second on each channel, from how far its writers said that they are."""
    rates: dict[str, float] = {}
    running = {(p.service, p.replica) for p in processes if p.level in ("good", "busy")}
    for history in reports.values():
        same = [r for r in history if r.pid == history[-1].pid][-11:]
        if len(same) < 2 or (same[-1].service, same[-1].replica) not in running:
            continue
        dt = (same[-1].t_us - same[0].t_us) / 1e6
        for key, seq in same[-1].written.items():
            channel = key.partition("/")[0]
            rates[channel] = rates.get(channel, 0.0) + (seq - same[0].written.get(key, seq)) / dt
    return rates


def _channels(info: Mapping[str, Any], rates: Mapping[str, float], expected: Expected) -> list[Channel]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for partition in info["partitions"]:
        found.setdefault(partition["channel"], []).append(partition)
    channels = []
    for name, partitions in sorted(found.items()):
        rule = expected.retention.get(name) or expected.retention["*"]
        channels.append(
            Channel(
                name,
                len(partitions),
                sum(p["next_seq"] - p["first_seq"] for p in partitions),
                sum(p["bytes"] for p in partitions),
                rates.get(name, 0.0),
                **rule,
            )
        )
    return channels
