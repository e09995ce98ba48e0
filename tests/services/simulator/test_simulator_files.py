"""Files: images that astropy reads, and the truth beside them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from trapline.simulator.config import SimulatorConfig
from trapline.simulator.core import render
from trapline.simulator.fitsfile import write_files


def pixels_of(path: Path) -> Any:
    return fits.getdata(path)


@pytest.fixture
def config(small: SimulatorConfig) -> SimulatorConfig:
    changes = {"frames": 4, "cadence_s": 1.5, "transient_first": (1, 1), "transient_interval_s": 1e6}
    return small.model_copy(update=changes | {"transient_min_s": 2.0, "transient_max_s": 2.0})


def test_astropy_reads_axes_times_and_pixels(config: SimulatorConfig, tmp_path: Path) -> None:
    paths = write_files(config, tmp_path / "new" / "night")
    assert [path.name for path in paths[:3]] == ["frame000000-band00.fits", "frame000000-band01.fits",
                                                 "frame000001-band00.fits"]  # fmt: skip
    assert sorted(paths) == paths
    assert sorted(path for path in paths[0].parent.iterdir() if path.suffix == ".fits") == paths
    for number, path in enumerate(paths):
        frame, band = divmod(number, 2)
        with fits.open(path) as hdus:
            hdus.verify("exception")
            image = hdus[0]
            assert isinstance(image, fits.PrimaryHDU)
            since = datetime.fromisoformat(str(image.header["DATE-OBS"])) - datetime.fromisoformat("2025-01-01")
            assert since.total_seconds() == pytest.approx(1.5 * frame, abs=1e-6)
            assert image.header["RESTFRQ"] == config.bands[band].freq_hz
            assert (image.header["NAXIS1"], image.header["NAXIS2"]) == (160, 120)
        assert pixels_of(path).shape == (120, 160)
        assert np.array_equal(pixels_of(path), render(config, band, frame).pixels)


def test_the_truth_is_what_was_rendered(config: SimulatorConfig, tmp_path: Path) -> None:
    write_files(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["band"]) for line in lines] == [(k, b) for k in range(4) for b in (0, 1)]
    quiet = config.model_copy(update={"n_steady": 0, "n_variable": 0, "transient_interval_s": None})
    for line in lines:
        path = tmp_path / f"frame{line['frame']:06d}-band{line['band']:02d}.fits"
        noise = render(quiet, line["band"], line["frame"]).pixels
        model = pixels_of(path).astype(float) - noise
        sources = line["sources"]
        for x, y, flux in zip(sources["x"], sources["y"], sources["flux_jy"], strict=True):
            assert 0.8 * flux < model[round(y), round(x)] <= 1.001 * flux
        for x, y in zip(sources["x"], sources["y"], strict=True):
            model[max(round(y) - 12, 0) : round(y) + 13, max(round(x) - 12, 0) : round(x) + 13] = 0.0
        assert np.max(np.abs(model)) < 1e-2
        expected_us = 1_735_689_600_000_000 + line["frame"] * 1_500_000
        assert (line["t_start_us"], line["exposure_s"]) == (expected_us, 1.5)
    shining = {line["frame"]: line["transients_on"] for line in lines}
    # 2 s are one frame of 1.5 s to the nearest.
    assert (shining[0], shining[1], shining[2]) == ([], ["T0.0"], [])


def test_the_catalogue_holds_every_source_and_the_configuration(config: SimulatorConfig, tmp_path: Path) -> None:
    write_files(config, tmp_path)
    catalogue = Table.read(tmp_path / "catalogue.ecsv")
    lines = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert set(catalogue["name"]) == {name for line in lines for name in line["sources"]["name"]}
    assert (catalogue["ra_deg"].unit, catalogue["flux_jy"].unit) == ("deg", "Jy")
    (transient,) = catalogue[catalogue["kind"] == "transient"]
    assert (transient["first_frame"], transient["end_frame"]) == (1, 2)
    again = SimulatorConfig.model_validate(catalogue.meta["config"])
    assert again == config
    assert np.array_equal(render(again, 1, 3).pixels, pixels_of(tmp_path / "frame000003-band01.fits"))


def test_an_endless_configuration_is_not_written(config: SimulatorConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="say how many images per band"):
        write_files(config.model_copy(update={"frames": None}), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_second_run_replaces_the_first(config: SimulatorConfig, tmp_path: Path) -> None:
    write_files(config, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_files(config, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
