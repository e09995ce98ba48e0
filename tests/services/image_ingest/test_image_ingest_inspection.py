"""`trapline inspect` as it is used: real files and broken ones, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ingest_inputs import bare, header, noise
from mesh_runs import REAL_IMAGES
from trapline.cli import app
from trapline.image_ingest.inspection import utc


def inspected(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def lines_of(*arguments: object) -> tuple[int, list[dict[str, Any]]]:
    code, out, _ = inspected(*arguments, "--json")
    return code, [json.loads(line) for line in out.splitlines()]


def test_a_good_image_is_told_with_the_keys_that_it_was_read_from() -> None:
    code, (found,) = lines_of(REAL_IMAGES / "lofar-GRB201006A-2min.fits")
    assert (code, found["rejected"], found["reasons"]) == (0, False, [])
    facts = found["facts"]
    assert facts["instrument"] == {"value": "lofar", "key": "TELESCOP=LOFAR"}
    assert facts["frequency"] == {"value": "143.651 MHz", "key": "CTYPE3, CRVAL3"}
    assert facts["bandwidth"] == {"value": "46.875 MHz", "key": "CDELT of CTYPE3, CRVAL3"}
    assert facts["start"] == {"value": "2020-10-06T01:26:36.800000 UTC", "key": "DATE-OBS"}
    assert facts["exposure"] == {"value": "0 s", "key": "not in the header"}
    assert facts["beam"]["key"] == "BMAJ, BMIN, BPA"
    assert set(found["flags"]) == {"exposure_missing", "noise_theory_unknown"}


def test_every_reason_is_told_and_the_exit_code_says_so() -> None:
    code, found = lines_of(REAL_IMAGES)
    assert code == 1
    rejected = {Path(one["origin"]).name for one in found if one["rejected"]}
    assert rejected == {"lofar-header-only.fits", "missing-metadata.fits"}
    code, text, _ = inspected(REAL_IMAGES / "missing-metadata.fits")
    assert code == 1
    for word in ("REJECTED", "the frequency is missing", "the telescope is missing", "the length of the exposure"):
        assert word in text


def test_limits_of_the_configuration_are_applied(tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_text(
        "[image_ingest]\nbands = [{name = 'low', freq_hz = 60e6, bandwidth_hz = 1e6}]\n"
        "[image_ingest.quality]\nrms_max = 0.5\n"
    )
    image = tmp_path / "image.fits"
    image.write_bytes(bare(noise((32, 40))))
    code, (found,) = lines_of(image, "--config", tmp_path / "mesh.toml")
    assert code == 1
    assert found["facts"]["band"] == {"value": "low", "key": "configured"}
    (reason,) = found["reasons"]
    assert (reason["check"], reason["limit"]) == ("rms", 0.5)
    assert "(limit 0.5)" in inspected(image, "--config", tmp_path / "mesh.toml")[1]


def test_the_instrument_can_be_named(tmp_path: Path) -> None:
    image = tmp_path / "image.fits"
    image.write_bytes(bare(noise((32, 40))))
    assert lines_of(image, "--instrument", "ami-la")[1][0]["facts"]["instrument"]["value"] == "ami-la"
    code, _, error = inspected(image, "--instrument", "hubble")
    assert code == 1
    assert "there is no instrument 'hubble'; known are aartfaac, ami-la" in error


def test_the_noise_is_compared_with_the_images_before(tmp_path: Path) -> None:
    for number in range(12):
        cards = header((64, 64), DATE_OBS=f"2020-06-01T12:00:{number:02d}")
        rms = 3.0 if number == 11 else 1 + 0.01 * (number % 3)
        (tmp_path / f"{number:02d}.fits").write_bytes(bare(noise((64, 64), seed=number, rms=rms), cards))
    found = lines_of(tmp_path)[1]
    assert [[r["check"] for r in one["reasons"]] for one in found] == [[]] * 11 + [["rms_history"]]


@pytest.mark.parametrize("data", [b"", b"some text", bytes(10_000), bare(noise((32, 40)))[:4000]])
def test_what_cannot_be_read_is_said(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.fits").write_bytes(data)
    code, (found,) = lines_of(tmp_path / "bad.fits")
    assert code == 1
    assert found["facts"] == {}
    assert found["reasons"][0]["check"] == "unreadable"
    assert "bad.fits" in found["reasons"][0]["text"]


def test_what_is_not_there_is_one_line() -> None:
    code, out, error = inspected("/nowhere/image.fits")
    assert (code, out, error) == (1, "", "trapline: /nowhere/image.fits: no such file or directory\n")


def test_times_before_1970_are_told() -> None:
    assert utc(-1) == "1969-12-31T23:59:59.999999"
