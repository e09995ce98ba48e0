"""How each process is, from its own reports: running, starting, stopped, crashed or hung."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from trapline.common.reports import discards, work_done
from trapline.schemas.status import Status

Condition = Literal["running", "starting", "waiting", "draining", "stopped", "crashed", "hung", "silent", "absent"]
Alive = Callable[[Status], bool | None]
"""Tells whether the process of a report still runs; None when that cannot be seen from here."""

HISTORY = 120
"""reports of a process that are looked at: two minutes at one a second"""
_RATE_S = 10.0
_SMOOTH = 5
_TROUBLE = frozenset({"crashed", "hung", "silent", "absent"})


@dataclass(slots=True)
class Process:
    """A service's replica as an operator sees it. Times are us since 1970-01-01 UTC."""

    service: str
    replica: str
    condition: Condition
    since_us: int | None = None
    """begin of the condition, as far as the reports go back"""
    report: Status | None = None
    rate_hz: float = 0.0
    busy: float = 0.0
    """share of the time spent in handlers"""
    done: float = 0.0
    rates_hz: list[float] = field(default_factory=list)
    """rate in the course of time, oldest first"""
    restarts: int = 0
    """how often it began anew without having stopped in order"""
    new_discards: dict[str, float] = field(default_factory=dict)
    """what it threw away since the oldest report"""
    discards: float = 0.0

    @property
    def name(self) -> str:
        """Service and replica."""
        return f"{self.service}-{self.replica}"

    @property
    def level(self) -> Literal["good", "busy", "bad", "off"]:
        """How a person should take it, at a glance."""
        if self.condition in _TROUBLE:
            return "bad"
        if self.condition == "running":
            return "good"
        return "off" if self.condition == "stopped" else "busy"


def process_of(reports: Iterable[Status], now_us: int, heartbeat_s: float, alive: Alive) -> Process:
    """Return how a process is, by its newest reports, oldest first.

    Parameters
    ----------
    reports
        Of one service and replica; at least one.
    now_us
        Time, us since 1970-01-01 UTC.
    heartbeat_s
        How often a process reports.
    alive
        Whether the process of a report can be seen to run.
    """
    history = deque(reports, HISTORY)
    last = history[-1]
    condition = _condition(last, now_us, heartbeat_s, alive)
    same = [r for r in history if r.pid == last.pid]
    return Process(
        last.service,
        last.replica,
        condition,
        since_us=last.t_us if condition in _TROUBLE else _since(same),
        report=last,
        rate_hz=_rate(same, work_done) if condition not in (*_TROUBLE, "stopped") else 0.0,
        busy=min(1.0, _rate(same, lambda r: r.busy_s)),
        done=work_done(last),
        rates_hz=_rates(same),
        restarts=sum(a.pid != b.pid and a.state != "stopped" for a, b in zip(history, list(history)[1:], strict=False)),
        new_discards=_new_discards(same),
        discards=sum(discards(last).values()),
    )


def _condition(last: Status, now_us: int, heartbeat_s: float, alive: Alive) -> Condition:
    if last.state == "stopped":
        return "stopped"
    runs = alive(last)
    if runs is False:
        return "crashed"
    if now_us - last.t_us > 1e6 * max(5.0, 5 * heartbeat_s):
        return "hung" if runs else "silent"
    known: dict[str, Condition] = {"starting": "starting", "waiting": "waiting", "draining": "draining"}
    return known.get(last.state, "running")


def _since(same: list[Status]) -> int:
    since = same[-1].started_us
    for report in reversed(same):
        if report.state != same[-1].state:
            return since if since != same[-1].started_us else report.t_us
        since = report.t_us
    # The whole history is of this state: it is as old as the process, as far as anyone knows.
    return same[-1].started_us if same[-1].state == "running" else since


def _rate(same: list[Status], value: Callable[[Status], float]) -> float:
    last = same[-1]
    window = [r for r in same if last.t_us - r.t_us <= 1e6 * _RATE_S]
    dt = (last.t_us - window[0].t_us) / 1e6
    return max(0.0, value(last) - value(window[0])) / dt if dt > 0 else 0.0


def _rates(same: list[Status]) -> list[float]:
    # Over five reports: work that comes once in two seconds is a steady rate, not a saw.
    return [
        max(0.0, work_done(b) - work_done(a)) / max(1e-6, (b.t_us - a.t_us) / 1e6)
        for a, b in zip(same, same[_SMOOTH:], strict=False)
    ]


def _new_discards(same: list[Status]) -> dict[str, float]:
    before, now = discards(same[0]), discards(same[-1])
    grown = {name: value - before.get(name, 0.0) for name, value in now.items()}
    return {name: value for name, value in grown.items() if value > 0}
