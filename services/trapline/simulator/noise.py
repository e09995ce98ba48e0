"""Noise as an interferometer makes it: correlated from pixel to pixel by the beam."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import fft

from trapline.simulator.beam import PixelBeam, Pixels

_NOISE = 1
"""First key after the seed: keeps these random numbers apart from those of the sky."""


def transfer_function(shape: tuple[int, int], beam: PixelBeam, rms: float) -> Pixels:
    """Return by what the Fourier amplitudes of white noise of unit variance are multiplied, (ny, nx // 2 + 1).

    The Fourier transform of the beam, scaled so that the noise has exactly `rms` as its expected standard deviation on
    this grid. White noise convolved with a Gaussian g has the autocorrelation g * g: a Gaussian sqrt(2) times as wide.
    """
    ny, nx = shape
    v, u = fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)[None, :]
    exponent = beam.xx_px2 * u * u + 2 * beam.xy_px2 * u * v + beam.yy_px2 * v * v
    transfer = np.exp(-2 * math.pi**2 * exponent)
    # Amplitudes with 0 < u < nx / 2 stand for two of the full transform, this one and its mirror image.
    count = np.full(transfer.shape, 2.0)
    count[:, 0] = 1.0
    if nx % 2 == 0:
        count[:, -1] = 1.0
    power = float(np.sum(count * transfer**2)) / (ny * nx)
    scaled: npt.NDArray[np.float32] = (transfer * (rms / math.sqrt(power))).astype(np.float32)
    return scaled


def correlated_noise(transfer: Pixels, nx: int, *, seed: int, band: int, frame: int) -> Pixels:
    """Return an image of noise (ny, nx) that depends on seed, band and frame alone.

    The convolution is periodic: the noise is the same everywhere, also at the edges, and what leaves on one side comes
    in on the other.
    """
    generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, _NOISE, band, frame])))
    ny = transfer.shape[0]
    amplitudes = fft.rfft2(generator.standard_normal((ny, nx), dtype=np.float32))
    amplitudes *= transfer
    return np.asarray(fft.irfft2(amplitudes, s=(ny, nx), overwrite_x=True), dtype=np.float32)
