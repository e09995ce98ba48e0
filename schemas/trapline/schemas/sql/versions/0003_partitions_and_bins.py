"""Points in partitions by time, and the resolutions that stay: bins of minutes, hours and days."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The points that are there become one partition, as they are: nothing is copied, and a mesh may go on meanwhile.
# A partitioned table is unique only over its partitions' key: the key of a point and of a bin is (_id, t).

PARTITIONED_POINT = (
    "ALTER TABLE point RENAME TO point_first",
    "ALTER TABLE point_first DROP CONSTRAINT point_pkey",
    "ALTER TABLE point_first ADD CONSTRAINT point_first_pkey PRIMARY KEY (_id, t)",
    "ALTER INDEX point_object_t RENAME TO point_first_object_t",
    """
    CREATE TABLE point (LIKE point_first INCLUDING DEFAULTS INCLUDING COMMENTS, PRIMARY KEY (_id, t))
    PARTITION BY RANGE (t)
    """,
    "CREATE INDEX point_object_t ON point (object, t)",
    """
    DO $$
    DECLARE
        first timestamptz;
        last timestamptz;
    BEGIN
        SELECT date_trunc('day', min(t), 'UTC'), date_trunc('day', max(t), 'UTC') INTO first, last FROM point_first;
        IF first IS NULL THEN
            DROP TABLE point_first;
        ELSE
            EXECUTE format(
                'ALTER TABLE point ATTACH PARTITION point_first FOR VALUES FROM (%L) TO (%L)',
                first, last + interval '24 hours'
            );
        END IF;
    END $$
    """,
)

BIN = """
CREATE TABLE bin_{tier} (
    _id             uuid NOT NULL,
    object          uuid NOT NULL,
    t               timestamptz NOT NULL,
    flux_mean       double precision NOT NULL,
    flux_err        double precision NOT NULL,
    flux_min        double precision NOT NULL,
    flux_max        double precision NOT NULL,
    chi2            double precision NOT NULL,
    n               integer NOT NULL,
    n_forced        integer NOT NULL,
    band            text NOT NULL,
    PRIMARY KEY (_id, t)
) PARTITION BY RANGE (t)
"""

TIER = """
CREATE TABLE tier (
    _id      uuid PRIMARY KEY,
    name     text NOT NULL UNIQUE,
    width_s  integer NOT NULL,
    since    timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00'
)
"""

TIERS = (("point", 0), ("minute", 60), ("hour", 3600), ("day", 86400))

BINNING = """
CREATE TABLE binning (
    _id      uuid PRIMARY KEY,
    dataset  uuid NOT NULL UNIQUE REFERENCES dataset,
    newest   timestamptz NOT NULL,
    minute   timestamptz NOT NULL,
    hour     timestamptz NOT NULL,
    day      timestamptz NOT NULL,
    batches  bigint NOT NULL
)
"""

# What is stored already is read back by the dumper at its first batch, and binned then.
BEGIN_BINNING = """
INSERT INTO binning (_id, dataset, newest, minute, hour, day, batches)
SELECT object.dataset, object.dataset, max(point.t), date_trunc('minute', min(point.t), 'UTC'),
    date_trunc('hour', min(point.t), 'UTC'), date_trunc('day', min(point.t), 'UTC'), 0
FROM point JOIN object ON object._id = point.object
GROUP BY object.dataset
"""

COMMENTS = {
    "point": "one row per measurement of an object, in partitions by time. NaN means not measured",
    "tier": "one row per resolution that is stored",
    "tier.name": "point, or that of the bins: minute, hour, day",
    "tier.width_s": "of a bin, seconds; 0 for points as measured",
    "tier.since": "what is older is gone: it is in coarser tiers",
    "binning": "how far the points of a dataset are in bins, committed with them",
    "binning.newest": "start of the newest image that had points",
    "binning.minute": "points before are in bins of minutes; later ones are in the memory of the dumper only",
    "binning.hour": "bins of minutes before are in bins of hours",
    "binning.day": "bins of hours before are in bins of days",
    "binning.batches": "counts commits: a dumper whose memory is of another count reads open bins back",
}
BIN_COMMENTS = {
    "": "one row per object, band and {tier} in which it was measured; late points are merged into it",
    "._id": "of the object in this band, as in object_state",
    ".t": "start of the {tier}, UTC",
    ".flux_mean": "integrated flux density weighted by 1 / error^2, in the unit of object_state",
    ".flux_err": "1 / sqrt(sum of the weights)",
    ".flux_min": "smallest integrated flux",
    ".flux_max": "largest integrated flux",
    ".chi2": "sum of ((flux - flux_mean) / error)^2 over the points; n - 1 is expected of a steady source",
    ".n": "points with a flux and an error, blind and forced",
    ".n_forced": "forced ones among them",
}


def upgrade() -> None:
    for statement in PARTITIONED_POINT:
        op.execute(statement)
    for tier in ("minute", "hour", "day"):
        op.execute(BIN.format(tier=tier))
        op.execute(f"CREATE INDEX bin_{tier}_object_t ON bin_{tier} (object, t)")
    op.execute(TIER)
    for number, (name, width_s) in enumerate(TIERS):
        key = f"00000000-0000-8000-8000-{number:012d}"
        op.execute(f"INSERT INTO tier (_id, name, width_s) VALUES ('{key}', '{name}', {width_s})")
    op.execute(BINNING)
    op.execute(BEGIN_BINNING)
    comments = dict(COMMENTS)
    for tier in ("minute", "hour", "day"):
        comments |= {f"bin_{tier}{end}": text.format(tier=tier) for end, text in BIN_COMMENTS.items()}
    for name, text in comments.items():
        what = "COLUMN" if "." in name else "TABLE"
        op.execute(f"COMMENT ON {what} {name} IS '{text}'")


def downgrade() -> None:
    """Put all points back into one table; bins are lost, and points that were dropped do not return."""
    for table in ("binning", "tier", "bin_day", "bin_hour", "bin_minute"):
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE point RENAME TO point_parts")
    op.execute("ALTER INDEX point_pkey RENAME TO point_parts_pkey")
    op.execute("ALTER INDEX point_object_t RENAME TO point_parts_object_t")
    op.execute("CREATE TABLE point (LIKE point_parts INCLUDING DEFAULTS INCLUDING COMMENTS, PRIMARY KEY (_id))")
    op.execute("INSERT INTO point SELECT * FROM point_parts")
    op.execute("DROP TABLE point_parts")
    op.execute("CREATE INDEX point_object_t ON point (object, t)")
    op.execute("COMMENT ON TABLE point IS 'one row per measurement of an object. NaN means not measured'")
