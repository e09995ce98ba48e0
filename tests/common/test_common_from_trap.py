"""A configuration of TraP becomes a mesh.toml that is accepted, and nothing in it is passed over in silence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trapline.cli import app
from trapline.common.config.mesh import load_config

JOB = """
[persistence]
description = "GRB 201006A" ; of the night
dataset_id = -1
rms_est_sigma = 4
rms_est_fraction = 8
rms_est_max = 100
bandwidth_max = 0.0

[quality_lofar]
low_bound = 1
oversampled_x = 25
elliptical_x = 2.5
min_separation = 12

[source_extraction]
detection_threshold = 7.5      ; S/N
analysis_threshold = 3
back_size_x = 32
back_size_y = 32
margin = 12
deblend_nthresh = 16
extraction_radius_pix = 250
force_beam = False
ew_sys_err = 20
ns_sys_err = 15

[association]
deruiter_radius = 5.0
beamwidths_limit =  2.0

[transient_search]
new_source_sigma_margin = 2

[pipeline]
mode = 'stream'
hosts = 'imager,,'
ports = '6666,6667,6668'

[mine]
own = 3
"""
PIPELINE = """
[DEFAULT]
runtime_directory = %(cwd)s
[logging]
log_dir = %(job_directory)s/logs
debug = True
[database]
engine = postgresql
database = trap
user = alice
password = secret
host = db.observatory
port = 5433
[image_cache]
copy_images = True
[parallelise]
method = "multiproc"
cores = 3
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job_params.cfg").write_text(JOB)
    (tmp_path / "pipeline.cfg").write_text(PIPELINE)
    return ["pipeline.cfg", "job_params.cfg"]


def translated(files: list[str]) -> Any:
    return CliRunner().invoke(app, ["config", "from-trap", *files])


def test_what_corresponds_is_translated(files: list[str], tmp_path: Path) -> None:
    done = translated(files)
    assert done.exit_code == 0, done.stderr
    (tmp_path / "mesh.toml").write_text(done.stdout)
    config: Any = load_config(tmp_path / "mesh.toml")
    extractor, ingest, associator = (config.service(n) for n in ("source_extractor", "image_ingest", "associator"))
    assert config.mesh.dataset == "GRB 201006A"
    assert config.database.dsn == "postgresql://alice@db.observatory:5433/trap"
    assert (extractor.detection_threshold, extractor.mesh_radio_px, extractor.replicas) == (7.5, 32, 3)
    assert (extractor.deblend, extractor.deblend_levels, extractor.force_beam) == (True, 16, False)
    assert extractor.ew_sys_err_deg == pytest.approx(20 / 3600) and extractor.ns_sys_err_deg == pytest.approx(15 / 3600)
    assert (ingest.margin_px, ingest.quality.beam_ratio_max, ingest.quality.rms_region) == (12, 2.5, 0.25)
    assert (ingest.quality.rms_max, ingest.quality.avoid_deg, ingest.quality.beam_major_max_px) == (100, 12, 25)
    assert [s.address for s in ingest.streams] == ["tcp://imager:6666", "tcp://localhost:6667", "tcp://localhost:6668"]
    assert (associator.deruiter_radius, associator.beamwidths_limit, associator.limit_margin_sigma) == (5, 2, 2)
    assert config.log.level == "debug"


def test_no_levels_switch_deblending_off(tmp_path: Path) -> None:
    job = tmp_path / "job_params.cfg"
    job.write_text("[source_extraction]\ndeblend_nthresh = 0\n")
    done = translated([str(job)])
    assert "deblend = false" in done.stdout and "deblend_levels" not in done.stdout


def test_every_key_is_translated_or_remarked(files: list[str]) -> None:
    done = translated(files)
    remarks = [line for line in done.stdout.splitlines() if line.startswith("#")]
    for key in (
        "dataset_id",
        "bandwidth_max",
        "extraction_radius_pix",
        "log_dir",
        "password",
        "[mine] own",
        "image_cache",
    ):
        assert any(key in remark for remark in remarks), key
    assert "secret" not in done.stdout
    given = len(re.findall(r"^\w+\s*=", JOB + PIPELINE, re.MULTILINE))
    translated_keys = len(re.findall(r"^\w+ = ", done.stdout, re.MULTILINE))
    # Five keys are one address, three are the streams, two say how to deblend; two are in sections that are remarked.
    assert translated_keys + len(remarks) >= given - 4 - 2 - 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[source_extraction]\ndetection_threshold = high", "'high' is no number"),
        ("[source_extraction]\ndetection_threshold = -3", "detection_threshold"),
        ("no section = 1", "no configuration of TraP"),
    ],
    ids=["no number", "not allowed", "no section"],
)
def test_what_is_no_configuration_is_refused(files: list[str], tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "bad.cfg").write_text(text)
    done = translated(["bad.cfg"])
    assert done.exit_code == 2 and reason in done.stderr and "Traceback" not in done.stderr
    assert "nowhere.cfg" in translated(["nowhere.cfg"]).stderr
