"""Positions on the sky as the database indexes them: the q3c extension, or SQL functions of the same names."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import asyncpg

from trapline.common.postgres.connection import Connection

Flavour = Literal["extension", "functions"]

_RECORD = "Trapline's SQL functions in place of the q3c extension"


async def install(con: Connection) -> Flavour:
    """Make the q3c functions available and return which they are: what is there already stays.

    The extension is taken where the server has it and our role may create it. Otherwise the functions of
    ``schemas/sql/q3c.sql`` are made, and a comment on `q3c_ang2ipix` records that.
    """
    found = await installed(con)
    if found == "extension" or (found is None and await _create_extension(con)):
        return "extension"
    async with con.transaction():
        await con.execute(files("trapline.schemas").joinpath("sql/q3c.sql").read_text())
        await con.execute(f"COMMENT ON FUNCTION q3c_ang2ipix(double precision, double precision) IS $${_RECORD}$$")
    return "functions"


async def installed(con: Connection) -> Flavour | None:
    """Return which q3c the database has, as recorded in its catalogue; None before `install`."""
    if await con.fetchval("SELECT 1 FROM pg_extension WHERE extname = 'q3c'"):
        return "extension"
    function = "to_regprocedure('q3c_ang2ipix(double precision, double precision)')"
    return "functions" if await con.fetchval(f"SELECT {function} IS NOT NULL") else None


async def _create_extension(con: Connection) -> bool:
    if not await con.fetchval("SELECT 1 FROM pg_available_extensions WHERE name = 'q3c'"):
        return False
    try:
        async with con.transaction():
            await con.execute("CREATE EXTENSION q3c")
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True
