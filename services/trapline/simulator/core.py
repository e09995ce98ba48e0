"""One image from nothing but the configuration, the band and the number of the frame."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header as FitsHeader

from trapline.simulator.beam import PixelBeam, Pixels, add_point_sources, pixel_beam
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.noise import correlated_noise, transfer_function
from trapline.simulator.sky import fixed_sources, fluxes
from trapline.simulator.telescope import beyond_horizon, header_of, pointing_of, start_us, to_pixel
from trapline.simulator.transients import transients_on
from trapline.simulator.truth import IN_IMAGE, Truth


class Rendered(NamedTuple):
    """One image: its FITS header, its pixels (ny, nx) in Jy/beam, and what is in it."""

    header: FitsHeader
    pixels: Pixels
    truth: Truth


class _Optics(NamedTuple):
    """What all images of a configuration share."""

    beam: PixelBeam
    transfer: Pixels
    beyond: npt.NDArray[np.bool_]


def render(config: SimulatorConfig, band: int, frame: int) -> Rendered:
    """Return one image and its truth: the same for the same arguments, whatever was rendered before.

    Raises
    ------
    ValueError
        When there is no such band or frame.
    NoRoomError
        When the field does not hold the sources that the configuration asks for.
    """
    if not 0 <= band < len(config.bands):
        raise ValueError(f"band {band} does not exist: the configuration has bands 0 to {len(config.bands) - 1}")
    if frame < 0:
        raise ValueError(f"frame {frame} does not exist: frames count from 0")
    optics, truth = _optics(config), truth_of(config, band, frame)
    pixels = correlated_noise(optics.transfer, config.nx, seed=config.seed, band=band, frame=frame)
    shining = truth.sources
    add_point_sources(pixels, shining["x"], shining["y"], shining["flux_jy"], optics.beam)
    pixels[optics.beyond] = np.nan
    return Rendered(header_of(config, band, frame), pixels, truth)


def truth_of(config: SimulatorConfig, band: int, frame: int) -> Truth:
    """Return what is in an image without making its pixels."""
    pointing = pointing_of(config, frame)
    sources = np.concatenate([fixed_sources(config), transients_on(config, frame)])
    x, y = to_pixel(config, pointing, sources["ra_deg"], sources["dec_deg"])
    inside = (x >= -0.5) & (x < config.nx - 0.5) & (y >= -0.5) & (y < config.ny - 0.5)
    beyond = _optics(config).beyond
    inside[inside] = ~beyond[np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)]
    shining = np.zeros(int(inside.sum()), dtype=IN_IMAGE)
    for column in ("name", "kind", "ra_deg", "dec_deg"):
        shining[column] = sources[column][inside]
    shining["x"], shining["y"] = x[inside], y[inside]
    shining["flux_jy"] = fluxes(config, sources[inside], band, frame)
    return Truth(
        band=band,
        frame=frame,
        freq_hz=config.bands[band].freq_hz,
        t_start_us=start_us(config, frame),
        exposure_s=config.cadence_us * 1e-6,
        pointing=pointing,
        rms_jy_per_beam=config.rms_jy_per_beam,
        sources=shining,
    )


@lru_cache(maxsize=4)
def _optics(config: SimulatorConfig) -> _Optics:
    beam = pixel_beam(config)
    transfer = transfer_function((config.ny, config.nx), beam, config.rms_jy_per_beam)
    return _Optics(beam, transfer, beyond_horizon(config))
