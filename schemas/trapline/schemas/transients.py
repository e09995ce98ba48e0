"""Channel `transients`: what an observer is woken for, with the reason; `suppressed`: what a veto kept from that."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from trapline.schemas.columns import Column, Plane, Table, id_column
from trapline.schemas.header import DecDeg, Header, Id, Place, RaDeg, doc
from trapline.schemas.image import Band

SCHEMA = "trapline.transients/1.0"
SUPPRESSED_SCHEMA = "trapline.suppressed/1.0"

RECENT = Table(
    "recent",
    (
        id_column("point_id", "id of the point"),
        Column("t_us", "i8", "start of the image, since 1970-01-01 UTC", "us"),
        Column("kind", "u1", "as in `sources`"),
        Column("flux_peak", "f8", "peak flux density", "unit / beam"),
        Column("flux_peak_err", "f8", "its error, 1 sigma", "unit / beam"),
        Column("flux_int", "f8", "integrated flux density", "unit"),
        Column("flux_int_err", "f8", "its error, 1 sigma", "unit"),
    ),
    prefix="recent",
    optional=True,
)
CUTOUT = Plane("cutout", "f4", ("ny", "nx"), "pixels about the position, while the image is in the journal", "unit")


class Stage(msgspec.Struct, frozen=True):
    """What an event was made of, as a service published it: the time since the stage before is that service's."""

    producer: Annotated[str, doc('service and replica: "source_extractor/1"')]
    t_pub_us: Annotated[int, doc("when it was published, since 1970-01-01 UTC", "us")]


class Transients(Header, kw_only=True, omit_defaults=True):
    """Header of a record on `transients`: one event, or a change of one."""

    event_id: Annotated[Id, doc("hash of object, rule and opening image: an update carries the same")]
    object_id: Id
    kind: Annotated[str, doc("new_source, flare, fade, variable, disappeared, returned, or a plug-in's own")]
    alert_type: Literal["initial", "update", "retraction"] = "initial"
    ended: Annotated[bool, doc("true on the update that closes an episode: the object is as it was")] = False
    veto: Annotated[str | None, doc("why it was retracted, or kept back; absent otherwise")] = None
    role: Annotated[str, doc("observation, test or injection: that of the image")] = "observation"
    image_id: Annotated[Id, doc("image that caused this record")]
    image_place: Annotated[Place | None, doc("where its pixels are, as long as they are kept")] = None
    t_us: Annotated[int, doc("start of that image, since 1970-01-01 UTC", "us")]
    ra_deg: RaDeg
    dec_deg: DecDeg
    pos_err_ew_deg: Annotated[float, doc("east-west error on the sky, 1 sigma", "deg")]
    pos_err_ns_deg: Annotated[float, doc("north-south error, 1 sigma", "deg")]
    band: Band
    flux_peak: Annotated[float, doc("of the point that caused it; NaN when there is none: disappeared", "unit / beam")]
    flux_peak_err: Annotated[float, doc("its error, 1 sigma", "unit / beam")]
    unit: Annotated[str, doc("of the fluxes")] = "Jy"
    significance: Annotated[float, doc("by how much the rule holds", "sigma")]
    certain: Annotated[bool | None, doc("new_source: above what the earlier image must have shown")] = None
    rule: Annotated[dict[str, float], doc("values that the rule saw, and its thresholds")] = {}
    limits_image: Annotated[Id | None, doc("new_source: the earlier image that bounds it")] = None
    n: Annotated[int, doc("points of the object in this band, this one included")] = 0
    v: Annotated[float | None, doc("coefficient of variation of the object in this band")] = None
    eta: Annotated[float | None, doc("reduced chi^2 of the object in this band against a constant flux")] = None
    timeline: Annotated[
        list[Stage], doc("image, sources and lightcurves it was made of, by time; `t_pub_us` ends it")
    ] = []
    cutout_wcs: Annotated[str | None, doc("FITS cards of the WCS of `cutout`; absent without one")] = None


class Suppressed(Transients, kw_only=True, omit_defaults=True):
    """Header of a record on `suppressed`: an event that nobody was woken for, because of its `veto`."""
