"""PySE beside the extractor in real images. It is installed the first time, and takes a minute to begin."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bench.bench_pyse import WAYS, differences, real_image
from bench.harness import InvalidRunError
from bench.opponents import opponent_python
from bench.pyse import PACKAGES, Pyse, found_of, pyse, write_fits
from extractor_skies import columns_of, make_image, round_beam
from extractor_truth import Found, Score, random_field
from mesh_runs import REAL_IMAGES
from trapline.source_extractor.core import measure


def test_an_opponent_that_cannot_run_says_why(tmp_path):
    # Our own environment does not have their package.
    with (
        pytest.raises(InvalidRunError, match=r"pyse_program\.py ended: .*No module named 'sourcefinder'"),
        pyse(Path(sys.executable), tmp_path),
    ):
        pytest.fail("it runs")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    try:
        python = opponent_python(PACKAGES)
    except InvalidRunError as error:
        pytest.skip(str(error))
    with pyse(python, tmp_path_factory.mktemp("pyse")) as program:
        yield program


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["ami-SWIFT_554620-130504.fits", "lofar-GRB201006A-2min.fits"])
def test_the_sources_of_a_real_image_are_those_of_pyse(name: str, other: Pyse) -> None:
    pixels, image = real_image(REAL_IMAGES / name)
    ours = columns_of(measure(pixels, image, WAYS[0].settings))
    theirs, _ = other.measure(REAL_IMAGES / name, **WAYS[0].theirs)
    assert len(ours["x"])
    found = differences(ours, theirs)
    n = len(ours["x"])
    assert str(found["sources of both"]).startswith(f"{n} of {n} of ours"), "each of ours is one of theirs"
    assert float(str(found["distance, px"]).split()[-1]) < 1.0
    assert float(str(found["peaks apart, in their joint error"]).split()[-1]) < 2.0
    # Theirs beyond ours are near the edge, where their noise map is low.
    snr_of_theirs = theirs["sig"][theirs["sig"] > 6.5]
    assert len(snr_of_theirs) <= n


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_sky_and_pixel_positions_of_both_are_the_same_on_an_image_that_is_not_square(other: Pyse, tmp_path) -> None:
    image = make_image((200, 330), round_beam(5.0), margin_px=10)
    field = random_field(3, image, 12, (40, 90))
    ours = measure(field.pixels, image, WAYS[0].settings)
    theirs, _ = other.measure(write_fits(tmp_path / "sky.fits", field), **WAYS[0].theirs)
    scores = [Score.of(field, found) for found in (Found.of(ours), found_of(theirs))]
    both = np.flatnonzero((scores[0].detection >= 0) & (scores[1].detection >= 0) & scores[0].alone())
    assert len(both) >= 5
    rows = [score.detection[both] for score in scores]
    columns = columns_of(ours)
    assert theirs["x"][rows[1]] == pytest.approx(columns["x"][rows[0]], abs=0.3)
    assert theirs["y"][rows[1]] == pytest.approx(columns["y"][rows[0]], abs=0.3)
    assert theirs["ra"][rows[1]] == pytest.approx(columns["ra_deg"][rows[0]], abs=5e-4)
    assert theirs["dec"][rows[1]] == pytest.approx(columns["dec_deg"][rows[0]], abs=4e-4)
