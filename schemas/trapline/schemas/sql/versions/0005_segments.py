"""Points of closed intervals as arrays: one row per object, band and some hundred points."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# A list by `monitored` and then by time: what an operator watches is kept as long as is wanted, and dropped as a whole
# all the same. The key must have what tables are divided by: (_id, t, monitored).

FLOATS = (
    "ra_deg", "dec_deg", "pos_err_ew_deg", "pos_err_ns_deg", "flux_peak", "flux_peak_err", "flux_int", "flux_int_err",
    "v", "eta",
)  # fmt: skip
ARRAYS = {
    "point": "uuid",
    "image": "uuid",
    "source": "uuid",
    "times": "timestamptz",
    **dict.fromkeys(FLOATS, "double precision"),
    "snr": "real",
    "deruiter": "real",
    "flags": "integer",
    "n": "integer",
    "kind": "smallint",
    "link": "smallint",
}
_ARRAY_COLUMNS = ",\n    ".join(f"{name} {kind}[] NOT NULL" for name, kind in ARRAYS.items())

SEGMENT = f"""
CREATE TABLE segment (
    _id        uuid NOT NULL,
    object     uuid NOT NULL,
    t          timestamptz NOT NULL,
    t_last     timestamptz NOT NULL,
    n_points   integer NOT NULL,
    monitored  boolean NOT NULL,
    late       boolean NOT NULL,
    band       text NOT NULL,
    {_ARRAY_COLUMNS},
    PRIMARY KEY (_id, t, monitored)
) PARTITION BY LIST (monitored)
"""

CLOSED_INTERVAL = """
CREATE TABLE closed_interval (
    _id     uuid PRIMARY KEY,
    since   timestamptz NOT NULL,
    until   timestamptz NOT NULL,
    state   smallint NOT NULL DEFAULT 0,
    object  uuid,
    t       timestamptz,
    point   uuid
)
"""

CLOSING = """
CREATE VIEW closing AS
SELECT coalesce(range_agg(tstzrange(since, until)) FILTER (WHERE state = 0), '{}') AS sealed,
    coalesce(range_agg(tstzrange(since, until)) FILTER (WHERE state = 1), '{}') AS written
FROM closed_interval
"""

_POINT = (
    "_id", "object", "image", "source", "t", *FLOATS, "snr", "deruiter", "flags", "n", "kind", "link", "band",
)  # fmt: skip
_UNNESTED = ", ".join({"point": "_id", "times": "t"}.get(name, name) for name in ARRAYS)

MEASUREMENT = f"""
CREATE VIEW measurement AS
SELECT {", ".join(_POINT)} FROM point WHERE NOT t <@ (SELECT written FROM closing)
UNION ALL
SELECT {", ".join(f"{'segment' if name in ('object', 'band') else 'p'}.{name}" for name in _POINT)}
FROM segment CROSS JOIN LATERAL unnest({", ".join(f"segment.{name}" for name in ARRAYS)}) AS p ({_UNNESTED})
WHERE segment.late OR NOT segment.t <@ (SELECT sealed FROM closing)
"""

DISTANCE = """(
        SELECT 3600 * q3c_dist(point.ra_deg, point.dec_deg, object.ra_deg, object.dec_deg)
        FROM public.object WHERE object._id = point.object
    )"""

ASSOCXTRSOURCE = f"""
CREATE VIEW trap.assocxtrsource AS
SELECT _id AS id, object AS runcat, _id AS xtrsrc, link AS type, {DISTANCE} AS distance_arcsec,
    deruiter::double precision AS r, NULL::double precision AS loglr, v AS v_int, eta AS eta_int, n AS f_datapoints
FROM public.measurement AS point
"""

NEWSOURCE = """
CREATE VIEW trap.newsource AS
SELECT transient._id AS id, transient.object AS runcat, trigger._id AS trigger_xtrsrc,
    (reason ->> 'certain')::boolean::integer AS newsource_type,
    (reason ->> 'limits_image')::uuid AS previous_limits_image
