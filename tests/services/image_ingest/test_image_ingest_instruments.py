from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ingest_inputs import header, settings
from trapline.image_ingest.cards import Cards
from trapline.image_ingest.config import BandConfig, IngestConfig, QualityLimits, StreamConfig
from trapline.image_ingest.header import read_header
from trapline.image_ingest.instruments import InstrumentError, Settings

OWN = """
name = "my-array"
[match]
telescop = ["MYARRAY*"]
[keys]
exposure = [{ key = "INTTIME", unit = "ms" }]
frequency = [{ key = "OBSFREQ", unit = "MHz" }]
bandwidth = [{ key = "OBSBW", unit = "kHz" }]
start = ["TSTART"]
beam_major = [{ key = "FWHMX", unit = "arcmin" }]
beam_minor = [{ key = "FWHMY", unit = "arcmin" }]
beam_pa = ["FWHMPA"]
stokes = ["POLN"]
[defaults]
timesys = "TAI"
unit = "Jy"
[quality]
rms_max = 5.0
"""


def write(directory: Path, name: str, text: str) -> Path:
    (directory / name).write_text(text)
    return directory


def recognised(known: Settings, **cards: Any) -> str:
    return known.recognise(Cards(header((4, 5), **cards))).name


@pytest.mark.parametrize(
    ("telescope", "instrument", "name"),
    [
        ("LOFAR", None, "lofar"), ("LOFAR20", "LOFAR20", "lofar"), ("LOFAR", "AARTFAAC", "aartfaac"),
        ("AARTFAAC-12", None, "aartfaac"), ("AMI-LA", None, "ami-la"), ("ami-la", None, "ami-la"),
        ("ASKAP", None, "askap"), ("MeerKAT", None, "meerkat"), ("MWA", None, "mwa"), ("EVLA", None, "vla"),
        ("VLBA", None, "generic-radio"), ("KAT-7", None, "kat-7"), ("GMRT", None, "generic-radio"),
        (None, None, "generic-radio"), ("", "", "generic-radio"),
    ],
)  # fmt: skip
def test_the_shipped_instruments_are_recognised(telescope: str | None, instrument: str | None, name: str) -> None:
    assert recognised(settings(), TELESCOP=telescope, INSTRUME=instrument) == name


def test_a_filter_without_radio_keys_is_optical() -> None:
    radio_keys: dict[str, Any] = {"BMAJ": None, "BMIN": None, "RESTFRQ": None, "RESTBW": None}
    assert recognised(settings(), FILTER="r", **radio_keys) == "generic-optical"
    assert recognised(settings(), FILTER="r") == "generic-radio"


def test_own_instruments_are_added_and_use_their_keys_and_units(tmp_path: Path) -> None:
    known = settings(instruments=str(write(tmp_path, "mine.toml", OWN)))
    cards = Cards(
        header(
            (4, 5), {}, TELESCOP="MYARRAY-2", INTTIME=250, OBSFREQ=150.0, OBSBW=200.0, TSTART="2020-06-01T12:00:37",
            FWHMX=3.0, FWHMY=1.5, FWHMPA=10.0, POLN="v",
        )
    )  # fmt: skip
    found = read_header(cards, known.recognise(cards))
    assert found.findings.faults == []
    assert found.timing.exposure.value == 0.25
    assert found.spectrum.freq_hz is not None
    assert (found.spectrum.freq_hz.value, found.spectrum.bandwidth_hz) == pytest.approx((150e6, 200e3))
    assert found.beam is not None
    assert (found.beam.major_deg, found.beam.minor_deg, found.beam.pa_deg) == pytest.approx((0.05, 0.025, 10.0))
    assert found.stokes == "V"
    assert found.timing.start is not None
    assert found.timing.start.value == 1591012800_000_000


