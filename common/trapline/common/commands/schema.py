"""Commands about the tables of the store: db."""

from __future__ import annotations

import sys

import typer

from trapline.common.commands.options import ConfigOption, fail
from trapline.common.config.mesh import load_config
from trapline.common.postgres.errors import DatabaseError
from trapline.common.postgres.migrate import newest_version, upgrade
from trapline.common.supervisor.database import running_database

app = typer.Typer()
db = typer.Typer(help="The tables of the store.", no_args_is_help=True)
app.add_typer(db, name="db")


@db.command("upgrade", epilog="Example: trapline db upgrade --config mesh.toml")
def upgrade_schema(config: ConfigOption = None) -> None:
    """Bring the tables of the store to the version of this program; `up` and `process` do it by themselves."""
    try:
        effective = load_config(config)
        with running_database(effective) as database:
            flavour = upgrade(database.dsn, effective.database)
            sys.stdout.write(f"{database}: schema {newest_version()}, positions indexed by {flavour}\n")
    except (DatabaseError, ValueError) as error:
        fail(error)
