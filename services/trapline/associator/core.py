"""One image after another: its sources join objects, or found them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from trapline.associator.association import Matches, associate, search_radius_deg
from trapline.associator.catalogue import Ids, RowNumbers
from trapline.associator.config import AssociatorConfig
from trapline.associator.coverage import Band, Spot, limit_of, spot_of
from trapline.associator.intake import Usable, usable
from trapline.associator.rows import Outcome, point_columns, state_columns
from trapline.associator.state import AssociatorState, Sky
from trapline.associator.statistics import BandStatistics
from trapline.common.ids import object_id, point_id, record_id
from trapline.common.table import Rows
from trapline.schemas.columns import Array, array_to_ids, ids_to_array
from trapline.schemas.image import Image
from trapline.schemas.lightcurves import POINTS, SCHEMA, STATES, Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.sources import COLUMNS, Sources

__all__ = ["AssociatorState", "Folded", "step"]


class Folded(NamedTuple):
    """What came of one image."""

    messages: tuple[Message[Lightcurves], ...]
    dropped: dict[str, int]
    """sources that were not used, and images folded before, by reason"""


@dataclass(frozen=True, slots=True)
class _Measured:
    """An image that was measured: all that may be wrong with it was looked at, nothing has changed yet."""

    image: Image
    t_us: int
    band: Band
    spot: Spot
    limit: Rows | None
    sources: Usable
    dropped: dict[str, int] = field(default_factory=dict[str, int])


def step(
    state: AssociatorState,
    image: Image,
    sources: Message[Sources] | None,
    settings: AssociatorConfig,
    *,
    dataset: str = "default",
    passed_over: bool = False,
) -> Folded:
    """Fold one image into the state and return its record.

    Parameters
    ----------
    state
        Changed in place; when an error is raised it is as it was.
    image
        The image as `images` announced it. What `sources` says of it goes first.
    sources
        Its blind sources. None when there will be none: the image counts as folded, and its record has no rows.
    dataset
        Of the image; that of `sources` goes first.
    passed_over
        Whether later images were folded because these sources were late: the record is marked late.

    Raises
    ------
    ValueError
        When the image was measured and lacks what measuring takes, or `sources` is about another image.
    SchemaError
        When a column of `sources` is missing or of the wrong type.
    """
    if image.id in state.folded:
        return Folded((), {"repeated_image": 1})
    if sources is not None:
        image, dataset = _described(image, sources), sources.header.dataset
    measured = _inspect(state.skies.get(dataset), image, sources, settings)
    sky = state.skies.setdefault(dataset, Sky())
    late = passed_over or _is_older(image, sky)
    arrays = POINTS.empty() | STATES.empty() if measured is None else _fold(sky, measured, settings)
    state.remember(image.id, settings.remember_images)
    header = Lightcurves(
        schema=SCHEMA,
        id=record_id(image.t_start_us or 0, SCHEMA, image.id),
        dataset=dataset,
        parents=[] if sources is None else [sources.header.id],
        trace=None if sources is None else sources.header.trace,
        image=msgspec.structs.replace(image, wcs=None),
        late=late,
        limit_low=_limit_flux(measured, "low"),
        limit_high=_limit_flux(measured, "high"),
    )
    return Folded((Message(header, arrays),), {} if measured is None else measured.dropped)


def _described(image: Image, sources: Message[Sources]) -> Image:
    found = sources.header.image
    if found.id != image.id:
        raise ValueError(f"the sources are those of image {found.id.hex()}, not of image {image.id.hex()}")
    wcs, place = found.wcs or image.wcs, found.place or image.place
    return msgspec.structs.replace(found, wcs=wcs, place=place)


def _is_older(image: Image, sky: Sky) -> bool:
    known = image.t_start_us is not None and sky.watermark_us is not None
    return known and image.t_start_us < sky.watermark_us  # type: ignore[operator]


def _inspect(
    sky: Sky | None, image: Image, sources: Message[Sources] | None, settings: AssociatorConfig
) -> _Measured | None:
    """Return what there is to fold of an image: None when it was not measured."""
    if sources is None or image.quality.rejected:
        return None
    COLUMNS.check(sources.arrays)
    if image.t_start_us is None or image.band is None:
        raise ValueError(f"image {image.id.hex()} was measured, and has no start or no band: both should be set")
    if image.beam and not (0 < image.beam.minor_deg <= image.beam.major_deg < math.inf):
        raise ValueError(
            f"image {image.id.hex()}: {image.beam} is no beam: its axes should be positive, minor <= major"
        )
    band = (image.band.name, image.stokes or "")
    found, dropped = usable(sources.arrays)
    return _Measured(
        image=image,
        t_us=image.t_start_us,
        band=band,
        spot=spot_of(image, band, settings),
        limit=_limit(image.id, sky.n_measured if sky else 0, sources.header, settings),
        sources=found,
        dropped=dropped,
    )


def _limit(image_id: bytes, fold: int, header: Sources, settings: AssociatorConfig) -> Rows | None:
    """Return the limits that an image sets for later ones: None when it has no pixel that was measured."""
    rms_min, rms_max, threshold = header.rms_min, header.rms_max, header.detection_threshold
    if rms_min is None or rms_max is None or threshold is None:
        return None
    if not (math.isfinite(rms_min) and math.isfinite(rms_max) and math.isfinite(threshold)):
        return None
    return limit_of(image_id, fold, (rms_min, rms_max), threshold + settings.limit_margin_sigma)


def _limit_flux(measured: _Measured | None, which: str) -> float | None:
    return None if measured is None or measured.limit is None else float(measured.limit[which][0])


def _fold(sky: Sky, measured: _Measured, settings: AssociatorConfig) -> dict[str, Array]:
    sources = measured.sources
    radius_deg = search_radius_deg(measured.image.beam, settings)
    matches = associate(sources.positions, sky.catalogue, radius_deg, settings)
    new = matches.objects < 0
    founders = sources.positions.take(new)
    n_earlier, limits = sky.coverage.at(measured.band, founders.ra_deg, founders.dec_deg)
    # From here on nothing fails: the state changes as a whole or not at all.
    objects = _found(sky, measured, matches, new)
    sky.catalogue.move(objects, sources.positions)
    statistics = sky.bands.setdefault(measured.band, BandStatistics()).add(
        objects, sources.columns["flux_int"], sources.columns["flux_int_err"], blind=True, t_us=measured.t_us
    )
    if measured.limit is not None:
        sky.coverage.add(measured.spot, measured.limit, settings.open_pointings)
    sky.n_measured += 1
    sky.watermark_us = max(measured.t_us, measured.t_us if sky.watermark_us is None else sky.watermark_us)
    ids = _point_ids(measured.t_us, sky, objects, sources.source_ids)
    outcome = Outcome(ids, sky.catalogue.table.rows[objects], statistics, matches.deruiter, new, n_earlier, limits)
    return point_columns(sources, outcome) | state_columns(outcome)


def _found(sky: Sky, measured: _Measured, matches: Matches, new: Rows) -> RowNumbers:
    """Return the object of each source, founding those that are new."""
    founding = array_to_ids(measured.sources.source_ids[new])
    ids = ids_to_array(object_id(measured.t_us, source) for source in founding)
    objects = matches.objects.copy()
    objects[new] = sky.catalogue.found(ids, measured.sources.positions.take(new), measured.t_us)
    return objects


def _point_ids(t_us: int, sky: Sky, objects: RowNumbers, sources: Ids) -> Ids:
    object_ids = array_to_ids(sky.catalogue.table.rows["object_id"][objects])
    pairs = zip(object_ids, array_to_ids(sources), strict=True)
    return ids_to_array(point_id(t_us, object_, source) for object_, source in pairs)
