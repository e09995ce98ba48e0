from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from trapline.common.postgres import migrate
from trapline.common.postgres.cluster import Cluster
from trapline.common.postgres.errors import DatabaseError, DatabaseUnavailableError
from trapline.common.testing.postgres import empty_database, run_sql

PARTITIONED = {"point", "segment", "bin_minute", "bin_hour", "bin_day"}
TABLES = PARTITIONED | {
    "dataset", "image", "object", "object_state", "transient", "reader_position", "tier", "binning", "triage",
    "closed_interval", "image_limit",
}  # fmt: skip


@pytest.fixture
def empty(any_postgres: Cluster) -> Iterator[str]:
    with empty_database(any_postgres) as dsn:
        yield dsn


async def test_upgrading_twice_is_upgrading_once(empty: str) -> None:
    """Also inside a running loop, as this test is."""
    first = migrate.upgrade(empty)
    run_sql(empty, "INSERT INTO dataset VALUES ('00000000-0000-0000-0000-000000000001', 'kept')")
    assert migrate.upgrade(empty) == first
    assert run_sql(empty, "SELECT name FROM dataset")[0]["name"] == "kept"
    assert run_sql(empty, "SELECT version_num FROM schema_version")[0][0] == migrate.newest_version()


def test_of_many_that_upgrade_at_once_all_find_it_done(empty: str) -> None:
    with ThreadPoolExecutor(4) as executor:
        flavours = set(executor.map(migrate.upgrade, [empty] * 4))
    assert len(flavours) == 1
    assert run_sql(empty, "SELECT count(*) FROM schema_version")[0][0] == 1


def test_a_database_of_a_newer_program_is_refused(dsn: str) -> None:
    run_sql(dsn, "UPDATE schema_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match=r"schema 9999, newer than .* upgrade Trapline"):
        migrate.upgrade(dsn)


def test_a_role_that_may_not_is_told_who_may(any_postgres: Cluster, empty: str) -> None:
    run_sql(any_postgres.dsn(), "CREATE ROLE guest LOGIN")
    try:
        with pytest.raises(DatabaseError, match="make it the owner of the database"):
            migrate.upgrade(empty.replace("trapline@", "guest@"))
    finally:
        run_sql(any_postgres.dsn(), "DROP ROLE guest")


def test_a_server_that_is_not_there_is_for_later() -> None:
    with pytest.raises(DatabaseUnavailableError, match="does not answer"):
        migrate.upgrade("postgresql://trapline@/trapline?host=/nonexistent")


def test_without_the_extra_the_error_names_it(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "alembic", None)
    with pytest.raises(DatabaseError, match=r"pip install 'trapline\[migrations\]'"):
        migrate.upgrade(empty)


def test_nothing_is_left_of_an_upgrade_that_fails(empty: str) -> None:
    run_sql(empty, "CREATE TABLE reader_position (in_the_way integer)")
    with pytest.raises(Exception, match="reader_position"):
        migrate.upgrade(empty)
    found = run_sql(empty, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert {row[0] for row in found} == {"reader_position"}
    run_sql(empty, "DROP TABLE reader_position")
    migrate.upgrade(empty)


def test_every_table_has_a_key_of_the_client(dsn: str) -> None:
    query = """
        SELECT c.relname, a.attname, t.typname, a.atthasdef
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indrelid
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
        JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE i.indisprimary AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'schema_version'
            AND NOT c.relispartition
    """
    keys = {tuple(row) for row in run_sql(dsn, query)}
    ids = {(table, "_id", "uuid", False) for table in TABLES}
    divided_by = {(table, "t", "timestamptz", False) for table in PARTITIONED}
    assert keys == ids | divided_by | {("segment", "monitored", "bool", False)}


def test_a_nullable_column_has_no_default(dsn: str) -> None:
    query = """
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND is_nullable = 'YES' AND column_default IS NOT NULL
    """
    assert run_sql(dsn, query) == []


def test_tables_and_physical_columns_say_what_they_are(dsn: str) -> None:
    query = "SELECT obj_description(oid) FROM pg_class WHERE relname = ANY (ARRAY['{}'])"
    described = run_sql(dsn, query.format("', '".join(TABLES)))
    assert all(row[0] for row in described)
    query = """
        SELECT c.relname || '.' || a.attname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0
            AND (a.attname LIKE '%\\_deg' OR a.attname IN ('t', 'kind', 'flags', 'v', 'eta'))
            AND col_description(c.oid, a.attnum) IS NULL AND c.relname <> 'transient' AND NOT c.relispartition
    """
    assert [row[0] for row in run_sql(dsn, query)] == []


def test_the_indexes_that_queries_need_are_there(any_dsn: str) -> None:
    rows = run_sql(any_dsn, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'")
    found = " ".join(row[0] for row in rows)
    for wanted in (
        "point USING btree (object, t)",
        "object USING btree (q3c_ang2ipix(ra_deg, dec_deg))",
        "image USING btree (q3c_ang2ipix(centre_ra_deg, centre_dec_deg))",
        "image USING btree (band, t)",
        "object_state USING btree (object, band)",
        "reader_position USING btree (reader, channel, partition)",
    ):
        assert wanted in found, wanted
