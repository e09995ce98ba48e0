"""The example that finds flares: live, over what is recorded, and through a death in the middle of a flare."""

import json
import signal

import numpy as np
import pytest

from mesh_runs import trapline
from plugin_runs import EXAMPLES, published, running_plugin, start_plugin
from trapline.common.plugin.load import load_plugin
from trapline.common.testing.plugin import fake_lightcurves, step
from waiting import wait_for

pytestmark = pytest.mark.timeout(300)

FLARES = EXAMPLES / "flare_finder.py"
PARTITION = "flare_finder-0"


def night(values, *, error=0.1, first=0):
    """Return a record for each image: object 0 has these fluxes, object 1 is steady."""
    random = np.random.default_rng(3)
    for number, value in enumerate(values):
        t_us = 1_767_225_600_000_000 + (first + number) * 1_000_000
        yield fake_lightcurves([value, 2.0 + error * random.standard_normal()], error=error, t_us=t_us)


STEADY = list(1.0 + 0.1 * np.random.default_rng(1).standard_normal(40))
FLARE = [2.0, 3.0, 4.0, 2.5, 1.5, 1.0]


def find():
    return load_plugin(FLARES).functions[0].call


def test_a_flare_is_announced_followed_and_ended_and_its_updates_belong_to_it():
    first, *more = step(find(), *night(STEADY + FLARE + STEADY[:5]))
    assert (first.alert_type, first.flux_peak) == ("initial", 2.0)
    assert first.significance > 6
    assert {event.event_id for event in more} == {first.event_id}
    assert [event.alert_type for event in more] == ["update"] * len(more)
    assert [event.flux_peak for event in more[:2]] == [3.0, 4.0]
    last = more[-1]
    assert (last.rule["ended"], last.rule["peak"], last.rule["duration_s"]) == (1.0, 4.0, 5.0)


def test_noise_and_a_slow_rise_are_no_flares():
    slow = np.linspace(1.0, 4.0, 300) + 0.1 * np.random.default_rng(2).standard_normal(300)
    assert step(find(), *night(list(slow))) == []
    assert step(find(), *night(STEADY * 10)) == []


def test_points_that_are_not_measured_late_or_new_say_nothing():
    records = list(night([*STEADY[:20], float("nan"), 9.0]))
    late = list(night([9.0], first=3))
    events = step(find(), *records[:21], *late, records[21])
    assert [event.t_us for event in events] == [records[21].header.image.t_start_us]
    assert step(find(), *night([1.0, 1.0, 9.0])) == []


def test_killed_in_the_middle_of_a_flare_it_goes_on_as_if_nothing_had_been(config, relay, journals):
    records = list(night(STEADY + FLARE))
    process = start_plugin(FLARES, "--from", "first", data=config.data_directory)
    journals.append(*records[:42])
    wait_for(lambda: flares(config), what="the flare")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    journals.append(*records[42:])
    with running_plugin(FLARES, data=config.data_directory):
        wait_for(lambda: flares(config)[-1].rule.get("ended"), what="its end")
    undisturbed = step(find(), *records)
    assert [h.alert_type for h in flares(config)] == [e.alert_type for e in undisturbed]
    assert [h.significance for h in flares(config)] == [e.significance for e in undisturbed]
    env = {"TRAPLINE__MESH__DATA_DIRECTORY": str(config.data_directory)}
    replayed = trapline("plugin", str(FLARES), "--replay", "..", "--json", cwd=config.data_directory, env=env)
    assert [json.loads(line)["significance"] for line in replayed.stdout.splitlines()] == [
        event.significance for event in undisturbed
    ]


def flares(config):
    return [m.header for m in published(config.journal_directory, "flares", PARTITION)]