def test_an_own_description_of_our_name_replaces_ours(tmp_path: Path) -> None:
    text = 'name = "lofar"\n[match]\ntelescop = ["LOFAR*"]\n[quality]\nbeam_ratio_max = 7.0\n'
    known = settings(instruments=str(write(tmp_path, "lofar.toml", text)))
    assert known.named("lofar").quality.beam_ratio_max == 7.0
    assert [one.name for one in known.instruments].count("lofar") == 1


def test_an_own_description_is_tried_before_ours(tmp_path: Path) -> None:
    text = 'name = "superterp"\n[match]\ntelescop = ["LOFAR*"]\n'
    assert recognised(settings(instruments=str(write(tmp_path, "s.toml", text))), TELESCOP="LOFAR") == "superterp"


def test_configured_limits_win_over_those_of_the_instrument() -> None:
    known = settings(quality={"beam_ratio_max": 5.0, "rms_max": 0.5})
    assert {one.quality.beam_ratio_max for one in known.instruments} == {5.0}
    assert {one.quality.rms_max for one in known.instruments} == {0.5}
    assert settings(quality={"rms_max": 0.5}).named("ami-la").quality.beam_ratio_max == 3.0
    assert settings().named("lofar").quality.beam_ratio_max == 2.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('nam = "x"', "nam"),
        ('name = "x"\n[quality]\nrms_maks = 1', "quality.rms_maks"),
        ('name = "x"\n[defaults]\nexposure_s = "3 m"', "defaults.exposure_s"),
        ('name = "x"\n[keys]\nexposure = [{ key = "A", unit = "parsnips" }]', "keys.exposure.0.unit"),
        ('name = "x"\nkind = "gamma"', "kind"),
        ("name = ", "not readable as TOML"),
        ("\x00\xff", "not readable as TOML"),
    ],
)
def test_a_bad_description_is_refused_with_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InstrumentError, match=r"bad\.toml") as caught:
        settings(instruments=str(tmp_path))
    assert says in str(caught.value)


def test_a_missing_directory_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InstrumentError, match="no such directory"):
        settings(instruments=str(tmp_path / "nowhere"))
    with pytest.raises(InstrumentError, match=r"no instrument 'hubble'; known are aartfaac, ami-la"):
        settings(streams=[{"address": "tcp://localhost:6666", "instrument": "hubble"}])


def test_the_configuration_takes_units_and_refuses_nonsense() -> None:
    config = IngestConfig.model_validate(
        {"max_image_bytes": "64 MiB", "extraction_radius_deg": "30 arcmin", "mid_image_timeout_s": "1 min"}
    )
    assert (config.max_image_bytes, config.extraction_radius_deg, config.mid_image_timeout_s) == (64 << 20, 0.5, 60.0)
    assert StreamConfig(address="tcp://[::1]:6666").endpoint == ("::1", 6666)
    assert BandConfig.model_validate({"name": "a", "freq_hz": "60 MHz", "bandwidth_hz": "200 kHz"}).freq_hz == 60e6


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (StreamConfig, {"address": "localhost:6666"}),
        (StreamConfig, {"address": "tcp://localhost"}),
        (StreamConfig, {"address": "tcp://localhost:99999"}),
        (StreamConfig, {"address": "tcp://localhost:6666", "pixel_order": "random"}),
        (BandConfig, {"name": "a"}),
        (BandConfig, {"name": "a", "freq_hz": 1.0}),
        (BandConfig, {"name": "a", "freq_hz": 1.0, "bandwidth_hz": 1.0, "filter": "r"}),
        (QualityLimits, {"rms_min": 2.0, "rms_max": 1.0}),
        (IngestConfig, {"reconnect_min_s": 5, "reconnect_max_s": 1}),
        (IngestConfig, {"max_image_bytes": 0}),
        (IngestConfig, {"margin": 10}),
        (IngestConfig, {"extraction_radius_deg": "3 kg"}),
    ],
)
def test_bad_configuration_is_refused(model: type[Any], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(values)
