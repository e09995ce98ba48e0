"""The `trapline` command."""

from __future__ import annotations

import sys

import typer

from trapline.common.commands import bench, channels, database, doctor, inspect, journal, keys, mesh, replay, survey

app = typer.Typer(
    help="A live stream of telescope images in, lightcurves and transient alerts out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (mesh, channels, journal, replay, keys, database, inspect, doctor, bench):
    app.add_typer(module.app)
app.add_typer(survey.group)


def main() -> int:
    """Run the command line; return the exit code."""
    return int(app() or 0)


if __name__ == "__main__":
    sys.exit(main())
