"""What an operator is told: conditions, alarms, and the drawing of the mesh."""

from dataclasses import replace

import pytest

from dashboard_reports import START_US, S, course, report
from trapline.common.config.mesh import load_config
from trapline.dashboard.core import Expected, health_of
from trapline.dashboard.diagram import HEIGHT, WIDTH
from trapline.dashboard.processes import process_of

RULE = {"limit_bytes": 0, "hard_limit_bytes": 0, "age_s": 60.0, "at_limit": "drop_oldest"}


@pytest.fixture
def expected(tmp_path):
    config = load_config(mesh={"data_directory": tmp_path}, source_extractor={"replicas": 2})
    sections = {name: s for name, s in config.services().items() if s.replicas}
    return Expected(sections, 1.0, {"*": RULE})


def info(**ends):
    partitions = [
        {"channel": c, "partition": "0", "first_seq": 0, "next_seq": n, "epoch": 0, "bytes": 10 * n}
        for c, n in ends.items()
    ]
    return {"partitions": partitions, "groups": [], "readers": [], "counters": {}}


def at(seconds):
    return START_US + int(seconds * S)


def alive(answer):
    return lambda _: answer


@pytest.mark.parametrize(
    ("last", "later_s", "runs", "condition", "level"),
    [
        ({}, 1, True, "running", "good"),
        ({"state": "starting"}, 1, True, "starting", "busy"),
        ({"state": "waiting"}, 1, None, "waiting", "busy"),
        ({"state": "draining"}, 1, True, "draining", "busy"),
        ({"state": "stopped"}, 900, False, "stopped", "off"),
        ({}, 1, False, "crashed", "bad"),
        ({"state": "starting"}, 2, False, "crashed", "bad"),
        ({}, 30, True, "hung", "bad"),
        ({}, 30, None, "silent", "bad"),
    ],
)
def test_starting_stopped_crashed_and_hung_are_told_apart(last, later_s, runs, condition, level):
    found = process_of([report(at_s=0, **last)], at(later_s), 1.0, alive(runs))
    assert (found.condition, found.level) == (condition, level)


def test_rate_busy_and_since_come_from_the_course_of_reports():
    history = [*course(20), *(report(at_s=20 + i, done=40, state="waiting", last_error="no disk") for i in range(3))]
    steady = process_of(history[:20], at(19.5), 1.0, alive(True))
    assert (steady.rate_hz, steady.busy, steady.since_us) == (2.0, 0.25, START_US)
    assert set(steady.rates_hz) == {2.0}
    assert process_of(history, at(23), 1.0, alive(True)).since_us == at(20)


def test_a_death_is_a_restart_and_an_orderly_end_is_none():
    died = process_of([report(at_s=0), report(at_s=3, pid=101)], at(3), 1.0, alive(True))
    ended = process_of([report(at_s=0, state="stopped"), report(at_s=3, pid=101)], at(3), 1.0, alive(True))
    assert (died.restarts, ended.restarts) == (1, 0)


def test_a_mesh_in_which_all_report_is_healthy(expected):
    reports = {
        f"{name}-{i}": course(12, service=name, replica=str(i))
        for name, section in expected.sections.items()
        for i in range(section.replicas)
    } | {"relay-0": course(12, service="relay")}
    health = health_of(reports, info(images=5), at(12), expected, alive(True))
    assert (health.level, health.alarms) == ("good", [])
    assert [p.service for p in health.processes][:3] == ["relay", "image_ingest", "source_extractor"]
    assert health.channels[0].name == "images"
    assert health.channels[0].records == 5


