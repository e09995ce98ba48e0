"""Which source is which object: de Ruiter association, one to one.

The de Ruiter radius is the offset in units of its error (Scheers 2011, thesis, University of Amsterdam, chapter 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.associator.catalogue import Catalogue, Positions
from trapline.associator.config import AssociatorConfig
from trapline.associator.index import Gate
from trapline.common.sky import separation_deg, tangent_basis, unit_vectors, wrap_180
from trapline.schemas.image import Beam

Float = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.intp]

_POLAR_DEC_DEG = 80.0
# Beyond this the plane that touches the sky at an object's first position means nothing.
_LARGEST_SEARCH_DEG = 45.0


@dataclass(frozen=True, slots=True)
class Matches:
    """Per source: row of its object (-1 when it has none) and the de Ruiter radius to it (NaN when none)."""

    objects: RowNumbers
    deruiter: Float


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
    east = wrap_180(a.ra_deg - b.ra_deg) * np.cos(np.radians((a.dec_deg + b.dec_deg) / 2))
    north = a.dec_deg - b.dec_deg
    polar = np.maximum(np.abs(a.dec_deg), np.abs(b.dec_deg)) > _POLAR_DEC_DEG
    if polar.any():
        east[polar], north[polar] = _midpoint_offsets(a.take(polar), b.take(polar))
    return np.asarray(
        np.sqrt(
            east**2 / (a.err_ew_deg**2 + b.err_ew_deg**2) + north**2 / (a.err_ns_deg**2 + b.err_ns_deg**2),
        )
    )


def associate(sources: Positions, catalogue: Catalogue, radius_deg: float, settings: AssociatorConfig) -> Matches:
    """Join sources to objects, one to one: the closest pairs in de Ruiter radius first.

    Parameters
    ----------
    sources
        In the order of their rank in the image, which decides between pairs of equal radius and object.
    catalogue
        Objects as they were before this image; its index may be replanted, nothing else changes.
    radius_deg
        Distance limit on the sky.
    """
    error_deg = float(sources.largest_err_deg().max(initial=0.0))
    gate = Gate(radius_deg, settings.deruiter_radius)
    near, rows = catalogue.index.near(unit_vectors(sources.ra_deg, sources.dec_deg), error_deg, gate)
    near, rows = _within(sources, catalogue, near, rows, radius_deg)
    radius = deruiter_radius(sources.take(near), catalogue.positions(rows))
    close = radius < settings.deruiter_radius
    near, rows, radius = near[close], rows[close], radius[close]
    chosen = _one_to_one(near, rows, _ascending(near, rows, radius, catalogue))
    objects = np.full(len(sources), -1, np.intp)
    deruiter = np.full(len(sources), np.nan)
    objects[near[chosen]], deruiter[near[chosen]] = rows[chosen], radius[chosen]
    return Matches(objects, deruiter)


def _within(
    sources: Positions, catalogue: Catalogue, near: RowNumbers, rows: RowNumbers, radius_deg: float
) -> tuple[RowNumbers, RowNumbers]:
    at, objects = sources.take(near), catalogue.table.rows[rows]
    distance = separation_deg(at.ra_deg, at.dec_deg, objects["ra_deg"].copy(), objects["dec_deg"].copy())
    # Only beams of tens of degrees reach round the sky from an object's first position.
    furthest = np.degrees(np.tan(np.radians(89.0 - radius_deg)))
    within = (distance <= radius_deg) & (np.hypot(objects["east_deg"], objects["north_deg"]) < furthest)
    return near[within], rows[within]


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


def _ascending(near: RowNumbers, rows: RowNumbers, radius: Float, catalogue: Catalogue) -> RowNumbers:
    """Return the order of pairs: by radius, then object id, then rank of the source."""
    ids = np.ascontiguousarray(catalogue.table.rows["object_id"][rows]).view(">u8").reshape(-1, 2)
    return np.lexsort((near, ids[:, 1], ids[:, 0], radius))


def _one_to_one(near: RowNumbers, rows: RowNumbers, order: RowNumbers) -> RowNumbers:
    """Return the pairs to keep, taken in order, each source and each object at most once."""
    alone = (np.bincount(near)[near] == 1) if len(near) else np.zeros(0, bool)
    _, place, times = np.unique(rows, return_inverse=True, return_counts=True)
    simple = alone & (times[place] == 1)
    kept: list[int] = []
    # What is left are crowds, in which one choice decides the next.
    taken_sources: set[int] = set()
    taken_objects: set[int] = set()
    for pair in order[~simple[order]].tolist():
        source, object_ = int(near[pair]), int(rows[pair])
        if source not in taken_sources and object_ not in taken_objects:
            taken_sources.add(source)
            taken_objects.add(object_)
            kept.append(pair)
    return np.concatenate([np.nonzero(simple)[0], np.array(kept, np.intp)])
