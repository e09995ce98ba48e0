"""Records of `lightcurves` as the transient finder gets them, made by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from trapline.common.ids import fact_id, object_id, point_id, record_id
from trapline.schemas.columns import Array, Link, ids_to_array
from trapline.schemas.image import Band, Image
from trapline.schemas.lightcurves import POINTS, SCHEMA, Lightcurves
from trapline.schemas.message import Message

T0_US = 1_700_000_000_000_000
STARS = tuple(object_id(T0_US, bytes([k])) for k in range(200))


def record(
    number: int,
    stars: npt.ArrayLike,
    flux: npt.ArrayLike = 1.0,
    *,
    band: str = "60 MHz",
    stokes: str = "I",
    **columns: Any,
) -> Message[Lightcurves]:
    """Return record `number`, one second after the one before it, with one point of each of these stars."""
    which = np.atleast_1d(np.asarray(stars, int)).tolist()
    start = T0_US + number * 1_000_000
    image = Image(
        id=fact_id(start, "image", number, band),
        band=Band(band),
        stokes=stokes,
        t_start_us=start,
        unit="Jy",
        role="test",
    )
    arrays: dict[str, Array] = POINTS.empty(len(which))
    names = [STARS[k] for k in which]
    arrays["object_id"] = ids_to_array(names).copy()
    arrays["point_id"] = ids_to_array(
        point_id(start, star, image.id + bytes([k])) for k, star in enumerate(names)
    ).copy()
    values = {
        "flux_int": flux, "flux_int_err": 0.1, "flux_peak": flux, "flux_peak_err": 0.1,
        "object_ra_deg": 359.5, "object_dec_deg": -20.0, "object_err_ew_deg": 0.01, "object_err_ns_deg": 0.02,
        "n": number + 1, "v": 0.1, "eta": 1.0, "link": int(Link.ONE_TO_ONE),
    } | columns  # fmt: skip
    for name, value in values.items():
        arrays[name] = np.broadcast_to(np.asarray(value, arrays[name].dtype), arrays[name].shape).copy()
    header = Lightcurves(schema=SCHEMA, id=record_id(start, SCHEMA, image.id), image=image)
    return Message(header, arrays)


def changed(message: Message[Lightcurves], **fields: Any) -> Message[Lightcurves]:
    """Return the same record with other fields in its header."""
    return Message(msgspec.structs.replace(message.header, **fields), message.arrays)