@pytest.mark.parametrize(
    ("reports", "info_", "subject", "text", "advice"),
    [
        ({}, info(), "associator-0", "never reported", "trapline run associator --replica 0"),
        ({"associator-0": [report()]}, info(), "associator-0", "crashed", "starts it again"),
        (
            {"associator-0": [report(at_s=9, state="waiting", last_error="disk full")]},
            info(),
            "associator-0",
            "waits: disk full",
            "goes on by itself",
        ),
        (
            {"associator-0": [report(at_s=8), report(at_s=9, counters={"dead_letters": 2.0})]},
            info(),
            "associator-0",
            "dead letters: 2",
            "dead letters",
        ),
        (
            {"image_ingest-0": [report("image_ingest", at_s=9, sources={"tcp://a:1": {"connected": 0.0}})]},
            info(),
            "tcp://a:1",
            "is not connected",
            "imager running",
        ),
        (
            {"image_ingest-0": [report("image_ingest", at_s=9, sources={"tcp://a:1": {"silent": 1.0}})]},
            info(),
            "tcp://a:1",
            "gives no images",
            "telescope observes",
        ),
        (
            {"associator-0": [report(at_s=8, state="stopped")]},
            info(images=3),
            "associator-0",
            "3 records wait",
            "trapline run associator --replica 0",
        ),
        ({}, info(images=900), "associator", "is 900 records behind", "keep them"),
        ({}, None, "relay", "does not answer", "trapline relay"),
    ],
)
def test_an_alarm_says_what_since_when_and_what_to_do(expected, reports, info_, subject, text, advice):
    # Whoever reported at 9 s is seen to run; who reported at 0 s is gone.
    health = health_of(reports, info_, at(10), expected, lambda r: r.t_us >= at(8))
    found = [a for a in health.alarms if a.subject == subject and text in a.text]
    assert found, health.alarms
    assert advice in found[0].advice


def test_what_stopped_in_order_and_is_not_configured_is_forgotten_after_an_hour(expected):
    reports = {"simulator-0": [report("simulator", state="stopped")]}
    soon = health_of(reports, info(), at(60), expected, alive(False))
    later = health_of(reports, info(), at(7200), expected, alive(False))
    assert [p.condition for p in soon.processes if p.service == "simulator"] == ["stopped"]
    assert [p for p in later.processes if p.service == "simulator"] == []


def test_boxes_do_not_overlap_and_every_channel_is_an_arrow(expected):
    reports = {"associator-0": course(5, written={"watchlist/0": 3, "lightcurves/0": 4}, counters={})}
    diagram = health_of(reports, info(), at(5), expected, alive(True)).diagram
    places = [(b.x, b.y) for b in diagram.boxes]
    assert len(set(places)) == len(places)
    assert all(x + WIDTH <= diagram.width and y + HEIGHT <= diagram.height for x, y in places)
    found = {(a.channel, a.source, a.target) for a in diagram.arrows}
    assert found >= {
        ("images", "image_ingest", "source_extractor"),
        ("sources", "source_extractor", "associator"),
        ("lightcurves", "associator", "transient_finder"),
        ("lightcurves", "associator", "database_dumper"),
        ("transients", "transient_finder", "database_dumper"),
        ("rows", "database_dumper", "store"),
    }


def test_what_is_wrong_with_a_plugin_is_a_warning_and_it_is_drawn_with_what_it_reads(expected):
    expected = replace(expected, plugins={"flares": 1, "never": 1})
    reading = [{"channel": "transients", "partition": "0", "seq": 3}]
    reports = {"flares-0": [report("flares", at_s=0, reading=reading, written={"bright/flares-0": 2})]}
    readers = [{"reader": "flares-0", "channel": "transients", "partition": "0", "seq": 3}]
    health = health_of(reports, {**info(transients=5), "readers": readers}, at(10), expected, alive(False))
    told = {a.subject: a for a in health.alarms if a.subject in ("flares-0", "never-0")}
    assert {a.level for a in told.values()} == {"warning"}
    assert "crashed" in told["flares-0"].text and "Nothing waits for it" in told["flares-0"].advice
    assert "never reported" in told["never-0"].text and "trapline run" not in told["never-0"].advice
    assert health.backlog["flares"] == 2
    arrows = {(a.channel, a.source, a.target) for a in health.diagram.arrows}
    assert ("transients", "transient_finder", "flares") in arrows
