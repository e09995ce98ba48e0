"""Geometry on the sphere: ICRS degrees in, degrees out, right through RA 0 and both poles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


def unit_vectors(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Float:
    """Return unit vectors of shape (..., 3) of ICRS positions in degrees."""
    ra, dec = np.radians(np.asarray(ra_deg, float)), np.radians(np.asarray(dec_deg, float))
    cos_dec = np.cos(dec)
    vectors: Float = np.stack(np.broadcast_arrays(cos_dec * np.cos(ra), cos_dec * np.sin(ra), np.sin(dec)), axis=-1)
    return vectors


def tangent_basis(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> tuple[Float, Float]:
    """Return the unit vectors to the east and to the north at each position, shape (..., 3) each."""
    ra, dec = np.radians(np.asarray(ra_deg, float)), np.radians(np.asarray(dec_deg, float))
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1)
    return east, north


def separation_deg(ra1: npt.ArrayLike, dec1: npt.ArrayLike, ra2: npt.ArrayLike, dec2: npt.ArrayLike) -> Float:
    """Return the great-circle distance in degrees, exact to rounding from zero to 180 (haversine)."""
    lon1, lat1, lon2, lat2 = (np.radians(np.asarray(v, float)) for v in (ra1, dec1, ra2, dec2))
    hav = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    separation: Float = np.degrees(2 * np.arcsin(np.sqrt(np.clip(hav, 0.0, 1.0))))
    return separation


def vectors_to_sky(vectors: npt.ArrayLike) -> tuple[Float, Float]:
    """Return (ra_deg, dec_deg) of vectors of shape (..., 3), of any length: the inverse of `unit_vectors`."""
    x, y, z = np.moveaxis(np.asarray(vectors, float), -1, 0)
    dec: Float = np.degrees(np.arctan2(z, np.hypot(x, y)))
    return wrap_360(np.degrees(np.arctan2(y, x))), dec


def wrap_360(angle_deg: npt.ArrayLike) -> Float:
    """Return angles in [0, 360)."""
    wrapped: Float = np.mod(np.asarray(angle_deg, float), 360.0)
    # The remainder of the smallest negative angles rounds to 360 itself.
    result: Float = np.where(wrapped == 360.0, 0.0, wrapped)
    return result


def wrap_180(angle_deg: npt.ArrayLike) -> Float:
    """Return angles in (-180, 180]."""
    wrapped: Float = np.mod(np.asarray(angle_deg, float), 360.0)
    return np.where(wrapped > 180.0, wrapped - 360.0, wrapped)


def tangent_offsets(
    ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, ra0_deg: npt.ArrayLike, dec0_deg: npt.ArrayLike
) -> tuple[Float, Float]:
    """Return (east, north) in degrees of positions in the tangent plane (gnomonic) at (ra0, dec0).

    Positions 90 degrees or more from the tangent point have no image there and give NaN.
    """
    target, centre = unit_vectors(ra_deg, dec_deg), unit_vectors(ra0_deg, dec0_deg)
    east, north = tangent_basis(ra0_deg, dec0_deg)
    depth = np.sum(target * centre, axis=-1)
    depth = np.where(depth > 0.0, depth, np.nan)
    return (
        np.degrees(np.sum(target * east, axis=-1) / depth),
        np.degrees(np.sum(target * north, axis=-1) / depth),
    )


def from_tangent(
    east_deg: npt.ArrayLike, north_deg: npt.ArrayLike, ra0_deg: npt.ArrayLike, dec0_deg: npt.ArrayLike
) -> tuple[Float, Float]:
    """Return (ra_deg, dec_deg) of offsets in the tangent plane at (ra0, dec0): the inverse of `tangent_offsets`."""
    east, north = tangent_basis(ra0_deg, dec0_deg)
    x, y = np.radians(np.asarray(east_deg, float)), np.radians(np.asarray(north_deg, float))
    return vectors_to_sky(unit_vectors(ra0_deg, dec0_deg) + x[..., None] * east + y[..., None] * north)
