"""The lightcurve store: datasets, images, objects and their states, points, transients, read positions."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# `_id` is made by the client, where the fact is born, and begins with the observation time: see `ids`. Absent values
# are NULL in `image`, `object` and `transient`; in `point` and `object_state`, which are written as whole columns, NaN
# means "not measured". No foreign key on the way of the stream: the writer commits what belongs together.

DATASET = """
CREATE TABLE dataset (
    _id  uuid PRIMARY KEY,
    name text NOT NULL UNIQUE
)
"""

IMAGE = """
CREATE TABLE image (
    _id             uuid PRIMARY KEY,
    dataset         uuid NOT NULL REFERENCES dataset,
    t               timestamptz,
    exposure_s      double precision,
    instrument      text,
    band            text,
    freq_hz         double precision,
    bandwidth_hz    double precision,
    filter          text,
    stokes          text,
    unit            text,
    noise           double precision,
    nx              integer,
    ny              integer,
    centre_ra_deg   double precision,
    centre_dec_deg  double precision,
    radius_deg      double precision,
    margin_px       integer NOT NULL,
    beam_major_deg  double precision,
    beam_minor_deg  double precision,
    beam_pa_deg     double precision,
    wcs             text,
    role            text NOT NULL,
    origin          text NOT NULL,
    rejected        boolean NOT NULL,
    reasons         jsonb NOT NULL DEFAULT '[]',
    flags           text[] NOT NULL DEFAULT '{}'
)
"""

OBJECT = """
CREATE TABLE object (
    _id             uuid PRIMARY KEY,
    dataset         uuid NOT NULL,
    ra_deg          double precision NOT NULL,
    dec_deg         double precision NOT NULL,
    pos_err_ew_deg  double precision NOT NULL,
    pos_err_ns_deg  double precision NOT NULL,
    first_seen      timestamptz NOT NULL,
    last_seen       timestamptz NOT NULL,
    parent          uuid,
    kind            smallint NOT NULL,
    retired         boolean NOT NULL DEFAULT false,
    name            text
) WITH (fillfactor = 80)
"""

OBJECT_STATE = """
CREATE TABLE object_state (
    _id                 uuid PRIMARY KEY,
    object              uuid NOT NULL,
    flux_mean           double precision NOT NULL,
    flux_mean_weighted  double precision NOT NULL,
    flux_std            double precision NOT NULL,
    flux_min            double precision NOT NULL,
    flux_max            double precision NOT NULL,
    v                   double precision NOT NULL,
    eta                 double precision NOT NULL,
    last_seen           timestamptz NOT NULL,
    n                   integer NOT NULL,
    n_blind             integer NOT NULL,
    band                text NOT NULL,
    unit                text,
    UNIQUE (object, band)
) WITH (fillfactor = 70)
"""

POINT = """
CREATE TABLE point (
    _id             uuid PRIMARY KEY,
    object          uuid NOT NULL,
    image           uuid NOT NULL,
    source          uuid NOT NULL,
    t               timestamptz NOT NULL,
    ra_deg          double precision NOT NULL,
    dec_deg         double precision NOT NULL,
    pos_err_ew_deg  double precision NOT NULL,
    pos_err_ns_deg  double precision NOT NULL,
    flux_peak       double precision NOT NULL,
    flux_peak_err   double precision NOT NULL,
    flux_int        double precision NOT NULL,
    flux_int_err    double precision NOT NULL,
    v               double precision NOT NULL,
    eta             double precision NOT NULL,
    snr             real NOT NULL,
    deruiter        real NOT NULL,
    flags           integer NOT NULL,
    n               integer NOT NULL,
    kind            smallint NOT NULL,
    link            smallint NOT NULL,
    band            text NOT NULL
)
"""

TRANSIENT = """
CREATE TABLE transient (
    _id             uuid PRIMARY KEY,
    dataset         uuid NOT NULL,
    object          uuid NOT NULL,
    image           uuid NOT NULL,
    t               timestamptz NOT NULL,
    kind            text NOT NULL,
    alert_type      text NOT NULL,
    role            text NOT NULL,
    ra_deg          double precision NOT NULL,
    dec_deg         double precision NOT NULL,
    pos_err_ew_deg  double precision NOT NULL,
    pos_err_ns_deg  double precision NOT NULL,
    band            text NOT NULL,
    flux_peak       double precision NOT NULL,
    flux_peak_err   double precision NOT NULL,
    unit            text NOT NULL,
    significance    double precision NOT NULL,
    reason          jsonb NOT NULL
)
"""

READER_POSITION = """
CREATE TABLE reader_position (
    _id        uuid PRIMARY KEY,
    reader     text NOT NULL,
    channel    text NOT NULL,
    partition  text NOT NULL,
    epoch      bigint NOT NULL,
    seq        bigint NOT NULL,
    UNIQUE (reader, channel, partition)
)
"""

INDEXES = (
    "CREATE INDEX image_band_t ON image (band, t)",
    "CREATE INDEX image_q3c ON image (q3c_ang2ipix(centre_ra_deg, centre_dec_deg))",
    "CREATE INDEX object_q3c ON object (q3c_ang2ipix(ra_deg, dec_deg))",
    "CREATE INDEX object_name ON object (name) WHERE name IS NOT NULL",
    "CREATE INDEX point_object_t ON point (object, t)",
    "CREATE INDEX transient_t ON transient (t)",
    "CREATE INDEX transient_object ON transient (object)",
)

COMMENTS = {
    "dataset": "one row per processing of the sky",
    "dataset.name": "as in the messages and in `process --dataset`",
    "image": "one row per image that was received, measured or rejected; unreadable input has no more than an origin",
    "image.t": "start of the exposure",
    "image.exposure_s": "length of the exposure; 0 when the header does not say",
    "image.band": "name that groups images; Stokes parameters other than I are part of it",
    "image.freq_hz": "centre of the band; NULL when optical",
    "image.bandwidth_hz": "width of the band; NULL when optical",
    "image.filter": "optical filter; NULL at radio frequencies",
    "image.unit": "of all fluxes of this image: Jy, nJy or count",
    "image.noise": "rms of the clipped central region, in `unit`",
    "image.centre_ra_deg": "right ascension of the centre of the array, ICRS, degrees",
    "image.centre_dec_deg": "declination of the centre of the array, ICRS, degrees",
    "image.radius_deg": "circle about the centre outside which nothing is measured, degrees",
    "image.margin_px": "edge of the array in which nothing is measured, pixels",
    "image.beam_major_deg": "full width at half maximum, degrees",
    "image.beam_minor_deg": "full width at half maximum, degrees",
    "image.beam_pa_deg": "position angle of the major axis, north through east, degrees",
    "image.wcs": "FITS cards of the celestial WCS, 80 characters each",
    "image.origin": "path or socket that it came from, and the position in it",
    "image.reasons": "why it was rejected: a list of {check, text, value, limit}, in the order of the checks",
    "image.flags": "what is odd and did not reject it",
    "object": "one row per object of the sky; its position is the newest weighted mean",
    "object.ra_deg": "right ascension, ICRS, degrees",
    "object.dec_deg": "declination, ICRS, degrees",
    "object.pos_err_ew_deg": "east-west error on the sky, 1 sigma, degrees",
    "object.pos_err_ns_deg": "north-south error, 1 sigma, degrees",
    "object.first_seen": "start of the image of its founding source",
    "object.last_seen": "start of the latest image in which it was detected without being asked for",
    "object.parent": "object that was split, whose past this one inherits; NULL for most",
    "object.kind": "0 detected, 1 a position that an operator watches",
    "object.retired": "true for an object that was split and receives no more points",
    "object.name": "given by a person; NULL for most",
    "object_state": "newest statistics of an object in a band; integrated fluxes in `unit`",
    "object_state._id": "the object's, with the hash of the band over its last 62 bits",
    "object_state.flux_mean_weighted": "weighted by 1 / error^2",
    "object_state.flux_std": "sample standard deviation; 0 for one point",
    "object_state.v": "coefficient of variation; NaN when the mean is not positive",
    "object_state.eta": "reduced chi^2 against a constant flux; 0 for one point",
    "object_state.last_seen": "start of the image of the last blind point in this band",
    "object_state.n": "points, blind and forced",
    "object_state.n_blind": "blind points",
    "point": "one row per measurement of an object. NaN means not measured",
    "point.source": "the measurement; several objects may share one",
    "point.t": "start of the image",
    "point.ra_deg": "right ascension as measured, ICRS, degrees",
    "point.dec_deg": "declination as measured, ICRS, degrees",
    "point.pos_err_ew_deg": "east-west error on the sky, fit and systematic, 1 sigma, degrees",
    "point.pos_err_ns_deg": "north-south error, fit and systematic, 1 sigma, degrees",
    "point.flux_peak": "peak flux density, in the image's unit per beam",
    "point.flux_int": "integrated flux density, in the image's unit",
    "point.v": "coefficient of variation of the object in this band after this point",
    "point.eta": "reduced chi^2 of the object in this band after this point",
    "point.snr": "peak flux over the local noise",
    "point.deruiter": "de Ruiter radius to the object before this point; NaN for a new or forced one",
    "point.flags": "bits: 1 near edge, 2 blended, 4 masked pixel, 8 fit failed, 16 negative, 32 extended, "
    "64 near a bright source, 128 no pixels",
    "point.n": "points of the object in this band after this one, blind and forced",
    "point.kind": "0 blind, 1 forced at a known object, 2 monitored, 3 forced back in time",
    "point.link": "0 one-to-one, 1 new, 2 forked, 3 shared, 4 forced, 5 monitored",
    "transient": "one row per event; the opening record made it, later ones change its type, significance and reason",
    "transient.image": "image that opened the event",
    "transient.t": "start of that image",
    "transient.kind": "new_source, flare, fade, variable, disappeared, returned, or a plug-in's own",
    "transient.alert_type": "of the newest record: initial, update or retraction",
    "transient.flux_peak": "of the point that opened it, in `unit` per beam",
    "transient.significance": "by how much the rule holds, sigma; of the newest record",
    "transient.reason": "of the newest record: rule (values and thresholds), certain, limits_image, image, n, v, eta",
    "reader_position": "how far a reader has stored each partition, committed with the rows",
    "reader_position.epoch": "of the last record read; -1 before the first",
    "reader_position.seq": "of the next record wanted",
}  # fmt: skip


def upgrade() -> None:
    for statement in (DATASET, IMAGE, OBJECT, OBJECT_STATE, POINT, TRANSIENT, READER_POSITION, *INDEXES):
        op.execute(statement)
    for name, text in COMMENTS.items():
        what = "COLUMN" if "." in name else "TABLE"
        quoted = text.replace("'", "''")
        op.execute(f"COMMENT ON {what} {name} IS '{quoted}'")


def downgrade() -> None:
    for table in ("reader_position", "transient", "point", "object_state", "object", "image", "dataset"):
        op.execute(f"DROP TABLE {table}")
