"""A store of a hundred thousand objects, one of which has as many points."""

from __future__ import annotations

from trapline.common.testing.postgres import run_sql

N = 100_000
# Ids that begin with a time, as ours do: 48 bits of milliseconds, and a number.
ID = "('01890000' || lpad(to_hex({0}), 4, '0') || '80008000' || lpad(to_hex({1}), 12, '0'))::uuid"
OF = ID.format("i / 1000", "i")
DATASET = "00000000-0000-8000-8000-000000000001"
STAR = "01890000-0000-8000-8000-000000000000"
CROWDED = "01890000-0032-8000-8000-00000000c350"
_ROWS = (
    f"INSERT INTO dataset VALUES ('{DATASET}', 'default')",
    f"""
    INSERT INTO object SELECT {OF}, '{DATASET}', (i * 0.0036)::float8, degrees(asin(2 * i / {N}.0 - 1)), 1e-3, 1e-3,
        timestamptz '2026-01-01', timestamptz '2026-01-02', NULL, 0, false, NULL FROM generate_series(0, {N - 1}) AS i
    """,
    f"""
    INSERT INTO object_state SELECT {OF}, {OF}, 5, 5, 1, 3, 8, 0.05 + 0.001 * (i % 100), 1 + 0.01 * (i % 70),
        timestamptz '2026-01-02', 20, 20, '60 MHz', 'Jy' FROM generate_series(0, {N - 1}) AS i
    """,
    "CREATE TABLE IF NOT EXISTS point_many PARTITION OF point FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
    f"""
    INSERT INTO point SELECT {ID.format("0", "i + 4096")}, {ID.format("0", "0")}, {OF}, {OF},
        timestamptz '2026-01-01' + i * interval '1 s', 1, 1, 1e-3, 1e-3, 5, 1, 5 + sin(i / 500.0), 1, 0.1, 1, 9, 0.5, 0,
        i + 1, 0, 0, '60 MHz' FROM generate_series(0, {N - 1}) AS i
    """,
    f"""
    INSERT INTO image (_id, dataset, t, band, noise, unit, margin_px, role, rejected, origin)
    SELECT {OF}, '{DATASET}', timestamptz '2026-01-01' + i * interval '1 s', '60 MHz', 1, 'Jy', 0, 'observation', false,
        '' FROM generate_series(0, {N // 5 - 1}) AS i
    """,
    f"""
    INSERT INTO transient SELECT {OF}, '{DATASET}', {OF}, {OF}, timestamptz '2026-01-01' + i * interval '1 s', 'flare',
        'initial', 'observation', i % 360, 0, 1e-3, 1e-3, '60 MHz', 5, 1, 'Jy', 7 + i % 20, '{{}}'
        FROM generate_series(0, {N // 10 - 1}) AS i
    """,
    f"""
    INSERT INTO triage SELECT {OF}, '{DATASET}', {OF}, {OF}, timestamptz '2026-01-01', 'accept', '', ''
        FROM generate_series(0, {N // 10 - 1}) AS i
    """,
    # A crowd about one of them, and two that went on from another.
    f"""
    UPDATE object SET ra_deg = 100 + 1e-5 * o.n, dec_deg = 40 FROM (
        SELECT _id, row_number() OVER (ORDER BY _id) AS n FROM object WHERE _id > '{CROWDED}' LIMIT 5000
    ) AS o WHERE o._id = object._id
    """,
    f"UPDATE object SET ra_deg = 100, dec_deg = 40, retired = true WHERE _id = '{CROWDED}'",
    f"UPDATE object SET parent = '{CROWDED}' WHERE _id IN (SELECT _id FROM object ORDER BY _id DESC LIMIT 2)",
    "VACUUM ANALYZE",
)


def fill_many(dsn: str) -> None:
    """Put them there, by the server itself."""
    run_sql(dsn, *_ROWS)
