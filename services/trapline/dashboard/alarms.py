"""What an operator must know now, since when, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from trapline.dashboard.processes import Process

_LOG = "Look in its log (page Log, service {name})."
_ADVICE: Mapping[str, str] = {
    "crashed": "`trapline up` starts it again by itself; if it does not come back within a minute: " + _LOG
    + " By hand: `trapline run {service} --replica {replica}`.",
    "hung": "Its process {pid} lives but says nothing. " + _LOG + " Ending it (`kill {pid}`) loses nothing.",
    "silent": "Nothing came from {host} since then: see whether that host and its network are up.",
    "absent": "The configuration wants it, and it never reported. Start it: `trapline run {service} "
    "--replica {replica}`.",
    "waiting": "It goes on by itself as soon as the cause is gone; nothing is lost meanwhile.",
    "restarted": "What it had in hand is done again, and counts once. If it goes on: " + _LOG,
}  # fmt: skip
_PLUGIN_ADVICE: Mapping[str, str] = {
    "crashed": "Nothing waits for it. One that `mesh.toml` lists is started again by itself, more and more seldom if "
    "it goes on to die. " + _LOG,
    "absent": "`mesh.toml` lists it, and it never reported; nothing waits for it. " + _LOG,
}
_BEHIND = 200


@dataclass(frozen=True, slots=True)
class Alarm:
    """One line for an operator."""

    level: Literal["critical", "warning"]
    subject: str
    text: str
    advice: str
    since_us: int | None = None


def process_alarms(process: Process, *, plugin: bool = False) -> Iterator[Alarm]:
    """Yield what is wrong with a process. The mesh does without a plug-in: what is wrong with one is a warning."""
    if process.level == "bad":
        text = _PLUGIN_ADVICE.get(process.condition) if plugin else None
        level: Literal["critical", "warning"] = "warning" if plugin else "critical"
        what_to_do = _filled(text, process) if text else advice(process)
        yield Alarm(level, process.name, _STORY[process.condition], what_to_do, process.since_us)
    error = process.report.last_error if process.report else None
    if process.condition == "waiting" and error:
        yield Alarm("warning", process.name, f"waits: {error}", advice(process), process.since_us)
    if process.restarts:
        text = f"died and was started again {_times(process.restarts)} in the last minutes"
        started = process.report.started_us if process.report else None
        yield Alarm("warning", process.name, text, _fill("restarted", process), started)
    for name, count in process.new_discards.items():
        yield Alarm("warning", process.name, f"{name.replace('_', ' ')}: {count:g} in the last minutes", _discard(name))


_STORY: Mapping[str, str] = {
    "crashed": "crashed: its process is gone, and it did not say goodbye",
    "hung": "hangs: its process lives, and reports no more",
    "silent": "is silent: no report comes any more",
    "absent": "is not there: it never reported",
}


def feed_alarms(process: Process, feeds: Mapping[str, Mapping[str, float]]) -> Iterator[Alarm]:
    """Yield what is wrong with the sources of images."""
    for name, feed in feeds.items():
        last_us = int(feed["last_us"]) if feed.get("last_us") else None
        if feed.get("connected", 1.0) == 0:
            yield Alarm(
                "critical", name, "is not connected", "Is the imager running, and its port open? "
                f"{process.name} tries again for ever.", last_us,
            )  # fmt: skip
        elif feed.get("silent"):
            cadence = f", where one every {feed['cadence_s']:.3g} s is usual" if feed.get("cadence_s") else ""
            yield Alarm("warning", name, f"gives no images{cadence}", "See whether the telescope observes.", last_us)


def stopped_alarms(process: Process, left: int) -> Iterator[Alarm]:
    """Yield that a process was stopped in order while there is work for it."""
    if process.condition == "stopped" and left:
        text = f"was stopped in order, and {left} records wait for it"
        how = (
            f"Start it: `trapline run {process.service} --replica {process.replica}`, or the whole mesh: `trapline up`."
        )
        yield Alarm("warning", process.name, text, how, process.report.t_us if process.report else None)


def backlog_alarms(backlog: Mapping[str, int], rates_hz: Mapping[str, float]) -> Iterator[Alarm]:
    """Yield which services cannot keep up: more than a few seconds of work waits for them."""
    for service, left in backlog.items():
        rate = rates_hz.get(service, 0.0)
        if left > max(_BEHIND, 30 * rate):
            seconds = f", {left / rate:.0f} s of its work" if rate > 0 else ""
            yield Alarm(
                "warning", service, f"is {left} records behind{seconds}",
                f"Journals keep them meanwhile. More replicas help: [{service}] replicas.",
            )  # fmt: skip


def advice(process: Process) -> str:
    """Return what to do next about a process; empty when it needs nothing."""
    return _fill(process.condition, process) if process.condition in _ADVICE else ""


def _fill(key: str, process: Process) -> str:
    return _filled(_ADVICE[key], process)


def _filled(text: str, process: Process) -> str:
    report = process.report
    host, pid = (report.host, report.pid) if report else ("its host", "?")
    return text.format(name=process.name, service=process.service, replica=process.replica, host=host, pid=pid)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _discard(name: str) -> str:
    if "dead_letters" in name:
        return "See page Log, dead letters: each says what it was and why."
    if "lost" in name or "forced" in name:
        return "A reader fell behind what the disk may hold: see backlog, and [journal] limits."
    return "Its log says which and why."
