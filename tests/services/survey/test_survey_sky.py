"""The sky of a survey: uniform, the same from everywhere, and whatever a file says instead."""

import numpy as np
import pytest

from trapline.common.sky import separation_deg
from trapline.survey.config import SurveyConfig
from trapline.survey.sky import NSIDE, SkyError, fluxes, load_stars, save_stars, stars_in

CONFIG = SurveyConfig(variables=2000)
CENTRES = [(30.0, -20.0), (0.0, 0.0), (359.99, 45.0), (123.0, 90.0), (17.0, -89.9)]


@pytest.mark.parametrize("centre", CENTRES, ids=str)
def test_the_density_is_what_the_field_says_everywhere(centre):
    stars = stars_in(CONFIG, *centre, 3.0)
    area = 2 * np.pi * (1 - np.cos(np.radians(3.0))) * np.degrees(1.0) ** 2
    expected = CONFIG.variables * area / CONFIG.field_deg**2
    assert abs(len(stars) - expected) < 5 * np.sqrt(expected)
    assert (separation_deg(stars["ra_deg"], stars["dec_deg"], *centre) <= 3.0).all()
    assert len(np.unique(stars["star"])) == len(stars)
    assert ((stars["ra_deg"] >= 0) & (stars["ra_deg"] < 360)).all()


def test_neighbouring_fields_share_their_stars():
    left, right = stars_in(CONFIG, 30.0, -20.0, 3.0), stars_in(CONFIG, 32.0, -20.0, 3.0)
    overlap = separation_deg(left["ra_deg"], left["dec_deg"], 32.0, -20.0) <= 3.0
    assert overlap.any()
    shared = np.isin(left["star"][overlap], right["star"])
    assert shared.all()
    assert not np.isin(left["star"][~overlap], right["star"]).any()


def test_stars_are_spread_within_cells():
    """Uniform within a cell: the mean squared distance to the nearest neighbour is that of a Poisson process."""
    stars = stars_in(CONFIG, 200.0, 10.0, 4.0)
    inner = separation_deg(stars["ra_deg"], stars["dec_deg"], 200.0, 10.0) < 3.5
    distance = separation_deg(
        stars["ra_deg"][inner][:, None], stars["dec_deg"][inner][:, None], stars["ra_deg"], stars["dec_deg"]
    )
    nearest = np.sort(distance, axis=1)[:, 1]
    density = CONFIG.variables / CONFIG.field_deg**2
    assert np.mean(np.pi * density * nearest**2) == pytest.approx(1.0, abs=0.1)


def test_a_density_map_is_followed(tmp_path):
    nside = 2
    values = np.zeros(12 * nside**2)
    values[0] = 3.0
    np.save(tmp_path / "map.npy", values)
    config = CONFIG.model_copy(update={"density_map": tmp_path / "map.npy", "variables": 50})
    here, there = stars_in(config, 45.0, 20.0, 2.0), stars_in(config, 225.0, -20.0, 2.0)
    area = 2 * np.pi * (1 - np.cos(np.radians(2.0))) * np.degrees(1.0) ** 2
    expected = 12 * nside**2 * 50 * area / CONFIG.field_deg**2
    assert abs(len(here) - expected) < 5 * np.sqrt(expected)
    assert len(there) == 0


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.ones(13), r"12 N\^2"),
        (-np.ones(48), "below 0"),
        (np.zeros(48), "not all 0"),
        (np.full(48, np.nan), "finite"),
        (np.ones((4, 12)), "shape"),
    ],
    ids=["length", "negative", "empty", "nan", "shape"],
)
def test_a_map_that_is_none_is_named(tmp_path, values, why):
    np.save(tmp_path / "map.npy", values)
    config = CONFIG.model_copy(update={"density_map": tmp_path / "map.npy"})
    with pytest.raises(SkyError, match=why):
        stars_in(config, 0.0, 0.0, 1.0)


def test_a_missing_map_is_named(tmp_path):
    config = CONFIG.model_copy(update={"density_map": tmp_path / "none.npy"})
    with pytest.raises(SkyError, match=r"none\.npy"):
        stars_in(config, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("ending", ["fits", "ecsv", "csv"])
def test_a_catalogue_that_was_written_is_used_instead(tmp_path, ending):
    stars = stars_in(CONFIG, 30.0, -20.0, 1.0)
    save_stars(stars, tmp_path / f"stars.{ending}")
    config = CONFIG.model_copy(update={"catalogue": tmp_path / f"stars.{ending}", "seed": 9})
    again = stars_in(config, 30.0, -20.0, 1.0)
    assert np.array_equal(again["star"], stars["star"])
    assert np.allclose(fluxes(again, 10**15), fluxes(stars, 10**15), rtol=1e-12)
    assert len(stars_in(config, 100.0, 0.0, 3.0)) == 0


def test_a_catalogue_without_its_columns_is_refused(tmp_path):
    (tmp_path / "stars.csv").write_text("ra_deg,dec_deg\n1,2\n")
    with pytest.raises(SkyError, match=r"amplitude, flux_njy, period_s, phase_rad, star"):
        load_stars(tmp_path / "stars.csv")


def test_a_name_that_says_no_format_is_refused(tmp_path):
    with pytest.raises(SkyError, match=r"\.fits, \.ecsv or \.csv"):
        save_stars(stars_in(CONFIG, 30.0, -20.0, 0.5), tmp_path / "stars.txt")


def test_fluxes_are_sinusoids_about_their_means():
    stars = stars_in(CONFIG, 30.0, -20.0, 1.0)[:50]
    low, high = np.inf, -np.inf
    for k in range(400):
        flux = fluxes(stars, round(k * 1e6 * CONFIG.period_max_s / 400))
        low, high = np.minimum(low, flux), np.maximum(high, flux)
    slow = stars["period_s"] > CONFIG.period_max_s / 20
    swing = (high - low) / 2 / stars["flux_njy"]
    assert np.allclose(swing[slow], stars["amplitude"][slow], rtol=0.02)
    assert NSIDE & (NSIDE - 1) == 0
