"""Which records, and which of their rows, a subscriber wants: decided from headers where that is enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trapline.common.sky import separation_deg, vectors_to_sky
from trapline.schemas.columns import Array, Arrays, Kind
from trapline.schemas.described import Unregistered
from trapline.schemas.header import Header
from trapline.schemas.image import Image

Names = str | Iterable[str] | None
Cone = tuple[float, float, float]
"""(ra_deg, dec_deg, radius_deg), ICRS"""

_ROW_KINDS = {kind.name.lower(): int(kind) for kind in Kind}
_CENTRE = ("ra_deg", "dec_deg")


def field_of(header: Header, name: str) -> Any:
    """Return a field of a header, also of one whose schema is unknown here; None when it has none."""
    if isinstance(header, Unregistered):
        return header.fields.get(name)
    return getattr(header, name, None)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a subscriber wants. A record that has nothing to compare with is not taken.

    Attributes
    ----------
    bands
        Names of bands; empty for all.
    kinds
        Of events (``flare``), or of rows of `sources` and `lightcurves` (``blind``, ``forced``, ``monitored``,
        ``backfill``); empty for all.
    region
        A cone: events in it, images that overlap it, and rows in it.
    """

    bands: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    region: Cone | None = None

    def __bool__(self) -> bool:
        return bool(self.bands or self.kinds or self.region)

    def takes(self, header: Header) -> bool:
        """Tell from a header alone whether the record is wanted, as far as that can be told."""
        if self.bands and _band(header) not in self.bands:
            return False
        kind = field_of(header, "kind")
        if self.kinds and kind is not None and kind not in self.kinds:
            return False
        if self.kinds and kind is None and not any(f.name == "kind" for f in header.frames):
            return False
        return self.region is None or _near(header, self.region)

    def rows(self, arrays: Arrays) -> Mapping[str, Array] | None:
        """Return the arrays with the wanted rows of the table without a prefix; None when all its rows are unwanted."""
        keep = self._kept(arrays)
        if keep is None or keep.all():
            return arrays
        if not keep.any():
            return None
        return {name: a[keep] if "." not in name and a.shape[:1] == keep.shape else a for name, a in arrays.items()}

    def _kept(self, arrays: Arrays) -> Any:
        keep = None
        if self.kinds and "kind" in arrays:
            numbers = [_ROW_KINDS[name] for name in self.kinds if name in _ROW_KINDS]
            keep = np.isin(arrays["kind"], numbers)
        if self.region and all(name in arrays for name in _CENTRE):
            ra, dec, radius = self.region
            inside = separation_deg(arrays["ra_deg"].astype(float), arrays["dec_deg"].astype(float), ra, dec) <= radius
            keep = inside if keep is None else keep & inside
        return keep


def make_filter(band: Names = None, kind: Names = None, region: Cone | None = None) -> Filter:
    """Return a filter.

    Raises
    ------
    ValueError
        When the region is not (ra_deg, dec_deg, radius_deg).
    """
    if region is not None:
        ra, dec, radius = _numbers(region)
        if not (0 <= ra < 360 and -90 <= dec <= 90 and 0 < radius <= 180):
            raise ValueError(f"region {region} is not (ra_deg, dec_deg, radius_deg) in degrees, as (350.0, 52.9, 2.0)")
        region = (ra, dec, radius)
    return Filter(_names(band), _names(kind), region)


def _names(names: Names) -> frozenset[str]:
    return frozenset([names] if isinstance(names, str) else names or ())


def _numbers(region: Cone) -> Cone:
    try:
        ra, dec, radius = (float(value) for value in region)
    except (TypeError, ValueError):
        raise ValueError(f"region {region!r} is not (ra_deg, dec_deg, radius_deg), as (350.0, 52.9, 2.0)") from None
    return ra, dec, radius


def _band(header: Header) -> str | None:
    band = field_of(header, "band") or getattr(field_of(header, "image"), "band", None)
    return band.get("name") if isinstance(band, dict) else getattr(band, "name", None)


def _near(header: Header, region: Cone) -> bool:
    """Tell whether an event is in a cone or an image overlaps it; when that cannot be told, its rows will tell."""
    ra, dec, radius = region
    event_ra, event_dec = (field_of(header, name) for name in _CENTRE)
    if event_ra is not None and event_dec is not None:
        return bool(separation_deg(event_ra, event_dec, ra, dec) <= radius)
    image = field_of(header, "image")
    if not isinstance(image, Image):
        return any(frame.name == "ra_deg" for frame in header.frames)
    cone = _cone_of(image)
    return cone is None or bool(separation_deg(cone[0], cone[1], ra, dec) <= radius + cone[2])


def _cone_of(image: Image) -> Cone | None:
    if image.wcs and image.shape:
        from trapline.common.region import bounding_cone

        axis, radius = bounding_cone(image.wcs, image.shape, image.radius_deg, image.margin_px)
        ra, dec = vectors_to_sky(axis)
        return float(ra), float(dec), radius
    if image.radius_deg is None or image.centre_ra_deg is None or image.centre_dec_deg is None:
        return None
    return image.centre_ra_deg, image.centre_dec_deg, image.radius_deg
