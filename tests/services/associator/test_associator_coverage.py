from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from associator_images import cards, image
from associator_reference import Earlier, limits
from trapline.associator.cells import Pages, no_limits
from trapline.associator.config import AssociatorConfig
from trapline.associator.coverage import Coverage, limit_of, spot_of
from trapline.associator.footprint import Footprint, cell_centres, cell_order, cells_at, covered_cells
from trapline.common.region import covers
from trapline.schemas.image import Image

BAND = ("60 MHz", "I")
Float = npt.NDArray[np.float64]


def add(coverage: Coverage, of: Image, fold: int, low: float, high: float, settings: AssociatorConfig) -> Earlier:
    spot = spot_of(of, BAND, settings)
    coverage.add(spot, limit_of(of.id, fold, (low, high), 1.0), settings.open_pointings)
    return Earlier(of, low, high)


def check(coverage: Coverage, earlier: list[Earlier], ra: Float, dec: Float, order: int) -> int:
    """Compare limits with every image asked, and return how many positions were covered."""
    n, found = coverage.at(BAND, ra, dec)
    for k in range(len(ra)):
        count, best = limits(earlier, ra[k], dec[k], order)
        assert n[k] == count
        if best is None:
            assert found[k] == no_limits(1)[0]
        else:
            assert found["image_id"][k].tobytes() == best.image.id
            assert (found["low"][k], found["high"][k]) == (best.low, best.high)
    return int((n > 0).sum())


@pytest.mark.parametrize("open_pointings", [1, 3, 100])
@pytest.mark.parametrize(("ra_deg", "dec_deg"), [(0.5, 0.0), (359.5, 60.0), (180.0, 89.5), (90.0, -90.0)])
def test_a_drifting_field_gives_the_limits_that_every_image_gives(
    open_pointings: int, ra_deg: float, dec_deg: float
) -> None:
    settings = AssociatorConfig(open_pointings=open_pointings)
    rng = np.random.default_rng(9)
    coverage, earlier = Coverage(), list[Earlier]()
    order = spot_of(image(0, dec_deg=dec_deg), BAND, settings).order
    covered = 0
    for number in range(24):
        # To and fro, so that pointings come back, with equal limits now and then.
        of = image(number, ra_deg=ra_deg - 0.2 * (number % 9), dec_deg=dec_deg, radius_deg=0.7)
        low = float(rng.integers(1, 4))
        earlier.append(add(coverage, of, number, low, low + float(rng.integers(1, 3)), settings))
        ra = ra_deg + rng.uniform(-2.5, 1.5, 12) / max(np.cos(np.radians(dec_deg)), 0.1)
        dec = np.clip(dec_deg + rng.uniform(-1, 1, 12), -90, 90)
        covered += check(coverage, earlier, ra % 360, dec, order)
    assert covered > 40


def test_a_fixed_field_keeps_one_pointing_whatever_its_dates() -> None:
    coverage, settings = Coverage(), AssociatorConfig()
    for number in range(50):
        of = image(number)
        dated = cards(10.0, 50.0, (60, 80), 0.02, f"2024-01-01T00:00:{number:02d}")
        add(coverage, msgspec.structs.replace(of, wcs=dated), number, 1.0 + number, 2.0 + number, settings)
    (layer,) = coverage.layers.values()
    assert len(layer.open) == 1
    assert len(layer.cells.pages) == 0
    n, found = coverage.at(BAND, np.array([10.0, 10.0]), np.array([50.0, 52.0]))
    assert n.tolist() == [50, 0]
    assert found["image_id"][0].tobytes() == image(0).id


@pytest.mark.parametrize(
    "other", [{"shape": (60, 81)}, {"margin_px": 1}, {"radius_deg": 0.5}, {"ra_deg": 10.001}, {"pixel_deg": 0.021}]
)
def test_what_changes_the_region_is_another_footprint(other: dict[str, Any]) -> None:
    assert Footprint.of(image(0, **other)) != Footprint.of(image(0))
    assert Footprint.of(image(1)) == Footprint.of(image(0))


def test_bands_and_stokes_are_apart() -> None:
    coverage, settings = Coverage(), AssociatorConfig()
    add(coverage, image(0), 0, 1.0, 2.0, settings)
    here = np.array([10.0]), np.array([50.0])
    assert coverage.at(BAND, *here)[0].tolist() == [1]
    assert coverage.at(("60 MHz", "V"), *here)[0].tolist() == [0]
    assert coverage.at(("70 MHz", "I"), *here)[0].tolist() == [0]