FROM public.transient
LEFT JOIN LATERAL (
    SELECT point._id FROM public.measurement AS point
    WHERE point.object = transient.object AND point.image = transient.image AND point.t = transient.t
    ORDER BY point._id LIMIT 1
) AS trigger ON true
WHERE transient.kind = 'new_source' AND alert_type <> 'retraction'
"""

SIGMA = """(
        SELECT transient.flux_peak / nullif(image.noise, 0) FROM public.transient
        JOIN public.image ON image._id = (transient.reason ->> 'limits_image')::uuid
        WHERE transient.object = object_state.object AND transient.kind = 'new_source'
        ORDER BY transient.t LIMIT 1
    )"""

VARMETRIC = f"""
CREATE VIEW trap.varmetric AS
SELECT object_state._id AS id, object AS runcat, band, v AS v_int, eta AS eta_int, flux_max AS lightcurve_max,
    flux_mean AS lightcurve_avg, (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY point.flux_int) FROM public.measurement AS point
        WHERE point.object = object_state.object AND point.band = object_state.band AND point.flux_int <> 'NaN'
    ) AS lightcurve_median, {SIGMA} AS sigma_rms_max, {SIGMA} AS sigma_rms_min, (
        SELECT transient._id FROM public.transient
        WHERE transient.object = object_state.object AND transient.kind = 'new_source' ORDER BY t LIMIT 1
    ) AS newsource
