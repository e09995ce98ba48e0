"""Which source is which object: candidates by distance and de Ruiter radius, and what a method makes of them.

The de Ruiter radius is the offset in units of its error (Scheers 2011, thesis, University of Amsterdam, chapter 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.associator.candidates import Bool, Candidates
from trapline.associator.catalogue import Catalogue, Positions, positions_of
from trapline.associator.config import AssociatorConfig
from trapline.associator.index import Gate
from trapline.associator.methods import method_named
from trapline.common.sky import separation_deg, tangent_basis, unit_vectors
from trapline.common.table import Rows
from trapline.schemas.columns import Link
from trapline.schemas.image import Beam

Float = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.intp]

_POLAR_DEC_DEG = 80.0
# Beyond this the plane that touches the sky at an object's first position means nothing.
_LARGEST_SEARCH_DEG = 45.0


@dataclass(frozen=True, slots=True)
class Joined:
    """The points that the sources of an image become, (n,) each, in order of source and then object id.

    Attributes
    ----------
    source
        Rank of the source; several times when it is shared.
    object_row
        Row of the object in the catalogue; of one that forks, the parent's; -1 when the source founds an object.
    link
        `Link`: one-to-one, new, forked or shared.
    deruiter
        Radius to the object before this image; NaN when there was none.
    """

    source: RowNumbers
    object_row: RowNumbers
    link: npt.NDArray[np.uint8]
    deruiter: Float

    def __len__(self) -> int:
        return len(self.source)

    def take(self, which: Bool) -> Joined:
        """Return some of them."""
        return Joined(self.source[which], self.object_row[which], self.link[which], self.deruiter[which])


def search_radius_deg(beam: Beam | None, settings: AssociatorConfig) -> float:
    """Return the largest distance of a candidate: beam widths, or the fixed limit of images without a beam."""
    if beam is None:
        return settings.no_beam_limit_deg
    return min(settings.beamwidths_limit * beam.major_deg / 2, _LARGEST_SEARCH_DEG)


def deruiter_radius(a: Positions, b: Positions) -> Float:
    """Return the dimensionless de Ruiter radius of pairs of positions, (n,).

    r^2 = (dRA cos((dec1 + dec2) / 2))^2 / (s_ew1^2 + s_ew2^2) + (ddec)^2 / (s_ns1^2 + s_ns2^2), with dRA wrapped to
    (-180, 180]; where a position is beyond 80 degrees of declination, both offsets are those in the plane that touches
    the sky between the two.
    """
    east = a.ra_deg - b.ra_deg
    around = np.abs(east) > 180.0
    east[around] -= np.copysign(360.0, east[around])
    east *= np.cos(np.radians((a.dec_deg + b.dec_deg) / 2))
    north = a.dec_deg - b.dec_deg
    polar = np.maximum(np.abs(a.dec_deg), np.abs(b.dec_deg)) > _POLAR_DEC_DEG
    if polar.any():
        east[polar], north[polar] = _midpoint_offsets(a.take(polar), b.take(polar))
    return np.asarray(
        np.sqrt(
            east**2 / (a.err_ew_deg**2 + b.err_ew_deg**2) + north**2 / (a.err_ns_deg**2 + b.err_ns_deg**2),
        )
    )


def associate(sources: Positions, catalogue: Catalogue, radius_deg: float, settings: AssociatorConfig) -> Joined:
    """Join sources to objects by the configured method.

    Parameters
    ----------
    sources
        In the order of their rank in the image.
    catalogue
        Objects as they were before this image; its index may be replanted, nothing else changes.
    radius_deg
        Distance limit on the sky.

    Raises
    ------
    ValueError
        When the method returns what is no choice of pairs.
    """
    pairs = candidates(sources, catalogue, radius_deg, settings)
    return _joined(method_named(settings.method)(pairs), len(sources), settings.method)


def candidates(sources: Positions, catalogue: Catalogue, radius_deg: float, settings: AssociatorConfig) -> Candidates:
    """Return the pairs within the distance limit and below the limit of the de Ruiter radius."""
    error_deg = float(sources.largest_err_deg().max(initial=0.0))
    gate = Gate(radius_deg, settings.deruiter_radius)
    near, rows = catalogue.index.near(unit_vectors(sources.ra_deg, sources.dec_deg), error_deg, gate)
    # One look at each row: they are far apart in memory. `take` copies rows whole, an index field by field.
    found = catalogue.table.rows.take(rows)
    at, objects = sources.take(near), positions_of(found)
    radius = deruiter_radius(at, objects)
    kept = (radius < settings.deruiter_radius) & _is_plane(found, radius_deg)
    if not gate.is_decided_by_errors(error_deg, float(objects.largest_err_deg().max(initial=0.0))):
        kept &= separation_deg(at.ra_deg, at.dec_deg, objects.ra_deg, objects.dec_deg) <= radius_deg
    ids = np.ascontiguousarray(found["object_id"]).view(">u8").reshape(-1, 2)
    area = np.hypot(at.err_ew_deg, objects.err_ew_deg) * np.hypot(at.err_ns_deg, objects.err_ns_deg)
    pairs = Candidates(near, rows, ids.astype(np.uint64), radius, np.log(area))
    return pairs if kept.all() else pairs.take(kept)


def _joined(kept: Candidates, n_sources: int, method: str) -> Joined:
    """Return the points of pairs and of the sources that are in none."""
    pairs = _in_order(kept)
    shared, forked = pairs.objects_per_source() > 1, pairs.sources_per_object() > 1
    repeated = (np.diff(pairs.source) == 0) & (np.diff(pairs.object_row) == 0)
    if (shared & forked).any() or repeated.any():
        raise ValueError(f"method {method!r} keeps pairs twice, or objects that are both forked and shared")
    link = np.where(forked, Link.FORKED, np.where(shared, Link.SHARED, Link.ONE_TO_ONE))
    new = np.nonzero(np.bincount(pairs.source, minlength=n_sources) == 0)[0]
    source = np.concatenate([pairs.source, new])
    order = np.argsort(source, kind="stable")
    return Joined(
        source[order],
        np.concatenate([pairs.object_row, np.full(len(new), -1)])[order],
        np.concatenate([link, np.full(len(new), Link.NEW)])[order].astype(np.uint8),
        np.concatenate([pairs.deruiter, np.full(len(new), np.nan)])[order],
    )


def _in_order(pairs: Candidates) -> Candidates:
    """Return pairs in ascending order of source and then object id."""
    step = np.diff(pairs.source)
    if (step > 0).all():
        return pairs
    if (step < 0).any():
        return pairs.take(np.lexsort((pairs.object_key[:, 1], pairs.object_key[:, 0], pairs.source)))
    # Most sources have one object: only the others need be looked at.
    several = np.flatnonzero(pairs.objects_per_source() > 1)
    key, order = pairs.object_key[several], np.arange(len(pairs))
    order[several] = several[np.lexsort((key[:, 1], key[:, 0], pairs.source[several]))]
    return pairs.take(order)


def _is_plane(rows: Rows, radius_deg: float) -> Bool:
    """Return which objects the search meets in the plane at their first position."""
    # Only beams of tens of degrees reach round the sky from an object's first position.
    furthest = np.degrees(np.tan(np.radians(89.0 - radius_deg)))
    return np.asarray(np.hypot(rows["east_deg"], rows["north_deg"]) < furthest)


def _midpoint_offsets(a: Positions, b: Positions) -> tuple[Float, Float]:
    first, second = unit_vectors(a.ra_deg, a.dec_deg), unit_vectors(b.ra_deg, b.dec_deg)
    middle = first + second
    ra = np.degrees(np.arctan2(middle[:, 1], middle[:, 0]))
    dec = np.degrees(np.arctan2(middle[:, 2], np.hypot(middle[:, 0], middle[:, 1])))
    east, north = tangent_basis(ra, dec)
    # Both stand at the same depth over the plane between them: half the length of their sum.
    offset, depth = first - second, np.linalg.norm(middle, axis=1) / 2
    return (
        np.degrees(np.einsum("ij,ij->i", offset, east) / depth),
        np.degrees(np.einsum("ij,ij->i", offset, north) / depth),
    )
