"""Channel `lightcurves`: what was learnt about objects, one record per consumed `sources` record or command."""

from __future__ import annotations

from typing import Annotated

import msgspec

from trapline.schemas.columns import Column, Table, id_column
from trapline.schemas.header import Header, Id, doc
from trapline.schemas.image import Image
from trapline.schemas.sources import FLUXES, POSITION_ERRORS, SKY

SCHEMA = "trapline.lightcurves/1.0"

STATISTICS = (
    Column("n", "u4", "points of this object in this band, blind and forced"),
    Column("n_blind", "u4", "blind points of this object in this band"),
    Column("flux_mean", "f8", "mean integrated flux", "unit"),
    Column("flux_mean_weighted", "f8", "mean integrated flux weighted by 1 / error^2", "unit"),
    Column("flux_std", "f8", "sample standard deviation; 0 for one point", "unit"),
    Column("v", "f8", "coefficient of variation; NaN when the mean is not positive"),
    Column("eta", "f8", "reduced chi^2 against a constant flux; 0 for one point"),
)

POINTS = Table(
    "points",
    (
        id_column("point_id", "id of the point: (object, source)"),
        id_column("object_id", "object that the point belongs to"),
        id_column("source_id", "measurement that the point is made of"),
        Column("kind", "u1", "0 blind, 1 forced at a known object, 2 monitored, 3 forced back in time"),
        Column("link", "u1", "0 one-to-one, 1 new, 2 forked, 3 shared, 4 forced, 5 monitored"),
        Column("deruiter", "f4", "de Ruiter radius to the object before this point; NaN for a new or forced one"),
        *SKY,
        *POSITION_ERRORS,
        *FLUXES,
        Column("flags", "u4", "as in `sources`"),
        Column("object_ra_deg", "f8", "weighted mean position after this point, ICRS", "deg"),
        Column("object_dec_deg", "f8", "weighted mean position after this point, ICRS", "deg"),
        Column("object_err_ew_deg", "f8", "its east-west error on the sky, 1 sigma", "deg"),
        Column("object_err_ns_deg", "f8", "its north-south error, 1 sigma", "deg"),
        *STATISTICS,
        Column("misses", "u4", "finished time steps without a match since the last blind one"),
        Column("first_seen_us", "i8", "start of the image of the founding source, since 1970-01-01 UTC", "us"),
        id_column("limit_image_id", "new object: earlier image with the smallest limits here; zeros when none"),
        Column("limit_low", "f8", "new object: flux above which that image may have shown it; NaN when none", "unit"),
        Column("limit_high", "f8", "new object: flux above which it must have shown it; NaN when none", "unit"),
        Column("n_earlier", "u4", "new object: earlier images of the band that covered the position"),
    ),
)

STATES = Table(
    "states",
    (
        id_column("object_id", "object"),
        *STATISTICS,
        Column("flux_min", "f8", "smallest integrated flux", "unit"),
        Column("flux_max", "f8", "largest integrated flux", "unit"),
        Column("last_seen_us", "i8", "start of the image of the last blind point, since 1970-01-01 UTC", "us"),
        Column(
            "flux_mean_weighted_err",
            "f8",
            "1-sigma error of flux_mean_weighted: 1 / sqrt(sum of 1 / error^2); NaN without points; absent from "
            "older associators",
            "unit",
            optional=True,
        ),
    ),
    prefix="states",
    optional=True,
)

PENDING = Table(
    "pending",
    (
        id_column("object_id", "object whose forced value was asked for"),
        id_column("image_id", "image in which it is measured"),
        Column("kind", "u1", "1 forced at a known object, 2 monitored, 3 back in time"),
        Column("misses", "u4", "misses of the object when the pair was decided"),
    ),
    prefix="pending",
    optional=True,
)

INHERITED = Table(
    "inherited",
    (
        id_column("object_id", "child of a fork"),
        Column("band", "u1", "number in `inherited_bands` of the band that these statistics are of"),
        *STATES.columns[1:],
    ),
    prefix="inherited",
    optional=True,
)

NEIGHBOURS = Table(
    "neighbours",
    (
        *SKY,
        Column("flux_peak", "f8", "peak flux density", "unit / beam"),
    ),
    prefix="neighbours",
    optional=True,
)
"""Blind sources in the margin of a region, whose points another associator tells of."""

FEATURES = Table(
    "features",
    (
        id_column(
            "object_id",
            "object in the band of the image; beside it one f8 column for each further statistic that is configured, "
            "`features.NAME`",
        ),
    ),
    prefix="features",
    optional=True,
)


class Fork(msgspec.Struct, frozen=True):
    """One object that became several; each child inherits the past."""

    parent: Id
    children: Annotated[list[Id], doc("the objects that continue")]


class BandKey(msgspec.Struct, frozen=True):
    """What statistics are kept apart by."""

    name: Annotated[str, doc("name of the band")]
    stokes: Annotated[str, doc("Stokes parameter; empty when unknown")] = ""


class Lightcurves(Header, kw_only=True, omit_defaults=True):
    """Header of a record on `lightcurves`."""

    image: Annotated[Image | None, doc("without `wcs`; absent on a command")] = None
    late: Annotated[bool, doc("true for an image older than one folded before it")] = False
    request: Annotated[Id | None, doc("the answered request whose rows these are")] = None
    limit_low: Annotated[float | None, doc("flux above which the image may show an object; absent: no limits")] = None
    limit_high: Annotated[float | None, doc("flux above which it must show it: of its largest noise")] = None
    command: Annotated[str | None, doc("name of the command that this answers")] = None
    forks: Annotated[list[Fork], doc("objects that were split")] = []
    inherited_bands: Annotated[
        list[BandKey], doc("bands, other than the image's, in which children of a fork have a past: see `inherited`")
    ] = []
    retired: Annotated[list[Id], doc("objects that receive no more points")] = []
