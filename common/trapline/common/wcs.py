"""Between pixels and the sky: any celestial WCS that astropy reads, 0-based pixels, ICRS degrees."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.coordinates import ICRS, SkyCoord
from astropy.io.fits import Header as FitsHeader
from astropy.io.fits.verify import VerifyWarning
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import wcs_to_celestial_frame

import trapline.common.offline  # noqa: F401  no downloads
from trapline.common.sky import tangent_basis, unit_vectors, vectors_to_sky, wrap_360

Float = npt.NDArray[np.float64]

_TIME_KEYS = ("DATE", "MJD", "TIMESYS", "JEPOCH", "BEPOCH", "TSTART", "TSTOP", "XPOSURE", "TELAPSE")


class WcsError(ValueError):
    """Cards that are no celestial WCS. The text says what is missing."""


class SkyWcs:
    """A celestial WCS of an image.

    Pixel positions are 0-based (the centre of the lower-left pixel is (0.0, 0.0)); sky positions are ICRS degrees with
    right ascension in [0, 360). Outside the projection a conversion gives NaN.
    """

    def __init__(self, wcs: Any) -> None:
        self._wcs = wcs
        frame = wcs_to_celestial_frame(wcs)
        self._frame = None if isinstance(frame, ICRS) else frame
        self._rotation = None if self._frame is None else _rotation(self._frame)
        sx, sy = wcs.proj_plane_pixel_scales()
        self._scale_deg = float(sx.to_value("deg")), float(sy.to_value("deg"))

    def to_sky(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Float, Float]:
        """Return (ra_deg, dec_deg) of pixel positions; any shape, broadcast."""
        with np.errstate(invalid="ignore"):
            lon, lat = self._wcs.all_pix2world(x, y, 0)
        if self._frame is None:
            return wrap_360(lon), np.asarray(lat, float)
        if self._rotation is not None:
            return vectors_to_sky(unit_vectors(lon, lat) @ self._rotation)
        sky: Any = SkyCoord(lon, lat, unit="deg", frame=self._frame).icrs
        return wrap_360(sky.ra.deg), np.asarray(sky.dec.deg, float)

    def to_pixel(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> tuple[Float, Float]:
        """Return (x, y) of ICRS positions; any shape, broadcast. NaN on the far side of the sky."""
        if self._rotation is not None:
            ra_deg, dec_deg = vectors_to_sky(unit_vectors(ra_deg, dec_deg) @ self._rotation.T)
        elif self._frame is not None:
            sky: Any = SkyCoord(ra_deg, dec_deg, unit="deg", frame="icrs").transform_to(self._frame)
            ra_deg, dec_deg = sky.spherical.lon.deg, sky.spherical.lat.deg
        with np.errstate(invalid="ignore"):
            if self._wcs.has_distortion:
                x, y = self._wcs.all_world2pix(ra_deg, dec_deg, 0, quiet=True)
            else:
                x, y = self._wcs.wcs_world2pix(ra_deg, dec_deg, 0)
        return np.asarray(x, float), np.asarray(y, float)

    def scale_deg(self) -> tuple[float, float]:
        """Return the size of the reference pixel along (x, y), in degrees."""
        return self._scale_deg

    def axes_at(self, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the local Jacobian: degrees on the sky (east, north) per pixel (x, y), shape (n, 2, 2)."""
        x, y = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
        step = 0.5
        ra, dec = self.to_sky(np.stack([x, x + step, x - step, x, x]), np.stack([y, y, y, y + step, y - step]))
        vectors = unit_vectors(ra, dec)
        along_x, along_y = vectors[1] - vectors[2], vectors[3] - vectors[4]
        basis = np.stack(tangent_basis(ra[0], dec[0]), axis=-2)
        jacobian: Float = np.degrees(
            np.einsum("nki,nij->nkj", basis, np.stack([along_x, along_y], axis=-1)) / (2 * step)
        )
        return jacobian


def _rotation(frame: Any) -> Float | None:
    """Return the matrix that turns row vectors of a frame into ICRS; None when the frame is not a mere rotation.

    FK5 and galactic coordinates are; asking astropy for each position costs a hundred times more.
    """
    lon, lat = np.array([0.0, 90.0, 0.0, 37.0, 211.0]), np.array([0.0, 0.0, 90.0, -41.0, 73.0])
    sky: Any = SkyCoord(lon, lat, unit="deg", frame=frame).icrs
    matrix = unit_vectors(sky.ra.deg, sky.dec.deg)[:3]
    error = np.abs(unit_vectors(lon, lat) @ matrix - unit_vectors(sky.ra.deg, sky.dec.deg)).max()
    return matrix if error < 1e-14 else None


@lru_cache(maxsize=64)
def parse_wcs(cards: str) -> SkyWcs:
    """Return the celestial part of the WCS in FITS cards (80 characters each, no line ends).

    Raises
    ------
    WcsError
        When the cards hold no celestial axes or do not parse.
    """
    with _explained():
        return SkyWcs(_celestial(FitsHeader.fromstring(cards)))


def wcs_cards(header: FitsHeader) -> str:
    """Return the celestial WCS of a FITS header as cards, ready for a message; raise as `parse_wcs`."""
    with _explained():
        cards = _celestial(header).to_header(relax=True)
        # Images of one field have one WCS, whatever the time: what is made of it once need not be made again.
        for key in [key for key in cards if key.startswith(_TIME_KEYS)]:
            del cards[key]
        return str(cards.tostring(padding=False, endcard=False))


def _celestial(header: FitsHeader) -> Any:
    wcs = WCS(header).celestial
    if not wcs.has_celestial:
        raise WcsError("no celestial axes: CTYPE1 and CTYPE2 should be a pair like RA---SIN, DEC--SIN")
    return wcs


@contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever astropy raises into `WcsError`, and keep its warnings to itself."""
    with warnings.catch_warnings():
        # Old headers raise a dozen FITSFixedWarnings each: what was fixed is fixed, image by image.
        warnings.simplefilter("ignore", FITSFixedWarning)
        warnings.simplefilter("ignore", VerifyWarning)
        try:
            yield
        except WcsError:
            raise
        except Exception as error:  # noqa: BLE001  wcslib raises a family of errors without a common base
            raise WcsError(f"not a WCS: {error}") from None
