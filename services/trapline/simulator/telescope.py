"""Where the telescope looks, how the sky falls on its pixels, and what its headers say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header as FitsHeader

from trapline.common.sky import tangent_basis, unit_vectors
from trapline.simulator.config import SimulatorConfig

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

SIDEREAL_DEG_PER_S = 360.0 * 1.00273781191135448 / 86_400.0
"""Rotation of the Earth against the stars: the rate of the Earth rotation angle, IAU 2000 resolution B1.8."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Pointing:
    """The zenith of an image, which is the centre of its array; ICRS."""

    ra_deg: float
    dec_deg: float


def pointing_of(config: SimulatorConfig, frame: int) -> Pointing:
    """Return the zenith at the start of a frame."""
    if not config.drift:
        return Pointing(config.ra_deg, config.dec_deg)
    elapsed_s = frame * config.cadence_us * 1e-6
    return Pointing(math.fmod(config.ra_deg + SIDEREAL_DEG_PER_S * elapsed_s, 360.0), config.dec_deg)


def start_us(config: SimulatorConfig, frame: int) -> int:
    """Return the start of a frame's exposure in microseconds since 1970 UTC."""
    return config.t_start_us + frame * config.cadence_us


def to_pixel(config: SimulatorConfig, pointing: Pointing, ra_deg: Float, dec_deg: Float) -> tuple[Float, Float]:
    """Return 0-based (x, y) of ICRS positions in the orthographic (SIN) projection about the zenith.

    Positions below the horizon give NaN. Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.5.
    """
    target = unit_vectors(ra_deg, dec_deg)
    east, north = tangent_basis(pointing.ra_deg, pointing.dec_deg)
    depth = target @ unit_vectors(pointing.ra_deg, pointing.dec_deg)
    x = (config.nx - 1) / 2 - np.degrees(target @ east) / config.pixel_deg
    y = (config.ny - 1) / 2 + np.degrees(target @ north) / config.pixel_deg
    above = depth > 0.0
    return np.where(above, x, np.nan), np.where(above, y, np.nan)


def beyond_horizon(config: SimulatorConfig) -> Bool:
    """Return which pixels (ny, nx) show nothing: those outside the circle of the horizon."""
    if config.horizon_deg is None:
        return np.zeros((config.ny, config.nx), dtype=np.bool_)
    radius_px = math.degrees(math.sin(math.radians(config.horizon_deg))) / config.pixel_deg
    dy = (np.arange(config.ny) - (config.ny - 1) / 2)[:, None]
    dx = (np.arange(config.nx) - (config.nx - 1) / 2)[None, :]
    beyond: Bool = dx * dx + dy * dy > radius_px * radius_px
    return beyond


def header_of(config: SimulatorConfig, band: int, frame: int) -> FitsHeader:
    """Return the FITS header of one image. Pixel numbers in it count from 1, as FITS wants."""
    pointing, interval = pointing_of(config, frame), config.bands[band]
    started = _EPOCH + timedelta(microseconds=start_us(config, frame))
    return FitsHeader(
        [
            ("SIMPLE", True, "conforms to FITS"),
            ("BITPIX", -32, "32-bit floating point"),
            ("NAXIS", 2, "number of axes"),
            ("NAXIS1", config.nx, "x"),
            ("NAXIS2", config.ny, "y"),
            ("BUNIT", "JY/BEAM", "unit of the pixels"),
            ("CTYPE1", "RA---SIN", "orthographic projection about the zenith"),
            ("CRPIX1", (config.nx + 1) / 2, "centre of the array"),
            ("CRVAL1", pointing.ra_deg, "[deg] right ascension of the zenith"),
            ("CDELT1", -config.pixel_deg, "[deg] east is left"),
            ("CUNIT1", "deg"),
            ("CTYPE2", "DEC--SIN"),
            ("CRPIX2", (config.ny + 1) / 2, "centre of the array"),
            ("CRVAL2", pointing.dec_deg, "[deg] declination of the zenith"),
            ("CDELT2", config.pixel_deg, "[deg] north is up"),
            ("CUNIT2", "deg"),
            # Without this card a reference point at the pole turns the image by half a circle.
            ("LONPOLE", 180.0, "[deg] native longitude of the celestial pole"),
            ("RADESYS", "ICRS"),
            ("BMAJ", config.beam_major_deg, "[deg] full width at half maximum"),
            ("BMIN", config.beam_minor_deg, "[deg] full width at half maximum"),
            ("BPA", config.beam_pa_deg, "[deg] north through east"),
            ("RESTFRQ", interval.freq_hz, "[Hz] centre of the band"),
            ("RESTBW", interval.bandwidth_hz, "[Hz] width of the band"),
            ("STOKES", "I"),
            ("TIMESYS", "UTC"),
            ("DATE-OBS", started.strftime("%Y-%m-%dT%H:%M:%S.%f"), "start of the exposure"),
            ("EXPTIME", config.cadence_us * 1e-6, "[s] length of the exposure"),
            ("TELESCOP", config.telescope),
            ("ORIGIN", "TRAPLINE SIMULATOR", "this sky does not exist"),
        ]
    )
