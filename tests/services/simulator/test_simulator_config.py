"""What the configuration accepts, and what it says when it does not."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trapline.simulator.config import SimulatorConfig


def test_units_may_be_written_out() -> None:
    config = SimulatorConfig.model_validate(
        {"beam_major_deg": "60 arcmin", "beam_minor_deg": "1800 arcsec", "cadence_s": "2 min",
         "bands": [{"freq_hz": "0.06 GHz", "bandwidth_hz": "195.3125 kHz"}]}
    )  # fmt: skip
    assert (config.beam_major_deg, config.beam_minor_deg, config.cadence_s) == pytest.approx((1.0, 0.5, 120.0))
    assert config.bands[0].freq_hz == pytest.approx(60e6)


def test_microseconds_of_the_start_are_exact() -> None:
    config = SimulatorConfig.model_validate({"t_start": "2031-07-04T01:02:03.000007+02:00"})
    assert config.t_start_us == 1_940_886_123_000_007


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"beam_minor_deg": 0.6}, "beam_minor_deg = 0.6 must not be above beam_major_deg = 0.5"),
        ({"transient_first": (20, 12)}, r"transient_first\[0\] = 20 must not be above"),
        ({"snr_min": 500}, "snr_min = 500.0 must not be above snr_max"),
        ({"edge_px": 512}, "edge_px = 512 leaves no room for sources in 1024 x 1024"),
        ({"first_port": 65535}, "puts the last band on port 65536"),
        ({"save_images": True}, "save_images needs `output`"),
        ({"beam_major_deg": 90}, "wider than a third of the image"),
        ({"t_start": "2025-01-01T00:00:00"}, "timezone"),
        ({"bands": []}, "at least 1 item"),
        ({"frames": 0}, "greater than or equal to 1"),
        ({"cadence_s": 0}, "greater than or equal to 0.001"),
        ({"rms_jy_per_beam": float("nan")}, "finite"),
        ({"pixel_deg": "3 Jy"}, "expected a number in deg"),
        ({"nx": 10**9}, "less than or equal to 16384"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"n_stedy": 3}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_is_said(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SimulatorConfig.model_validate(wrong)
