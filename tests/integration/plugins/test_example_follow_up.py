"""The example that asks for observations: only where the event is up and the sky is dark."""

import importlib
import json

import numpy as np
import pytest

from plugin_runs import EXAMPLES, published, running_plugin
from trapline.common.channel.filters import field_of
from trapline.common.plugin.load import load_plugin
from trapline.common.testing.plugin import fake_transient, step
from waiting import wait_for

pytestmark = pytest.mark.timeout(300)

FOLLOW_UP = EXAMPLES / "follow_up.py"
MIDNIGHT_US = 1_767_225_600_000_000  # 2026-01-01T00:00 UTC, night on La Palma


@pytest.fixture
def ask(tmp_path, monkeypatch):
    monkeypatch.setenv("FOLLOW_UP_DIRECTORY", str(tmp_path / "requests"))
    return load_plugin(FOLLOW_UP).functions[0].call


def in_the_north(number=0, **fields):
    """Return an event in Ursa Major, high above La Palma in the second half of that night."""
    return fake_transient(number, **{"t_us": MIDNIGHT_US, "ra_deg": 165.0, "dec_deg": 56.0, "kind": "flare", **fields})


def test_the_window_is_when_it_is_up_and_dark(ask, tmp_path):
    (request,) = step(ask, in_the_north())
    assert request.action == "observe"
    # By hand: from 28.8 N a target at 56 N culminates 27.2 degrees from the zenith, when the sidereal time is 11 h.
    assert request.begin < "2026-01-01T01:00:00" < request.end
    assert "2026-01-01T06:30:00" < request.end < "2026-01-01T07:30:00", "the Sun is 12 degrees low near 07:00 UTC"
    assert request.altitude_deg == pytest.approx(90 - (56.0 - 28.7606), abs=0.5)
    assert 0 < request.moon_deg < 180
    (path,) = (tmp_path / "requests").iterdir()
    written = json.loads(path.read_text())
    assert (written["event"], written["begin"]) == (path.stem, request.begin)
    assert "sigma" in written["reason"]


def test_at_noon_it_waits_for_the_night_and_never_for_what_never_rises(ask):
    noon = MIDNIGHT_US + 12 * 3_600_000_000
    (request,) = step(ask, in_the_north(t_us=noon))
    assert request.begin > "2026-01-01T19:00:00"
    (request,) = step(ask, in_the_north(dec_deg=-80.0))
    assert (request.action, request.begin) == ("never_up", None)


def test_it_needs_no_newer_table_of_the_earth(ask):
    (request,) = step(ask, in_the_north(t_us=MIDNIGHT_US + 330 * 86_400_000_000))
    assert request.action in ("observe", "never_up")


def test_an_update_asks_for_nothing_and_a_retraction_withdraws(ask, tmp_path):
    step(ask, in_the_north(), in_the_north(1))
    assert len(list((tmp_path / "requests").iterdir())) == 2
    assert step(ask, in_the_north(alert_type="update"), in_the_north(role="injection"), in_the_north(kind="fade")) == []
    (withdrawn,) = step(ask, in_the_north(1, alert_type="retraction"))
    assert withdrawn.action == "withdraw"
    assert len(list((tmp_path / "requests").iterdir())) == 1


def test_a_run_of_good_steps_must_be_long_enough(ask):
    longest_enough = importlib.import_module("trapline_plugin_follow_up").longest_enough
    good = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1], bool)
    assert longest_enough(good, 3) == (3, 5)
    assert longest_enough(good, 4) == (7, 10)
    assert longest_enough(good, 5) == (None, None)


def test_it_runs_beside_a_mesh(config, relay, journals, tmp_path):
    journals.append(in_the_north())
    journals.append(in_the_north(1), channel="flares", partition="flare_finder-0")
    requests = tmp_path / "requests"
    options = {"data": config.data_directory, "FOLLOW_UP_DIRECTORY": str(requests)}
    with running_plugin(FOLLOW_UP, "--from", "first", **options):
        made = wait_for(lambda: len(found := asked(config)) == 2 and found, what="the requests")
    assert {field_of(m.header, "action") for m in made} == {"observe"}
    assert len(list(requests.glob("*.json"))) == 2


def asked(config):
    return published(config.journal_directory, "observing_requests", "follow_up-0")
