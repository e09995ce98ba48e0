from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from extractor_skies import (
    PIXEL_DEG,
    Field,
    add_sources,
    astropy_wcs,
    beam_moments_px,
    columns_of,
    grid_field,
    make_image,
    nearest,
    round_beam,
    smooth_noise,
)
from trapline.schemas.columns import Flag
from trapline.schemas.image import Beam
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import Measurement, measure

Float = npt.NDArray[np.float64]
AT_FIVE_SIGMA = ExtractorConfig(detection_threshold=5.0)
ELONGATED = Beam(6.5 * PIXEL_DEG, 4.0 * PIXEL_DEG, 35.0)


def pulls(field: Field, found: Measurement) -> dict[str, Float]:
    """Return (measured - true) / error of the sources, positions on the sky by astropy's own arithmetic."""
    columns = columns_of(found)
    distance, row = nearest(columns, field.x, field.y)
    assert (distance < 3).mean() > 0.995, "sources of eight sigma are found when the threshold is five"
    seen = distance < 3
    row = row[seen]
    true_ra, true_dec = astropy_wcs(field.image).all_pix2world(field.x[seen], field.y[seen], 0)
    ra, dec = columns["ra_deg"][row], columns["dec_deg"][row]
    return {
        "flux_peak": (columns["flux_peak"][row] - field.peak[seen]) / columns["flux_peak_err"][row],
        "flux_int": (columns["flux_int"][row] - field.peak[seen]) / columns["flux_int_err"][row],
        "east": (ra - true_ra) * np.cos(np.radians(true_dec)) / columns["ra_err_deg"][row],
        "north": (dec - true_dec) / columns["dec_err_deg"][row],
        "chi2": columns["chi2_reduced"][row],
        "extended": (columns["flags"][row] & Flag.EXTENDED).astype(float),
    }


@pytest.mark.parametrize(
    ("beam", "rotation_deg"),
    [(round_beam(5.0), 0.0), (ELONGATED, -40.0), (round_beam(2.2), 0.0)],
    ids=["round", "elongated on a rotated grid", "barely sampled"],
)
@pytest.mark.parametrize("force_beam", [True, False], ids=["axes of the beam", "axes of their own"])
def test_pulls_of_isolated_sources_are_standard_normal(beam: Beam, rotation_deg: float, force_beam: bool) -> None:
    image = make_image((1024, 832), beam, CROTA2=rotation_deg, margin_px=10)
    fields = [grid_field(seed, image, spacing_px=64.0, snr=(8, 500)) for seed in range(20)]
    settings = ExtractorConfig(detection_threshold=5.0, force_beam=force_beam)
    parts = [pulls(field, measure(field.pixels, image, settings)) for field in fields]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert whole["east"].size > 4000
    for name in ("flux_peak", "flux_int", "east", "north"):
        assert whole[name].mean() == pytest.approx(0.0, abs=0.05), name
        assert whole[name].std() == pytest.approx(1.0, abs=0.1), name
    assert np.nanmean(whole["chi2"]) == pytest.approx(1.0, abs=0.15)
    assert not whole["extended"].any(), "point sources are no wider than the beam"


def test_flux_does_not_depend_on_where_in_a_pixel_a_source_is() -> None:
    image = make_image((700, 900), round_beam(3.0))
    moments = beam_moments_px(image)
    pixels = smooth_noise(np.random.default_rng(5), (700, 900), moments)
    phase = np.linspace(-0.5, 0.5, 11)
    dx, dy = (axis.ravel() for axis in np.meshgrid(phase, phase))
    x, y = 60.0 + 70 * (np.arange(121) % 11) + dx, 40.0 + 60 * (np.arange(121) // 11) + dy
    add_sources(pixels, x, y, np.full(121, 5000.0), moments)
    columns = columns_of(measure(pixels.astype(np.float32), image, ExtractorConfig()))
    assert len(columns["x"]) == 121
    distance, row = nearest(columns, x, y)
    assert sorted(row) == list(range(121))
    assert distance.max() < 4e-3
    assert columns["flux_peak"] == pytest.approx(np.full(121, 5000.0), abs=5 * columns["flux_peak_err"].max())
    brightest = pixels[y.round().astype(int), x.round().astype(int)]
    assert brightest.min() < 4400, "the nearest pixel alone would be far off"


def test_snr_is_flux_over_noise_and_shape_is_the_beam() -> None:
    image = make_image((512, 640), ELONGATED, CROTA2=25.0)
    field = grid_field(3, image, spacing_px=80.0, snr=(20, 200))
    columns = columns_of(measure(field.pixels, image, ExtractorConfig()))
    assert columns["snr"] == pytest.approx(columns["flux_peak"], rel=0.2), "the noise has rms 1"
    assert columns["major_deg"] == pytest.approx(np.full(len(columns["x"]), ELONGATED.major_deg), rel=1e-5)
    assert columns["minor_deg"] == pytest.approx(np.full(len(columns["x"]), ELONGATED.minor_deg), rel=1e-5)
    assert columns["pa_deg"] == pytest.approx(np.full(len(columns["x"]), 35.0), abs=1e-3)


def test_a_gradient_of_background_and_noise_is_followed() -> None:
    image = make_image((600, 800), round_beam(4.0))
    field = grid_field(9, image, spacing_px=80.0, snr=(30, 60))
    slope = np.linspace(1.0, 3.0, 800)[None]
    found = measure((field.pixels * slope + 20 * slope).astype(np.float32), image, AT_FIVE_SIGMA)
    assert found.rms_min is not None
    assert found.rms_max is not None
    # What the background rises within a cell counts as noise: 2.5 over a cell are 0.7 in quadrature.
    assert (found.rms_min, found.rms_max) == pytest.approx((1.0, 3.0), rel=0.25)
    columns = columns_of(found)
    _, row = nearest(columns, field.x, field.y)
    expected = field.peak * np.interp(field.x, np.arange(800), slope[0])
    assert columns["flux_peak"][row] == pytest.approx(expected, abs=5 * 3.0)
