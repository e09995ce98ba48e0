"""What a person sees while the mesh runs: a line per service, and what it found."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trapline.common.channel import Gap, Record
from trapline.common.reports import work_done
from trapline.schemas.columns import SchemaError
from trapline.schemas.status import Status
from trapline.schemas.transients import Transients

_PLAIN_EVERY_S = 10.0
_COLOURS = {"running": "green", "starting": "yellow", "waiting": "yellow", "draining": "cyan"}


class StatusBoard:
    """Keeps the newest report of each process, and shows them: live on a terminal, else a few lines now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._reports: dict[str, Status] = {}
        self._rates: dict[str, tuple[float, float, float]] = {}
        self._processes: Mapping[str, str] = {}
        self._backlog: Mapping[str, int] = {}
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._next_plain = 0.0

    def __enter__(self) -> StatusBoard:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str, style: str = "") -> None:
        """Print a line that stays, above the live ones."""
        self._console.print(Text(text, style=style), soft_wrap=True)

    def take(self, items: Iterable[Record | Gap]) -> None:
        """Take notice of records of `status` and `transients`."""
        for item in items:
            if isinstance(item, Gap):
                continue
            try:
                header = item.header
            except SchemaError:
                continue
            if isinstance(header, Status):
                self._note(header)
            elif isinstance(header, Transients) and header.role != "test":
                self.say(describe_event(header), "bold magenta")

    def show(self, processes: Mapping[str, str], backlog: Mapping[str, int]) -> None:
        """Show the state of the processes (by name) and what each service has still to do."""
        self._processes, self._backlog = processes, backlog
        if self._live:
            self._live.update(Group(self._table()))
        elif time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + _PLAIN_EVERY_S
            for name in processes:
                self.say("  ".join(filter(None, self._cells(name))), "dim")

    def trouble(self) -> dict[str, str]:
        """Return the last error of each process that is not running as it should."""
        return {n: r.last_error for n, r in self._reports.items() if r.last_error and r.state == "waiting"}

    def _note(self, report: Status) -> None:
        name = f"{report.service}-{report.replica}"
        before = self._reports.get(name)
        self._reports[name] = report
        if before and before.pid == report.pid and report.t_us > before.t_us:
            dt = (report.t_us - before.t_us) / 1e6
            busy = (report.busy_s - before.busy_s) / dt
            self._rates[name] = ((work_done(report) - work_done(before)) / dt, busy, work_done(report))

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("process", "state", "done", "rate", "busy", "to do", ""):
            table.add_column(heading, justify="left" if heading in ("process", "state", "") else "right")
        for name in self._processes:
            cells = self._cells(name)
            table.add_row(cells[0], Text(cells[1], _COLOURS.get(cells[1], "red")), *cells[2:])
        return table

    def _cells(self, name: str) -> list[str]:
        report = self._reports.get(name)
        process = self._processes[name]
        service = name.partition("-")[0]
        if report is None or process not in ("up", "done"):
            return [f"{name:20}", "starting" if process == "up" else process, "", "", "", "", ""]
        state = "done" if process == "done" else report.state
        rate, busy, total = self._rates.get(name, (0.0, 0.0, work_done(report)))
        to_do = str(self._backlog[service]) if service in self._backlog else ""
        note = report.last_error or ""
        if not self._live and to_do:
            to_do = f"{to_do} to do"
        return [f"{name:20}", state, f"{total:.0f}", f"{rate:.1f}/s", f"{100 * busy:.0f}%", to_do, note]


def describe_event(event: Transients) -> str:
    """Return an event in one line."""
    when = time.strftime("%H:%M:%S", time.gmtime(event.t_us / 1e6))
    sure = {True: "certain", False: "possible", None: ""}[event.certain]
    return (
        f"{when} UTC  {event.alert_type} {event.kind} {sure} at {event.ra_deg:.4f} {event.dec_deg:+.4f}, "
        f"{event.flux_peak:.3g} {event.unit} in {event.band.name}, {event.significance:.1f} sigma"
    )
