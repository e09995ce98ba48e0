"""Records of `lightcurves` as the transient finder gets them, made by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from trapline.common.ids import fact_id, object_id, point_id, record_id
from trapline.schemas.columns import Array, Kind, Link, ids_to_array
from trapline.schemas.image import Band, Beam, Image
from trapline.schemas.lightcurves import PENDING, POINTS, SCHEMA, Fork, Lightcurves
from trapline.schemas.message import Message
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, Judged, step

T0_US = 1_700_000_000_000_000
STEP_US = 1_000_000
STARS = tuple(object_id(T0_US, bytes([k])) for k in range(200))
BAND = "60 MHz"


def image_of(number: int, band: str = BAND, stokes: str = "I") -> Image:
    """Return image `number`, one second after the one before it; those of other bands at the same time."""
    start = T0_US + number * STEP_US
    return Image(
        id=fact_id(start, "image", number, band),
        band=Band(band),
        stokes=stokes,
        t_start_us=start,
        unit="Jy",
        role="test",
        beam=Beam(0.1, 0.08, 0.0),
    )


def record(
    number: int,
    stars: npt.ArrayLike,
    flux: npt.ArrayLike = 1.0,
    *,
    band: str = BAND,
    stokes: str = "I",
    pending: Iterable[tuple[int, int, str, int, int]] = (),
    header: dict[str, Any] | None = None,
    **columns: Any,
) -> Message[Lightcurves]:
    """Return the record of an image, with one point of each of these stars.

    `pending` are (star, number of the image, its band, kind, misses).
    """
    which = np.atleast_1d(np.asarray(stars, int)).tolist()
    image = image_of(number, band, stokes)
    start = image.t_start_us or 0
    arrays: dict[str, Array] = POINTS.empty(len(which))
    names = [STARS[k] for k in which]
    arrays["object_id"] = ids_to_array(names).copy()
    arrays["point_id"] = ids_to_array(
        point_id(start, star, image.id + bytes([k])) for k, star in enumerate(names)
    ).copy()
    values = {
        "flux_int": flux, "flux_int_err": 0.1, "flux_peak": flux, "flux_peak_err": 0.1, "ra_deg": 359.5,
        "dec_deg": -20.0, "object_ra_deg": 359.5, "object_dec_deg": -20.0, "object_err_ew_deg": 0.01,
        "object_err_ns_deg": 0.02, "n": number + 1, "v": 0.1, "eta": 1.0, "link": int(Link.ONE_TO_ONE),
    } | columns  # fmt: skip
    for name, value in values.items():
        arrays[name] = np.broadcast_to(np.asarray(value, arrays[name].dtype), arrays[name].shape).copy()
    fields = {"schema": SCHEMA, "id": record_id(start, SCHEMA, image.id), "image": image} | (header or {})
    return Message(Lightcurves(**fields), arrays | _pending(list(pending)))


def forced(number: int, star: int, flux: float = 0.0, misses: int = 0, **columns: Any) -> Message[Lightcurves]:
    """Return the record of an image in which one star was not found, and its flux was measured."""
    given: dict[str, Any] = {"kind": int(Kind.FORCED), "link": int(Link.FORCED)} | columns
    return record(number, star, flux, misses=misses, **given)


def asked(number: int, star: int, misses: int = 0, band: str = BAND, **given: Any) -> Message[Lightcurves]:
    """Return the record of an image in which one star was not found, and its flux was asked for."""
    return record(number, [], band=band, pending=[(star, number, band, int(Kind.FORCED), misses)], **given)


def answer(number: int, star: int, flux: float, band: str = BAND, **columns: Any) -> Message[Lightcurves]:
    """Return the record with the value that was asked for."""
    given: dict[str, Any] = {"kind": int(Kind.FORCED), "link": int(Link.FORCED)} | columns
    request = fact_id(0, "request", number, star, band)
    own = record_id(0, SCHEMA, image_of(number, band).id, request)
    return record(number, star, flux, band=band, header={"request": request, "id": own}, **given)


def forked(number: int, parent: int, children: Sequence[int], flux: npt.ArrayLike) -> Message[Lightcurves]:
    """Return the record of an image in which one star became several."""
    fork = Fork(STARS[parent], [STARS[k] for k in children])
    return record(number, children, flux, link=int(Link.FORKED), header={"forks": [fork]})


def changed(message: Message[Lightcurves], **fields: Any) -> Message[Lightcurves]:
    """Return the same record with other fields in its header."""
    return Message(msgspec.structs.replace(message.header, **fields), message.arrays)


def run(
    records: Iterable[Message[Lightcurves]], settings: FinderConfig | None = None, state: FinderState | None = None
) -> list[Judged]:
    """Return what comes of each record."""
    state, settings = state or FinderState(), settings or FinderConfig()
    return [step(state, r, settings) for r in records]


def said(judged: Iterable[Judged]) -> list[tuple[int, str, str]]:
    """Return the events as (number of the record, kind, what of it)."""
    return [
        (number, m.header.kind, "ended" if m.header.ended else m.header.alert_type)
        for number, found in enumerate(judged)
        for m in found.messages
    ]


def kept_back(judged: Iterable[Judged]) -> list[tuple[int, str, str | None]]:
    """Return the suppressed events as (number of the record, kind, veto)."""
    return [(k, m.header.kind, m.header.veto) for k, found in enumerate(judged) for m in found.suppressed]


def _pending(pairs: list[tuple[int, int, str, int, int]]) -> dict[str, Array]:
    if not pairs:
        return {}
    columns: dict[str, Array] = {
        "object_id": ids_to_array(STARS[star] for star, *_ in pairs),
        "image_id": ids_to_array(image_of(number, band).id for _, number, band, _, _ in pairs),
        "kind": np.array([kind for *_, kind, _ in pairs], np.uint8),
        "misses": np.array([misses for *_, misses in pairs], np.uint32),
    }
    return PENDING.prefixed(columns)
