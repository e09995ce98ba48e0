"""Images and `sources` records as the associator gets them, made by hand."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header as FitsHeader

from trapline.associator.core import Folded
from trapline.common.ids import blind_source_id, fact_id, forced_source_id, record_id
from trapline.common.wcs import wcs_cards
from trapline.schemas.columns import Array, array_to_ids, ids_to_array
from trapline.schemas.header import Place
from trapline.schemas.image import Band, Beam, Image
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.sources import COLUMNS, SCHEMA, Sources
from trapline.schemas.watchlist import Remeasure

Float = npt.NDArray[np.float64]

T0_US = 1_700_000_000_000_000


def cards(ra_deg: float, dec_deg: float, shape: tuple[int, int], pixel_deg: float, date: str = "") -> str:
    """Return the WCS of an image that is centred on a position."""
    ny, nx = shape
    header = FitsHeader()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, nx, ny
    header["CTYPE1"], header["CTYPE2"] = "RA---SIN", "DEC--SIN"
    header["CRVAL1"], header["CRVAL2"] = ra_deg, dec_deg
    header["CRPIX1"], header["CRPIX2"] = (nx + 1) / 2, (ny + 1) / 2
    header["CDELT1"], header["CDELT2"] = -pixel_deg, pixel_deg
    if date:
        header["DATE-OBS"] = date
    return wcs_cards(header)


def image(
    number: int,
    *,
    ra_deg: float = 10.0,
    dec_deg: float = 50.0,
    shape: tuple[int, int] = (60, 80),
    pixel_deg: float = 0.02,
    beam_deg: float | None = 0.1,
    t_us: int | None = None,
    band: str = "60 MHz",
    **other: Any,
) -> Image:
    """Return image `number`, one second after the one before it."""
    start = T0_US + number * 1_000_000 if t_us is None else t_us
    made = Image(
        id=fact_id(start, "image", number, band),
        place=Place("images", "0", 0, number),
        instrument="test",
        band=Band(band),
        stokes="I",
        t_start_us=start,
        exposure_s=1.0,
        shape=shape,
        unit="Jy",
        wcs=cards(ra_deg, dec_deg, shape, pixel_deg),
        beam=Beam(beam_deg, beam_deg, 0.0) if beam_deg else None,
        centre_ra_deg=ra_deg % 360,
        centre_dec_deg=dec_deg,
    )
    return msgspec.structs.replace(made, **other)


def sources(
    of: Image,
    ra_deg: npt.ArrayLike = (),
    dec_deg: npt.ArrayLike = (),
    flux: npt.ArrayLike = 1.0,
    *,
    error_deg: npt.ArrayLike = 0.01,
    flux_err: npt.ArrayLike = 0.1,
    rms: tuple[float, float] = (0.1, 0.2),
    dataset: str = "default",
    **columns: npt.ArrayLike,
) -> Message[Sources]:
    """Return the record of an image with these blind sources, in the order of their rank."""
    ra, dec = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in (ra_deg, dec_deg)))
    arrays: dict[str, Array] = COLUMNS.empty(len(ra))
    start = of.t_start_us or 0
    arrays["source_id"] = ids_to_array(blind_source_id(start, of.id, rank) for rank in range(len(ra))).copy()
    values = {
        "ra_deg": ra, "dec_deg": dec, "y": np.arange(len(ra)), "x": 0.0,
        "pos_err_ew_deg": error_deg, "pos_err_ns_deg": error_deg,
        "flux_int": flux, "flux_int_err": flux_err, "flux_peak": flux, "flux_peak_err": flux_err, "snr": 10.0,
    } | columns  # fmt: skip
    for name, value in values.items():
        arrays[name] = np.broadcast_to(np.asarray(value, arrays[name].dtype), arrays[name].shape).copy()
    header = Sources(
        schema=SCHEMA,
        id=record_id(start, SCHEMA, of.id),
        dataset=dataset,
        image=of,
        rms_min=rms[0],
        rms_max=rms[1],
        detection_threshold=8.0,
        analysis_threshold=3.0,
    )
    return Message(header, arrays)


def rows_permuted(message: Message[Sources], order: npt.NDArray[np.intp]) -> Message[Sources]:
    """Return the same record with its rows in another order."""
    return Message(message.header, {name: array[order] for name, array in message.arrays.items()})


def record_of(folded: Folded) -> Message[Lightcurves]:
    """Return the one record on `lightcurves` that came of an input."""
    (record,) = (m for m in folded.messages if isinstance(m.header, Lightcurves))
    return cast("Message[Lightcurves]", record)


def brought_along(of: Image, asked: Message[Any], flux: float = 1.0, flux_err: float = 0.1) -> Message[Sources]:
    """Return the record of an image, without blind sources, in which every position of a list was measured.

    `asked` is a `watchlist` or a `remeasure`; the record of the latter is its answer.
    """
    positions, request = asked.arrays, asked.header.id if isinstance(asked.header, Remeasure) else None
    count, start = len(positions["kind"]), of.t_start_us or 0
    ids = zip(array_to_ids(positions["object_id"]), positions["kind"].tolist(), strict=True)
    columns = {
        "source_id": ids_to_array(forced_source_id(start, of.id, id_, kind) for id_, kind in ids),
        "object_id": positions["object_id"],
        "kind": positions["kind"],
        "watch_ra_deg": positions["ra_deg"],
        "watch_dec_deg": positions["dec_deg"],
        "pos_err_ew_deg": np.nan,
        "pos_err_ns_deg": np.nan,
    }
    record = sources(of, positions["ra_deg"], positions["dec_deg"], flux, flux_err=flux_err, **columns)
    if not count:
        record = sources(of)
    id_ = record_id(start, SCHEMA, of.id, request or b"")
    return Message(msgspec.structs.replace(record.header, id=id_, request=request), record.arrays)