FROM public.object_state
"""

COMMENTS = {
    "segment": "one row per object, band and some points of a closed interval, in partitions by time. Arrays are in "
    "the order of time, an element per point, as in point",
    "segment._id": "that of its first point",
    "segment.t": "start of the image of its first point",
    "segment.t_last": "and of its last",
    "segment.monitored": "of a position that an operator watches",
    "segment.late": "came after its interval was closed",
    "segment.times": "start of the images",
    "segment.point": "ids of the points",
    "closed_interval": "times whose points are in segments; later ones of that time go there directly",
    "closed_interval.state": "0 no more rows go to its partition of point; 1 all of them are in segments, and are read "
    "there; 2 the partition is dropped",
    "closed_interval.object": "while state is 0: (object, t, point) up to which rows are in segments; NULL for none",
    "closed_interval.t": "see object",
    "closing": "one row: times of which segments are not read yet but for late ones, and times of which points are not "
    "read any more",
    "measurement": "points as measured, of open intervals and of closed ones: the columns of point",
}  # fmt: skip
_TRAP_COMMENTS = {
    "assocxtrsource": "; distance_arcsec is to the newest position of the object; loglr was never filled",
    "varmetric": "; lightcurve_median is of the points that are kept; both sigma_rms are the peak of the new source "
    "over the noise of the image that set the limits",
    "extractedsource": "; runcat is the object: in a join with assocxtrsource name it in both, which is faster",
}  # fmt: skip


def _older() -> Any:
    """Return the migration that made the views."""
    spec = spec_from_file_location("compatible_views", Path(__file__).with_name("0004_compatible_views.py"))
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _replace_views(views: dict[str, str], comments: dict[str, str]) -> None:
    for name, statement in views.items():
        op.execute(f"DROP VIEW trap.{name}")
        op.execute(statement)
        op.execute(f"COMMENT ON VIEW trap.{name} IS '{comments[name]}'")


def upgrade() -> None:
    for statement in (SEGMENT, "CREATE INDEX segment_object_t ON segment (object, t)"):
        op.execute(statement)
    for name, value in (("segment_detected", "false"), ("segment_monitored", "true")):
        op.execute(
            f"CREATE TABLE {name} PARTITION OF segment FOR VALUES IN ({value}) PARTITION BY RANGE (t)",
        )
    # Statistics of arrays take minutes and help no query.
    op.execute(f"ALTER TABLE segment {', '.join(f'ALTER COLUMN {name} SET STATISTICS 0' for name in ARRAYS)}")
    for statement in (CLOSED_INTERVAL, CLOSING, MEASUREMENT):
        op.execute(statement)
    op.execute("INSERT INTO tier (_id, name, width_s) VALUES ('00000000-0000-8000-8000-000000000004', 'monitored', 0)")
    op.execute("COMMENT ON COLUMN tier.name IS 'point, that of monitored positions, or that of the bins: minute, hour, "
               "day'")  # fmt: skip
    comments = dict(COMMENTS)
    for name in ARRAYS:
        if f"segment.{name}" not in comments:
            comments[f"segment.{name}"] = f"as point.{name}"
    for name, text in comments.items():
        what = "COLUMN" if "." in name else "VIEW" if name in ("closing", "measurement") else "TABLE"
        op.execute(f"COMMENT ON {what} {name} IS '{text}'")
    for name in _POINT:
        op.execute(f"""
            DO $$ BEGIN EXECUTE format('COMMENT ON COLUMN measurement.{name} IS %L',
                col_description('point'::regclass, (SELECT attnum FROM pg_attribute
                    WHERE attrelid = 'point'::regclass AND attname = '{name}'))); END $$
        """)
    older = _older()
    source = older.EXTRACTEDSOURCE.replace("FROM public.point", "FROM public.measurement")
    views = {
        "extractedsource": source.replace("flags\nFROM", "flags, object AS runcat\nFROM"),
        "assocxtrsource": ASSOCXTRSOURCE,
        "newsource": NEWSOURCE,
        "varmetric": VARMETRIC,
        "runningcatalog": older.RUNNINGCATALOG.replace("FROM public.point", "FROM public.measurement AS point"),
    }
    _replace_views(views, {name: older.COMMENTS[name] + _TRAP_COMMENTS.get(name, "") for name in views})


# All points go back into one partition of rows: those of segments cannot be told from others after that.
RESTORED = (
    "ALTER TABLE point RENAME TO point_parts",
    "ALTER INDEX point_pkey RENAME TO point_parts_pkey",
    "ALTER INDEX point_object_t RENAME TO point_parts_object_t",
    """
    CREATE TABLE point (LIKE point_parts INCLUDING DEFAULTS INCLUDING COMMENTS, PRIMARY KEY (_id, t))
    PARTITION BY RANGE (t)
    """,
    "CREATE INDEX point_object_t ON point (object, t)",
    "COMMENT ON TABLE point IS 'one row per measurement of an object, in partitions by time. NaN means not measured'",
    "CREATE TABLE point_back (LIKE point INCLUDING ALL)",
    "INSERT INTO point_back SELECT * FROM measurement",
    "DROP VIEW measurement",
    "DROP VIEW closing",
    "DROP TABLE point_parts",
    "DROP TABLE segment",
    "DROP TABLE closed_interval",
    """
    DO $$
    DECLARE
        first timestamptz;
        last timestamptz;
    BEGIN
        SELECT date_trunc('day', min(t), 'UTC'), date_trunc('day', max(t), 'UTC') INTO first, last FROM point_back;
        IF first IS NULL THEN
            DROP TABLE point_back;
        ELSE
            ALTER TABLE point_back RENAME TO point_first;
            EXECUTE format(
                'ALTER TABLE point ATTACH PARTITION point_first FOR VALUES FROM (%L) TO (%L)',
                first, last + interval '24 hours'
            );
        END IF;
    END $$
    """,
    "DELETE FROM tier WHERE name = 'monitored'",
    "COMMENT ON COLUMN tier.name IS 'point, or that of the bins: minute, hour, day'",
)


def downgrade() -> None:
    older = _older()
    names = ("extractedsource", "assocxtrsource", "newsource", "varmetric", "runningcatalog")
    for name in names:
        op.execute(f"DROP VIEW trap.{name}")
    for statement in RESTORED:
        op.execute(statement)
    for name in names:
        op.execute(older.VIEWS[name])
        op.execute(f"COMMENT ON VIEW trap.{name} IS '{older.COMMENTS[name]}'")
