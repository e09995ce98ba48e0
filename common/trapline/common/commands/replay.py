"""Command that asks what other rules would have announced: replay."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from trapline.common.channel import parse_time_us
from trapline.common.commands.options import EXPECTED, ConfigOption, JsonOption, fail
from trapline.common.config import ConfigError
from trapline.common.config.mesh import load_config
from trapline.common.ids import text_id

app = typer.Typer()


@app.command(epilog="Example: trapline replay --since 2026-01-31T22:00 --rules my_rules.toml")
def replay(
    since: Annotated[str | None, typer.Option(help="UTC time: events of images from then on are compared.")] = None,
    until: Annotated[str | None, typer.Option(help="UTC time: and before then.")] = None,
    rules: Annotated[
        Path | None, typer.Option(help="TOML file with keys of [transient_finder]; without it the configuration's.")
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Draw V against eta of all objects, with their thresholds.")] = None,
    differing: Annotated[
        bool, typer.Option("--differing", help="Only what the new rules would have done otherwise.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Fold the lightcurves in the journals of this host again, and show what would be announced beside what was."""
    # Found by name, as the tables of the services are: nothing in common imports a service.
    finder: Any = importlib.import_module("trapline.transient_finder.replay")
    diagram: Any = importlib.import_module("trapline.transient_finder.diagram")
    try:
        loaded = load_config(config)
        settings = finder.rules_from(loaded.service("transient_finder"), rules)
        span = {name: parse_time_us(text) for name, text in (("since_us", since), ("until_us", until)) if text}
        done = finder.replay(loaded.journal_directory, settings, **span, watched=_watched)
        bands = diagram.variability_of(done.state, settings)
        if png is not None:
            diagram.draw(bands, png)
    except ConfigError as error:
        fail(error, 2)
    except EXPECTED as error:
        fail(error)
    stories = [story for story in done.stories if story.differs or not differing]
    _say_json(stories, done, bands) if as_json else _say_text(stories, done, bands)


def _watched(steps: Iterable[Any], total: int) -> Iterable[Any]:
    progress = Console(stderr=True)
    return track(steps, "replaying", total, console=progress, transient=True, disable=not progress.is_terminal)


def _say_json(stories: list[Any], done: Any, bands: list[Any]) -> None:
    for story in stories:
        first, (was, would) = story.first, story.outcomes
        line = {
            "t": _time(story.start_us), "kind": first.kind, "object": text_id(first.object_id),
            "event": text_id(first.event_id), "band": first.band.name, "ra_deg": first.ra_deg,
            "dec_deg": first.dec_deg, "significance": _finite(first.significance), "was": was,
            "would": would, "later_s": story.later_us / 1e6, "cut": story.cut,
            "rule": {name: _finite(value) for name, value in first.rule.items()},
        }  # fmt: skip
        sys.stdout.write(json.dumps(line) + "\n")
    summary = {
        "records": done.records, "first": _time(done.first_us), "told_from": _time(done.told_from_us),
        "counters": dict(done.counters), "was": _count(done, 0), "would": _count(done, 1),
        "populations": [band.as_dict() for band in bands],
    }  # fmt: skip
    sys.stdout.write(json.dumps({"summary": summary}) + "\n")


def _say_text(stories: list[Any], done: Any, bands: list[Any]) -> None:
    out = sys.stdout.write
    if stories:
        out(f"{'time':23}  {'kind':12} {'object':36}  {'band':14} {'sigma':>7}  {'was':10} would be\n")
    for story in stories:
        first, (was, would) = story.first, story.outcomes
        sigma = f"{first.significance:7.1f}" if first.significance == first.significance else "      -"
        out(
            f"{_time(story.start_us):23}  {first.kind:12} {text_id(first.object_id)}  {first.band.name[:14]:14} {sigma}"
            f"  {was or '-':10} {would or '-'}{_remark(story)}\n"
        )
    differ = sum(s.differs for s in done.stories)
    out(f"{_count(done, 0)} announced, {_count(done, 1)} would be; {differ} differ\n")
    for name, count in sorted(done.counters.items()):
        out(f"  {name}: {count}\n")
    for band in bands:
        values = band.as_dict()
        out(f"  {band.band}: V > {band.v_threshold:.3g} and eta > {band.eta_threshold:.3g}: "
            f"{values['variable']} of {values['objects']} objects\n")  # fmt: skip
    out(f"  {done.records} records, of images from {_time(done.first_us)} on: before, nothing is known\n")
    if done.told_from_us is not None:
        out(f"  announcements before {_time(done.told_from_us)} are gone: nothing before is compared\n")


def _count(done: Any, side: int) -> int:
    return sum(story.outcomes[side] is not None for story in done.stories)


def _remark(story: Any) -> str:
    """Return what else is to be said of a story."""
    later_s = story.later_us / 1e6
    remarks = [f"{abs(later_s):g} s {'later' if later_s > 0 else 'earlier'}"] if later_s else []
    remarks += ["opened before"] if story.was and not story.was.start_us else []
    remarks += ["the object's past is not in the journal"] if story.cut and story.differs else []
    return f" ({'; '.join(remarks)})" if remarks else ""


def _time(t_us: int | None) -> str:
    return "-" if t_us is None else datetime.fromtimestamp(t_us / 1e6, UTC).isoformat(timespec="milliseconds")[:23]


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
