"""`trapline extract` as it is used: one file in, a table and a picture out."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from typer.testing import CliRunner

from extractor_skies import PIXEL_DEG, Field, fits_header, grid_field, make_image, nearest, round_beam
from mesh_runs import REAL_IMAGES
from trapline.cli import app
from trapline.schemas.columns import Flag
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure
from trapline.source_extractor.picture import SHOWN_BEAMS, ellipses
from trapline.source_extractor.scene import prepare
from trapline.source_extractor.table import flag_words

SHAPE = (400, 520)
LOFAR = REAL_IMAGES / "lofar-GRB201006A-2min.fits"


def extract(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["extract", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def field() -> Field:
    image = make_image(SHAPE, round_beam(5.0), margin_px=10)
    return grid_field(4, image, spacing_px=60.0, snr=(30, 90))


@pytest.fixture(scope="module")
def path(field: Field, tmp_path_factory: pytest.TempPathFactory) -> Path:
    header = fits_header(SHAPE, BMAJ=5 * PIXEL_DEG, BMIN=5 * PIXEL_DEG, BPA=0.0, BUNIT="JY/BEAM", TELESCOP="LOFAR")
    header.update({"DATE-OBS": "2020-01-01T00:00:00", "RESTFRQ": 60e6, "RESTBW": 1e5})
    file = tmp_path_factory.mktemp("sky") / "sky.fits"
    fits.writeto(file, field.pixels, header)
    return file


def test_the_table_for_a_person_has_a_line_for_each_source(path: Path, field: Field) -> None:
    code, out, _ = extract(path)
    assert code == 0
    names, _, *lines = out.splitlines()
    assert len(lines) == len(field.x)
    table = Table.read(out, format="ascii.fixed_width_two_line", delimiter=" ")
    assert names.split() == table.colnames
    distance, row = nearest({name: np.asarray(table[name], float) for name in "xy"}, field.x, field.y)
    assert distance.max() < 0.5
    assert np.asarray(table["flux_peak"])[row] == pytest.approx(field.peak, abs=6)
    assert set(table["flags"]) == {"-"}


@pytest.mark.parametrize("suffix", ["ecsv", "csv", "fits", "vot"])
def test_all_columns_go_into_any_format_of_astropy(path: Path, field: Field, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"sources.{suffix}"
    code, _, _ = extract(path, "--out", target, *(["--format", "votable"] if suffix == "vot" else []))
    assert code == 0
    table: Any = Table.read(target)
    assert len(table) == len(field.x)
    assert {"source_id", "x", "ra_deg", "flux_int_err", "chi2_reduced", "flags"} <= set(table.colnames)
    if suffix != "csv":
        assert str(table["flux_peak"].unit) == "Jy / beam"
        assert str(table["ra_deg"].unit) == "deg"


def test_text_formats_may_go_to_a_pipe(path: Path, field: Field) -> None:
    code, out, _ = extract(path, "--format", "ascii.ecsv")
    assert code == 0
    table = Table.read(out, format="ascii.ecsv")
    assert len(table) == len(field.x)
    assert table.meta["RMS_MIN"] < 1 < table.meta["RMS_MAX"]


def test_the_picture_is_a_png_of_the_size_of_the_image(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "sky.png"
    assert extract(path, "--png", target)[0] == 0
    data = target.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert width > 2 * SHAPE[1]
    assert height > SHAPE[0]


def test_ellipses_stand_on_their_sources_and_have_their_size(field: Field) -> None:
    found = measure(field.pixels, field.image, ExtractorConfig())
    contours = ellipses(prepare(field.pixels, field.image, ExtractorConfig()), found)
    middle = np.array([contour[:-1].mean(axis=0) for contour in contours])
    assert middle == pytest.approx(np.stack([found.columns["x"], found.columns["y"]], axis=-1), abs=1e-6)
    width = np.array([np.ptp(contour[:, 0]) for contour in contours])
    assert width == pytest.approx(np.full(len(contours), SHOWN_BEAMS * 5.0), rel=0.01)


def test_options_change_what_is_measured(path: Path) -> None:
    many = len(extract(path, "--detection-threshold", 5, "--free-axes")[1].splitlines())
    few = len(extract(path, "--detection-threshold", 60)[1].splitlines())
    assert many > few > 2
    own = extract(path, "--method", "no_such:method")
    assert own[0] == 1
    assert "No module named 'no_such'" in own[2]


def test_another_image_may_give_sources_or_noise(path: Path, field: Field, tmp_path: Path) -> None:
    noise, empty = tmp_path / "noise.fits", tmp_path / "empty.fits"
    with fits.open(path) as file:
        fits.writeto(noise, np.full(SHAPE, 10.0, np.float32) + np.arange(SHAPE[1], dtype=np.float32), file[0].header)
        fits.writeto(empty, np.random.default_rng(1).normal(size=SHAPE).astype(np.float32), file[0].header)
    assert len(extract(path, "--noise-map", noise)[1].splitlines()) == 2, "nothing is bright in so much noise"
    code, out, _ = extract(empty, "--detect-in", path)
    assert code == 0
    table: Any = Table.read(out, format="ascii.fixed_width_two_line", delimiter=" ")
    assert len(table) == len(field.x)
    assert np.abs(np.asarray(table["flux_peak"])).max() < 5


def test_a_map_of_weights_tells_the_noise_and_where_not_to_look(path: Path, field: Field, tmp_path: Path) -> None:
    weights = np.full(SHAPE, 1 / 2.0**2, np.float32)
    weights[:, 260:] = 0
    fits.writeto(tmp_path / "weight.fits", weights)
    code, out, _ = extract(path, "--weight-map", tmp_path / "weight.fits")
    assert code == 0
    table: Any = Table.read(out, format="ascii.fixed_width_two_line", delimiter=" ")
    # Those on the border keep what is left of them.
    assert (field.x < 255).sum() <= len(table) <= (field.x < 264).sum()
    assert np.asarray(table["snr"]) == pytest.approx(np.asarray(table["flux_peak"]) / 2, rel=0.01)
    code, _, said = extract(path, "--weight-map", tmp_path / "weight.fits", "--noise-map", path)
    assert (code, said.count("\n")) == (2, 1)


def test_what_is_left_out_is_told(path: Path, tmp_path: Path) -> None:
    config = tmp_path / "mesh.toml"
    config.write_text("[source_extractor]\nmost_sources = 3\n")
    code, out, said = extract(path, "--config", config)
    assert (code, len(out.splitlines())) == (0, 5)
    assert "fainter sources were left out" in said


def test_an_image_that_would_be_rejected_is_measured_and_the_reasons_told() -> None:
    code, _, said = extract(REAL_IMAGES / "missing-metadata.fits")
    assert code == 0
    assert "would be rejected: header: the frequency is missing" in said


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["no.fits"], 1, "no.fits"),
        ([LOFAR, "--plane", "7"], 1, "there is no plane 7; it has 1"),
        ([LOFAR, "--format", "fits"], 1, "with --out it may go into a file"),
        ([LOFAR, "--format", "nonsense"], 1, "nonsense"),
        ([LOFAR, "--detection-threshold", "1"], 2, "must not exceed"),
        ([LOFAR, "--png", "/no/such/place.png"], 1, "/no/such/place.png"),
        ([REAL_IMAGES / "lofar-header-only.fits"], 1, "nothing to measure"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: list[object], code: int, text: str) -> None:
    found, _, said = extract(*arguments)
    assert found == code
    assert text in said.splitlines()[-1]
    assert all(line.startswith("trapline: ") for line in said.splitlines())


def test_flags_are_words() -> None:
    assert flag_words(int(Flag.BLENDED | Flag.NEAR_EDGE)) == "near-edge blended"
    assert flag_words(0) == "-"
