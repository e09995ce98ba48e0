"""An image with its sources, looked at before anything changes: what is wrong with it is said here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from trapline.associator.association import search_radius_deg
from trapline.associator.config import AssociatorConfig
from trapline.associator.coverage import Band, Spot, limit_of, spot_of
from trapline.associator.intake import Usable, usable
from trapline.associator.regions import Domain
from trapline.associator.requests import Folded
from trapline.associator.state import Sky
from trapline.common.table import Rows
from trapline.schemas.columns import Array
from trapline.schemas.header import Place
from trapline.schemas.image import Image
from trapline.schemas.message import Message
from trapline.schemas.sources import COLUMNS, Sources


@dataclass(frozen=True, slots=True)
class Measured:
    """An image that was measured: all that may be wrong with it was looked at, nothing has changed yet."""

    dataset: str
    image: Image
    t_us: int
    band: Band
    spot: Spot
    limit: Rows | None
    sources: Usable
    arrays: Mapping[str, Array]
    """of its `sources` record, with what the watchlist brought along"""
    folded: Folded
    late: bool
    domain: Domain
    dropped: dict[str, int] = field(default_factory=dict[str, int])

    def limit_flux(self, which: str) -> float | None:
        """Return the flux above which the image may (``low``) or must (``high``) show an object; None: no limits."""
        return None if self.limit is None else float(self.limit[which][0])


def described(image: Image, sources: Message[Sources]) -> Image:
    """Return an image as its sources describe it, which goes first.

    Raises
    ------
    ValueError
        When the sources are of another image.
    """
    found = sources.header.image
    if found.id != image.id:
        raise ValueError(f"the sources are those of image {found.id.hex()}, not of image {image.id.hex()}")
    wcs, place = found.wcs or image.wcs, found.place or image.place
    return msgspec.structs.replace(found, wcs=wcs, place=place)


def inspect(
    sky: Sky | None,
    image: Image,
    sources: Message[Sources] | None,
    settings: AssociatorConfig,
    *,
    late: bool,
    sources_place: Place | None,
    domain: Domain,
) -> Measured | None:
    """Return what there is to fold of an image: None when it was not measured.

    Raises
    ------
    ValueError
        When it was measured and lacks what measuring takes.
    SchemaError
        When a column of `sources` is missing or of the wrong type.
    """
    if sources is None or image.quality.rejected:
        return None
    COLUMNS.check(sources.arrays)
    if image.t_start_us is None or image.band is None:
        raise ValueError(f"image {image.id.hex()} was measured, and has no start or no band: both should be set")
    if image.place is None:
        raise ValueError(f"image {image.id.hex()} was measured, and has no place on `images`: it should be set")
    if image.beam and not (0 < image.beam.minor_deg <= image.beam.major_deg < math.inf):
        raise ValueError(
            f"image {image.id.hex()}: {image.beam} is no beam: its axes should be positive, minor <= major"
        )
    band = (image.band.name, image.stokes or "")
    found, dropped = _seen(domain, *usable(sources.arrays))
    spot = spot_of(image, band, settings)
    return Measured(
        dataset=sources.header.dataset,
        image=image,
        t_us=image.t_start_us,
        band=band,
        spot=spot,
        limit=_limit(image.id, sky.n_measured if sky else 0, sources.header, settings),
        sources=found,
        arrays=sources.arrays,
        folded=Folded(msgspec.structs.replace(image, wcs=None), image.place, sources_place, spot.footprint, spot.order),
        late=late,
        domain=domain,
        dropped=dropped | _beyond_margin(domain, image, settings),
    )


def _beyond_margin(domain: Domain, image: Image, settings: AssociatorConfig) -> dict[str, int]:
    """Count an image in which sources find candidates beyond the margin of the region, that are not known here."""
    return {"margin_too_small": 1} if search_radius_deg(image.beam, settings) > domain.margin_deg else {}


def _seen(domain: Domain, sources: Usable, dropped: dict[str, int]) -> tuple[Usable, dict[str, int]]:
    """Return the sources in a region and its margin, and how many of the others there are beside what was dropped."""
    seen = domain.sees(sources.positions.ra_deg, sources.positions.dec_deg)
    if seen.all():
        return sources, dropped
    return sources.take(seen), dropped | {"elsewhere": int((~seen).sum())}


def _limit(image_id: bytes, fold: int, header: Sources, settings: AssociatorConfig) -> Rows | None:
    """Return the limits that an image sets for later ones: None when it has no pixel that was measured."""
    rms_min, rms_max, threshold = header.rms_min, header.rms_max, header.detection_threshold
    if rms_min is None or rms_max is None or threshold is None:
        return None
    if not (math.isfinite(rms_min) and math.isfinite(rms_max) and math.isfinite(threshold)):
        return None
    return limit_of(image_id, fold, (rms_min, rms_max), threshold + settings.limit_margin_sigma)
