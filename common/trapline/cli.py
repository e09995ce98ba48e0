"""The `trapline` command."""

from __future__ import annotations

import sys

import typer

from trapline.common.commands import (
    associator,
    bench,
    channels,
    configuration,
    database,
    doctor,
    extract,
    inspect,
    journal,
    journal_replay,
    keys,
    letters,
    mesh,
    monitor,
    plugin,
    replay,
    schema,
    survey,
    top,
)

app = typer.Typer(
    help="A live stream of telescope images in, lightcurves and transient alerts out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_MODULES = (
    *(mesh, channels, letters, top, monitor, plugin),
    *(journal, replay, keys, database, schema, configuration, associator),
    *(inspect, extract, doctor, bench),
)
for module in _MODULES:
    app.add_typer(module.app)
app.add_typer(survey.group)
journal.journal.add_typer(journal_replay.app)


def main() -> int:
    """Run the command line; return the exit code."""
    return int(app() or 0)


if __name__ == "__main__":
    sys.exit(main())
