"""A report of runs as one page of HTML, for whoever decides: its plots are in it, it needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from io import BytesIO

from trapline.survey.extrapolate import lines as extrapolated
from trapline.survey.plot import draw
from trapline.survey.reading import Run, side_by_side
from trapline.survey.report import STEPS, lines, summary
from trapline.survey.visitlog import SERVICES

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c2430; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid #d5dae1; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .15rem .9rem; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr:nth-child(even) td { background: #f4f6f9; }
pre { background: #f4f6f9; padding: .8rem; white-space: pre-wrap; } svg { max-width: 100%; height: auto; }
.wrong { color: #b3261e; font-weight: 600; }
@media (prefers-color-scheme: dark) { body { background: #14181f; color: #dfe5ee; }
  tr:nth-child(even) td, pre { background: #1e242e; } svg { background: #fff; } }
"""
_MEANING = {
    "find_s": "making the detections: before the clock starts",
    "objects_s": "latest objects of the field, from memory",
    "history_s": "their history, from memory",
    "publish_s": "detections published",
    "match_s": "joined to objects (associator)",
    "alert_s": "last alert in a reader's hands (transient finder)",
    "forced_s": "forced photometry answered and folded",
    "store_s": "all rows committed (dumper)",
    "objects_stored_s": "latest objects of the field, from the store",
    "history_stored_s": "their history, from the store",
}


def page(runs: Sequence[Run], nights: int) -> str:
    """Return a page about runs: each summed up and extrapolated to a year, all drawn, several side by side.

    Raises
    ------
    ValueError
        When matplotlib is not installed.
    """
    return "\n".join(_parts(runs, nights)) + "\n"


def _parts(runs: Sequence[Run], nights: int) -> Iterator[str]:
    names = ", ".join(run.name for run in runs)
    yield "<!doctype html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><title>Survey: {escape(names)}</title>'
    yield f"<style>{_STYLE}</style></head><body><h1>Survey: {escape(names)}</h1>"
    if len(runs) > 1:
        yield "<h2>Side by side</h2>"
        yield _table(["", *(run.name for run in runs)], [[name, *values] for name, values in side_by_side(runs)])
    yield "<h2>Seconds and rows per visit</h2>"
    yield _drawn(runs)
    for run in runs:
        yield from _run(run, nights)
    yield "</body></html>"


def _run(run: Run, nights: int) -> Iterator[str]:
    found = summary(run.rows)
    yield f"<h2>{escape(run.name)}</h2>"
    wrong = ' class="wrong"' if found.get("lost") or found.get("late") else ""
    first, *others = lines(found)
    yield f"<p{wrong}>{escape(first)}</p><ul>{''.join(f'<li>{escape(line)}</li>' for line in others)}</ul>"
    if run.rows:
        seconds = found["seconds"]
        rows = [[_MEANING[step], _seconds(seconds[step]), _seconds(run.worst(step))] for step in STEPS]
        yield _table(["seconds from the first detection on, per visit", "median", "longest"], rows)
        yield _table(
            ["seconds per visit that a service worked", ""],
            [[name, _seconds(found["worked"][name])] for name in SERVICES],
        )
    yield f"<h2>{escape(run.name)}: what a year would take</h2>"
    yield f"<pre>{escape(chr(10).join(extrapolated(run.year(nights), run.assumptions(nights))))}</pre>"
    if settings := run.taken.get("settings"):
        yield "<details><summary>Settings</summary>"
        yield _table(["setting", "value"], [[name, str(value)] for name, value in sorted(settings.items())])
        yield "</details>"


def _drawn(runs: Sequence[Run]) -> str:
    picture = BytesIO()
    draw({run.name: run.rows for run in runs}, picture)
    text = picture.getvalue().decode()
    return text[text.index("<svg") :]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heading)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
