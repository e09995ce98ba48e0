"""Agreement with Debian's source-extractor, which shares no code with ours, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from extractor_skies import columns_of, fits_header, grid_field, make_image, nearest, round_beam
from trapline.common.wcs import wcs_cards
from trapline.schemas.image import Band, Beam, Image
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure

Float = npt.NDArray[np.float64]
REAL = Path(__file__).parents[2] / "data" / "real"
PROGRAM = shutil.which("source-extractor") or shutil.which("sex")
COLUMNS = ("X_IMAGE", "Y_IMAGE", "ALPHA_J2000", "DELTA_J2000", "FLUX_APER", "FLUXERR_APER", "FLUX_MAX", "FLAGS")
SETTINGS = {
    "CATALOG_TYPE": "ASCII_HEAD",
    "PARAMETERS_NAME": "columns.param",
    "FILTER": "N",
    "THRESH_TYPE": "RELATIVE",
    "ANALYSIS_THRESH": "3",
    "DEBLEND_MINCONT": "1",
    "CLEAN": "N",
    "BACK_FILTERSIZE": "3",
    "PHOT_APERTURES": "10",
    "GAIN": "0",
    "VERBOSE_TYPE": "QUIET",
}


def source_extractor(path: Path, directory: Path, **settings: object) -> dict[str, Float]:
    """Return the columns of Debian's program, its positions as ours: the first pixel is 0."""
    (directory / "columns.param").write_text("\n".join(COLUMNS) + "\n")
    (directory / "default.sex").write_text("")
    values = {**SETTINGS, **{name: str(value) for name, value in settings.items()}, "CATALOG_NAME": "out.cat"}
    options = [word for name, value in values.items() for word in (f"-{name}", value)]
    subprocess.run([str(PROGRAM), str(path), *options], cwd=directory, check=True, timeout=60)
    table: Any = Table.read(directory / "out.cat", format="ascii.sextractor")
    columns = {name: np.asarray(table[name], float) for name in COLUMNS}
    return {**columns, "x": columns["X_IMAGE"] - 1, "y": columns["Y_IMAGE"] - 1}


@pytest.mark.skipif(PROGRAM is None, reason="source-extractor is not installed")
@pytest.mark.parametrize(
    ("name", "threshold"), [("ami-SWIFT_554620-130504.fits", 6.0), ("lofar-GRB201006A-2min.fits", 8.0)]
)
def test_real_images_have_the_sources_of_source_extractor(name: str, threshold: float, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header, pixels = fits.getheader(REAL / name), np.squeeze(fits.getdata(REAL / name))
        fits.writeto(tmp_path / "plane.fits", pixels.astype(np.float32), WCS(header).celestial.to_header())
        wcs = wcs_cards(header)
    image = Image(
        id=name.encode()[:16],
        shape=(pixels.shape[0], pixels.shape[1]),
        wcs=wcs,
        beam=Beam(header["BMAJ"], header["BMIN"], header["BPA"]),
        margin_px=10,
    )
    theirs = source_extractor(tmp_path / "plane.fits", tmp_path, DETECT_THRESH=threshold, BACK_SIZE=50)
    columns = columns_of(measure(pixels, image, ExtractorConfig(detection_threshold=threshold)))
    assert len(columns["x"])
    distance, row = nearest(theirs, columns["x"], columns["y"])
    # Theirs is the barycentre of an island, ours the centre of a beam.
    assert distance.max() < 1.5
    east = (theirs["ALPHA_J2000"][row] - columns["ra_deg"]) * np.cos(np.radians(columns["dec_deg"]))
    pixel_deg = abs(header["CDELT1"])
    assert np.hypot(east, theirs["DELTA_J2000"][row] - columns["dec_deg"]).max() < 1.6 * pixel_deg
    # Their brightest pixel is a little below the peak.
    assert columns["flux_peak"] == pytest.approx(theirs["FLUX_MAX"][row], rel=0.2)


@pytest.mark.skipif(PROGRAM is None, reason="source-extractor is not installed")
def test_optical_apertures_are_those_of_source_extractor(tmp_path: Path) -> None:
    seeing = grid_field(5, make_image((420, 660), round_beam(4.0)), spacing_px=45.0, snr=(30, 300))
    fits.writeto(tmp_path / "sky.fits", seeing.pixels + 200, fits_header((420, 660)))
    theirs = source_extractor(tmp_path / "sky.fits", tmp_path, DETECT_THRESH=8, BACK_SIZE=64)
    image = make_image((420, 660), band=Band("r", filter="r"))
    columns = columns_of(measure(seeing.pixels + 200, image, ExtractorConfig(aperture_radius_px=5.0)))
    distance, row = nearest(columns, seeing.x, seeing.y)
    their_distance, their_row = nearest(theirs, seeing.x, seeing.y)
    both = (distance < 0.5) & (their_distance < 0.5)
    assert both.mean() > 0.95
    assert np.median(distance) < np.median(their_distance), "a window is better than a barycentre"
    difference = (columns["flux_int"][row] - theirs["FLUX_APER"][their_row])[both]
    # The backgrounds differ by a few hundredths of the noise, under 79 pixels each.
    assert np.abs(difference).max() < 0.35 * 79
    assert columns["flux_int_err"][row][both] == pytest.approx(theirs["FLUXERR_APER"][their_row][both], rel=0.1)
