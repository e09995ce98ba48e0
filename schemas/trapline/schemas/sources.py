"""Channel `sources`: what was measured in an image, one record per image and per answered request."""

from __future__ import annotations

from typing import Annotated

from trapline.schemas.columns import Column, Table, id_column
from trapline.schemas.header import Header, Id, doc
from trapline.schemas.image import Beam, Image

SCHEMA = "trapline.sources/1.0"

SKY = (
    Column("ra_deg", "f8", "right ascension, ICRS, in [0, 360)", "deg"),
    Column("dec_deg", "f8", "declination, ICRS", "deg"),
)
POSITION_ERRORS = (
    Column("pos_err_ew_deg", "f8", "east-west error on the sky, fit and systematic in quadrature, 1 sigma", "deg"),
    Column("pos_err_ns_deg", "f8", "north-south error, fit and systematic in quadrature, 1 sigma", "deg"),
)
FLUXES = (
    Column("flux_peak", "f8", "peak flux density; NaN when not measured", "unit / beam"),
    Column("flux_peak_err", "f8", "its error, 1 sigma", "unit / beam"),
    Column("flux_int", "f8", "integrated flux density; NaN when not measured", "unit"),
    Column("flux_int_err", "f8", "its error, 1 sigma", "unit"),
    Column("snr", "f4", "peak flux over the local noise"),
)

COLUMNS = Table(
    "sources",
    (
        id_column("source_id", "id of the measurement"),
        Column("kind", "u1", "0 blind, 1 forced at a known object, 2 monitored, 3 forced back in time"),
        id_column("object_id", "object that was asked for; zeros when blind"),
        Column("watch_ra_deg", "f8", "position that was asked for, ICRS; NaN when blind", "deg"),
        Column("watch_dec_deg", "f8", "position that was asked for, ICRS; NaN when blind", "deg"),
        Column("x", "f8", "0-based, the centre of the lower-left pixel is 0.0", "px"),
        Column("y", "f8", "0-based, the centre of the lower-left pixel is 0.0", "px"),
        *SKY,
        Column("ra_err_deg", "f8", "east-west error of the fit on the sky, 1 sigma", "deg"),
        Column("dec_err_deg", "f8", "north-south error of the fit, 1 sigma", "deg"),
        *POSITION_ERRORS,
        *FLUXES,
        Column("major_deg", "f4", "fitted major axis, full width at half maximum", "deg"),
        Column("minor_deg", "f4", "fitted minor axis, full width at half maximum", "deg"),
        Column("pa_deg", "f4", "position angle of the major axis, north through east", "deg"),
        Column("chi2_reduced", "f4", "of the fit, in units of the local noise; NaN without a fit"),
        Column("flags", "u4", "bits: 1 near edge, 2 blended, 4 masked pixel, 8 fit failed, 16 negative, 32 extended, "
               "64 near a bright source, 128 no pixels"),
    ),
)  # fmt: skip


class Sources(Header, kw_only=True, omit_defaults=True):
    """Header of a record on `sources`. A rejected or empty image gives a record without rows."""

    image: Image
    request: Annotated[Id | None, doc("the `remeasure` record that this answers; absent otherwise")] = None
    rms_min: Annotated[float | None, doc("smallest noise in the region, in `unit`; absent when rejected")] = None
    rms_max: Annotated[float | None, doc("largest noise in the region, in `unit`; absent when rejected")] = None
    detection_threshold: Annotated[float | None, doc("of a peak", "sigma")] = None
    analysis_threshold: Annotated[float | None, doc("of an island's edge", "sigma")] = None
    left_out: Annotated[
        int, doc("sources above the threshold that were not measured, fainter than all that were: there are too many")
    ] = 0
    psf: Annotated[
        Beam | None,
        doc("the point-spread function as its stars show it; absent with a restoring beam or too few stars"),
    ] = None
    watchlist_version: Annotated[int | None, doc("watchlist that was measured; absent without one")] = None