def test_beams_of_different_size_count_together() -> None:
    coverage, settings = Coverage(), AssociatorConfig()
    add(coverage, image(0, beam_deg=0.1), 0, 3.0, 5.0, settings)
    add(coverage, image(1, beam_deg=0.6), 1, 3.0, 4.0, settings)
    add(coverage, image(2, beam_deg=None), 2, 3.0, 4.0, settings)
    assert len(coverage.layers) == 3
    n, found = coverage.at(BAND, np.array([10.0]), np.array([50.0]))
    assert n.tolist() == [3]
    assert found["image_id"][0].tobytes() == image(1).id, "of equal limits the image that was folded first"


@pytest.mark.parametrize(
    ("shape", "pixel_deg", "dec_deg", "radius_deg"),
    [
        ((60, 80), 0.02, 50.0, None),
        ((1, 300), 0.01, 0.0, None),
        ((40, 40), 0.1, 90.0, 1.5),
        ((3, 3), 0.001, -89.0, None),
    ],
)
def test_covered_cells_are_all_cells_whose_centre_is_covered(
    shape: tuple[int, int], pixel_deg: float, dec_deg: float, radius_deg: float | None
) -> None:
    of = image(0, ra_deg=0.0, dec_deg=dec_deg, shape=shape, pixel_deg=pixel_deg, radius_deg=radius_deg)
    order = 8
    every = np.arange(12 << (2 * order))
    expected = every[covers(of, *cell_centres(every, order))]
    assert covered_cells(Footprint.of(of), order).tolist() == expected.tolist()


def test_an_image_of_the_whole_hemisphere() -> None:
    # SIN has no sky in the corners; pixels beyond the horizon are NaN.
    of = image(0, ra_deg=200.0, dec_deg=52.9, shape=(90, 90), pixel_deg=1.5, beam_deg=4.0, radius_deg=85.0)
    order = cell_order(Footprint.of(of), 2.0, 1 << 18)
    cells = covered_cells(Footprint.of(of), order)
    every = np.arange(12 << (2 * order))
    assert cells.tolist() == every[covers(of, *cell_centres(every, order))].tolist()
    assert 0.35 * len(every) < len(cells) < 0.5 * len(every)


def test_cells_are_under_half_a_beam_unless_there_are_too_many() -> None:
    footprint = Footprint.of(image(0))
    order = cell_order(footprint, 0.05, 1 << 18)
    assert np.degrees(np.sqrt(4 * np.pi / (12 << (2 * order)))) < 0.05
    assert np.degrees(np.sqrt(4 * np.pi / (12 << (2 * (order - 1))))) >= 0.05
    few = cell_order(footprint, 0.05, 200)
    assert few < order
    assert len(covered_cells(footprint, few)) <= 200
    assert len(covered_cells(footprint, few + 1)) > 200 // 4


@pytest.mark.parametrize("beam_deg", [1e-12, 500.0])
def test_absurd_beams_are_survived(beam_deg: float) -> None:
    coverage, settings = Coverage(), AssociatorConfig(open_pointings=1)
    for number in range(3):
        add(coverage, image(number, ra_deg=0.3 * number, beam_deg=beam_deg), number, 1.0, 2.0, settings)
    n, _ = coverage.at(BAND, np.array([0.3]), np.array([50.0]))
    assert 0 <= n[0] <= 3


def test_images_that_are_best_nowhere_are_forgotten() -> None:
    pages, rng = Pages.empty(), np.random.default_rng(3)
    n, low = np.zeros(3000, int), np.full(3000, np.inf)
    for number in range(2000):
        first = int(rng.integers(0, 2900))
        cells = np.arange(first, first + 100)
        value = 1e4 - number + float(rng.normal(0, 100))
        pages.add(cells, 2, limit_of(number.to_bytes(16, "big"), number, (value, value), 1.0))
        n[cells] += 2
        low[cells] = np.minimum(low[cells], value)
    counted, found = pages.look(np.arange(3000))
    assert counted.tolist() == n.tolist()
    assert found["low"].tolist() == low.tolist()
    assert len(pages.images) < 600


def test_positions_at_the_poles_and_at_right_ascension_0_have_a_cell() -> None:
    ra, dec = np.array([0.0, 359.999999, 0.0, 123.0, 0.0]), np.array([0.0, 0.0, 90.0, 90.0, -90.0])
    for order in (0, 3, 18):
        cells = cells_at(ra, dec, order)
        assert ((cells >= 0) & (cells < 12 << (2 * order))).all()


def test_a_measured_image_without_a_wcs_is_refused_by_name() -> None:
    of = msgspec.structs.replace(image(4), wcs=None)
    with pytest.raises(ValueError, match=rf"{of.id.hex()}.*no WCS"):
        spot_of(of, BAND, AssociatorConfig())
