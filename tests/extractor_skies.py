"""Synthetic images with known truth, and the `Image` that describes them; shared by the tests of the extractor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import astropy.units as u
import numpy as np
import numpy.typing as npt
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from scipy.spatial import cKDTree

from trapline.common.wcs import wcs_cards
from trapline.schemas.image import Beam, Image
from trapline.source_extractor.core import Measurement

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.float32]

PIXEL_DEG = 5 / 3600


def fits_header(shape: tuple[int, int], **cards: Any) -> fits.Header:
    """Return a celestial header, 5 arcsec per pixel, its reference in the middle of the array; `cards` override."""
    header = fits.Header()
    ny, nx = shape
    header.update({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRVAL1": 150.0, "CRVAL2": 35.0})
    header.update({"CRPIX1": (nx + 1) / 2, "CRPIX2": (ny + 1) / 2, "CDELT1": -PIXEL_DEG, "CDELT2": PIXEL_DEG})
    header.update({"CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS"})
    header.update({name.replace("__", "-"): value for name, value in cards.items()})
    return header


def make_image(shape: tuple[int, int], beam: Beam | None = None, **changes: Any) -> Image:
    """Return the description of an image; names in capitals are FITS cards, the others fields of `Image`."""
    cards = {name: changes.pop(name) for name in list(changes) if name.isupper()}
    fields: dict[str, Any] = {"id": b"0123456789abcdef", "shape": shape, "beam": beam, "unit": "Jy"}
    fields.update({"t_start_us": 10**15, "wcs": wcs_cards(fits_header(shape, **cards))})
    fields.update(changes)
    return Image(**fields)


def astropy_wcs(image: Image) -> Any:
    """Return astropy's own reading of the cards."""
    assert image.wcs is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(fits.Header.fromstring(image.wcs))


def round_beam(fwhm_px: float) -> Beam:
    """Return a circular beam."""
    return Beam(fwhm_px * PIXEL_DEG, fwhm_px * PIXEL_DEG, 0.0)


def beam_moments_px(image: Image) -> Float:
    """Return the second moments (2, 2) of the beam in px^2: where its half-power points at the reference fall."""
    assert image.beam is not None
    wcs = astropy_wcs(image)
    x0, y0 = wcs.wcs.crpix - 1
    centre = wcs.pixel_to_world(x0, y0)
    moments = np.zeros((2, 2))
    for turn, fwhm_deg in ((0.0, image.beam.major_deg), (90.0, image.beam.minor_deg)):
        tip = centre.directional_offset_by((image.beam.pa_deg + turn) * u.deg, fwhm_deg / 2 * u.deg)
        x, y = wcs.world_to_pixel(tip)
        half = np.array([x - x0, y - y0])
        moments += np.outer(half, half) / (2 * np.log(2))
    return moments


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], moments: Float) -> Float:
    """Return white noise smoothed by a beam with these second moments, rms 1."""
    ny, nx = shape
    ky, kx = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)[None]
    exponent = moments[0, 0] * kx**2 + 2 * moments[0, 1] * kx * ky + moments[1, 1] * ky**2
    spectrum = np.fft.rfft2(rng.normal(size=shape)) * np.exp(-2 * np.pi**2 * exponent)
    noise = np.fft.irfft2(spectrum, s=shape)
    return np.asarray(noise / noise.std())


def add_sources(pixels: Float, x: Float, y: Float, peak: Float, moments: Float) -> None:
    """Add beam-shaped sources in place."""
    inverse = np.linalg.inv(moments)
    reach = int(6 * np.sqrt(np.linalg.eigvalsh(moments)[-1])) + 2
    for x0, y0, height in zip(x, y, peak, strict=True):
        rows = slice(max(int(y0) - reach, 0), int(y0) + reach + 1)
        columns = slice(max(int(x0) - reach, 0), int(x0) + reach + 1)
        ys, xs = np.ogrid[rows, columns]
        ys, xs = ys[ys[:, 0] < pixels.shape[0]] - y0, xs[:, xs[0] < pixels.shape[1]] - x0
        exponent = inverse[0, 0] * xs**2 + 2 * inverse[0, 1] * xs * ys + inverse[1, 1] * ys**2
        pixels[rows, columns] += height * np.exp(-exponent / 2)


def columns_of(found: Measurement) -> dict[str, npt.NDArray[Any]]:
    """Return the columns as arrays to calculate with, whatever their types."""
    return dict(found.columns)


def separation_deg(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, other: Any) -> Float:
    """Return astropy's separation of ICRS positions from a `SkyCoord`."""
    return np.asarray(SkyCoord(ra_deg, dec_deg, unit="deg").separation(other).deg, np.float64)


def nearest(columns: Mapping[str, npt.NDArray[Any]], x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Float, Int]:
    """Return (distances in pixels, rows) of the measured sources nearest to true positions."""
    tree = cKDTree(np.stack([columns["x"], columns["y"]], axis=-1))
    distance, row = tree.query(np.stack([np.atleast_1d(x), np.atleast_1d(y)], axis=-1))
    return np.asarray(distance), np.asarray(row)


@dataclass(frozen=True)
class Field:
    """An image with sources of known position and peak flux; the noise has rms 1."""

    pixels: Pixels
    image: Image
    x: Float
    y: Float
    peak: Float


def grid_field(seed: int, image: Image, spacing_px: float, snr: tuple[float, float]) -> Field:
    """Return a field of isolated sources: a grid, each jittered by a few pixels, log-uniform in signal to noise."""
    assert image.shape is not None
    rng = np.random.default_rng(seed)
    ny, nx = image.shape
    moments = beam_moments_px(image)
    grid = np.meshgrid(np.arange(spacing_px / 2, nx - 20, spacing_px), np.arange(spacing_px / 2, ny - 20, spacing_px))
    x, y = (axis.ravel() + rng.uniform(-4, 4, axis.size) for axis in grid)
    peak = np.exp(rng.uniform(np.log(snr[0]), np.log(snr[1]), x.size))
    pixels = smooth_noise(rng, image.shape, moments)
    add_sources(pixels, x, y, peak, moments)
    return Field(pixels.astype(np.float32), image, x, y, peak)
