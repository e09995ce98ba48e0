from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import maximum_filter
from scipy.optimize import curve_fit

from extractor_skies import columns_of
from trapline.common.wcs import wcs_cards
from trapline.schemas.image import Beam, Image
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import Measurement, measure

Float = npt.NDArray[np.float64]
REAL = Path(__file__).parents[2] / "data" / "real"
MARGIN_PX = 10


@dataclass
class Observed:
    """An image as read by astropy alone, and what was measured in it."""

    pixels: Float
    header: fits.Header
    found: Measurement


def observed(name: str, detection_threshold: float) -> Observed:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header, pixels = fits.getheader(REAL / name), np.squeeze(np.asarray(fits.getdata(REAL / name)))
    image = Image(
        id=name.encode()[:16],
        shape=(pixels.shape[0], pixels.shape[1]),
        wcs=wcs_cards(header),
        beam=Beam(header["BMAJ"], header["BMIN"], header["BPA"]),
        unit="Jy",
        margin_px=MARGIN_PX,
    )
    found = measure(pixels, image, ExtractorConfig(detection_threshold=detection_threshold))
    return Observed(pixels.astype(np.float64), header, found)


def robust_rms(pixels: Float) -> float:
    return float(1.4826 * np.median(np.abs(pixels - np.median(pixels))))


def bright_peaks(image: Observed, snr: float) -> list[tuple[int, int]]:
    """Return (x, y) of local maxima over one robust noise of the whole image, away from the edge."""
    data = image.pixels - np.median(image.pixels)
    peaks = (maximum_filter(data, 15) == data) & (data > snr * robust_rms(data))
    peaks[:MARGIN_PX] = peaks[-MARGIN_PX:] = peaks[:, :MARGIN_PX] = peaks[:, -MARGIN_PX:] = False
    return [(int(x), int(y)) for y, x in np.argwhere(peaks)]


def gaussian_fit(image: Observed, x: int, y: int) -> Float:
    """Return (peak, x, y) of an elliptical Gaussian with free axes and angle, fitted to the pixels nearby."""
    reach = 6
    ys, xs = np.mgrid[y - reach : y + reach + 1, x - reach : x + reach + 1]
    local = (image.pixels - np.median(image.pixels))[ys, xs]

    def model(_: object, peak: float, x0: float, y0: float, a: float, b: float, c: float) -> Float:
        dx, dy = xs - x0, ys - y0
        return np.asarray(peak * np.exp(-(a * dx**2 + b * dx * dy + c * dy**2))).ravel()

    values, _ = curve_fit(model, np.arange(local.size), local.ravel(), p0=(local.max(), x, y, 0.1, 0.0, 0.1))
    return np.asarray(values[:3])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ami-GRB120422A-120429.fits", 0),
        ("ami-SWIFT_554620-130504.fits", 1),
        ("lofar-GRB201006A-2min.fits", 2),
    ],
)
def test_bright_sources_agree_with_an_independent_fit(name: str, count: int) -> None:
    image = observed(name, detection_threshold=8.0)
    columns = columns_of(image.found)
    # The brightest pixel is fainter than the source, and the noise of the whole image is not the local one.
    peaks = bright_peaks(image, 8.0)
    assert int((columns["snr"] >= 9.5).sum()) == count
    assert len(peaks) >= count
    assert len(bright_peaks(image, 12.0)) <= count
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs: Any = WCS(image.header).celestial
    for row in np.flatnonzero(columns["snr"] >= 9.5):
        near = min(peaks, key=lambda at: np.hypot(at[0] - columns["x"][row], at[1] - columns["y"][row]))
        peak, x, y = gaussian_fit(image, *near)
        # Two estimates from the same noise: each has an error about as large as ours.
        combined = 2 * np.sqrt(2)
        assert abs(columns["flux_peak"][row] - peak) < combined * columns["flux_peak_err"][row]
        assert abs(columns["flux_int"][row] - peak) < combined * columns["flux_int_err"][row]
        sky = wcs.pixel_to_world(x, y).icrs
        east = (columns["ra_deg"][row] - sky.ra.deg) * np.cos(sky.dec.rad)
        assert abs(east) < combined * columns["ra_err_deg"][row]
        assert abs(columns["dec_deg"][row] - sky.dec.deg) < combined * columns["dec_err_deg"][row]


@pytest.mark.parametrize(
    "name", ["ami-GRB120422A-120429.fits", "ami-SWIFT_554620-130504.fits", "lofar-GRB201006A-2min.fits"]
)
def test_noise_is_that_of_the_clipped_image(name: str) -> None:
    image = observed(name, detection_threshold=8.0)
    assert image.found.rms_min is not None
    assert image.found.rms_max is not None
    assert image.found.rms_min < robust_rms(image.pixels) < image.found.rms_max
    assert image.found.rms_max < 3 * image.found.rms_min


def test_sources_at_the_edge_are_left_out_with_the_margin() -> None:
    columns = columns_of(observed("lofar-GRB201006A-2min.fits", detection_threshold=8.0).found)
    assert columns["x"].min() >= MARGIN_PX - 0.5
    # The brightest source of the image is cut by its edge, at x = 0; another lies at x = 8.
    assert columns["flux_peak"].max() < 0.2
