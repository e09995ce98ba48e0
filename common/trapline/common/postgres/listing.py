"""What a database has, as text: tables, columns, keys, indexes, views and comments; no partitions, no functions."""

from __future__ import annotations

import difflib
from importlib.resources import files

from trapline.common.postgres.connection import Connection

_SCHEMAS = "n.nspname IN ('public', 'trap')"
_OURS = f"{_SCHEMAS} AND c.relname <> 'schema_version' AND NOT c.relispartition"

_QUERIES = (
    f"""
    SELECT format('%s %s.%s%s%s', CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END, n.nspname, c.relname,
        coalesce(' partition by ' || pg_get_partkeydef(c.oid), ''),
        coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '')
    ) || coalesce(': ' || obj_description(c.oid, 'pg_class'), '')
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v') AND {_OURS}
    """,
    f"""
    SELECT format('column %s.%s.%s %s%s%s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
        coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
    ) || coalesce(': ' || col_description(c.oid, a.attnum), '')
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v') AND {_OURS}
    """,
    f"""
    SELECT format('index %s', replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON '))
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE {_OURS}
    """,
    f"""
    SELECT format('constraint %s.%s: %s', n.nspname, c.relname, pg_get_constraintdef(k.oid))
    FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE k.contype IN ('p', 'u', 'f', 'c') AND {_OURS}
    """,
)


async def listing(con: Connection) -> str:
    """Return what a database has, a line each, sorted: the same text wherever the schema is the same."""
    lines: list[str] = []
    for query in _QUERIES:
        lines += [row[0] for row in await con.fetch(query)]
    return "".join(f"{line}\n" for line in sorted(lines))


def wanted_listing() -> str:
    """Return what the newest schema has, as checked in."""
    return files("trapline.schemas").joinpath("sql/schema.txt").read_text(encoding="utf-8")


async def differences(con: Connection) -> list[str]:
    """Return how a database differs from the newest schema: lines with ``-`` are missing, with ``+`` in excess."""
    found = difflib.unified_diff(wanted_listing().splitlines(), (await listing(con)).splitlines(), lineterm="", n=0)
    return [line for line in found if line[:1] in "+-" and line[:3] not in ("+++", "---")]
