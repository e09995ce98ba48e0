"""Other rules over the same journals, rules of users, and the diagnostic plot."""

from __future__ import annotations

import json

import numpy as np
import pytest

from finder_records import T0_US, changed, record, run, said
from mesh_runs import ROOT, trapline
from trapline.common.config import ConfigError
from trapline.common.ids import text_id
from trapline.common.journal import JournalWriter
from trapline.schemas.message import encode
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, step
from trapline.transient_finder.plugins import load_rules
from trapline.transient_finder.replay import replay, rules_from

RULE_FILE = ROOT / "deploy" / "plugins" / "my_rules.py"
NIGHT = [record(k, [0, 1], [1.0 if k < 15 else 3.0, 1.0]) for k in range(17)]


@pytest.fixture
def journals(tmp_path):
    """Journals of a night as the finder with its defaults wrote them, with a record that nobody can take."""
    state, directory = FinderState(), tmp_path / "data" / "journal"
    lightcurves, transients = (JournalWriter(directory / name / "0") for name in ("lightcurves", "transients"))
    for one in NIGHT:
        lightcurves.append(encode(one))
        for message in step(state, one, FinderConfig()).messages:
            transients.append(encode(message))
    lightcurves.append([b"garbage"])
    lightcurves.append(encode(changed(record(40, 0), image=None)))
    for writer in (lightcurves, transients):
        writer.close()
    return directory


def test_the_same_rules_say_the_same_and_others_what_they_would_have(journals):
    same = replay(journals, FinderConfig())
    assert [(s.first.kind, *s.outcomes) for s in same.stories] == [("flare", "announced", "announced")]
    assert not any(s.differs for s in same.stories)
    assert (same.records, same.counters, same.first_us) == (19, {"records_not_taken": 2}, T0_US)
    deaf = replay(journals, FinderConfig(flare_sigma=50))
    assert [(s.first.kind, *s.outcomes) for s in deaf.stories] == [("flare", "announced", None)]
    shaky = FinderConfig(variable_thresholds="fixed", variable_min_points=5)
    assert [s.first.kind for s in replay(journals, shaky).stories if s.differs] == ["variable"]


def test_only_events_of_the_stretch_are_compared(journals):
    opened_us = T0_US + 15 * 1_000_000
    for since, until, count in ((opened_us, 1 << 62, 1), (opened_us + 1, 1 << 62, 0), (0, opened_us, 0)):
        assert len(replay(journals, FinderConfig(), since_us=since, until_us=until).stories) == count


def test_the_command_shows_both_sides_and_draws(journals, tmp_path):
    (tmp_path / "my_rules.toml").write_text(
        "flare_sigma = 50.0\nvariable_min_points = 5\nv_min = 10.0\n"
        f"plugins = ['{RULE_FILE}']\nplugin_thresholds.doubled.factor = 2.5\n"
    )
    env = {"TRAPLINE__MESH__DATA_DIRECTORY": str(tmp_path / "data")}
    given = ("replay", "--since", "2023-11-14T00:00", "--rules", "my_rules.toml")
    done = trapline(*given, "--json", "--png", "v.png", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    *events, last = map(json.loads, done.stdout.splitlines())
    assert {(e["kind"], e["was"], e["would"]) for e in events} == {
        ("flare", "announced", None), ("doubled", None, "announced"),
    }  # fmt: skip
    assert {e["object"] for e in events} == {text_id(NIGHT[0].arrays["object_id"][0].tobytes())}
    doubled = next(e for e in events if e["kind"] == "doubled")
    assert doubled["rule"] == pytest.approx({"flux_int": 3.0, "mean": 1.0, "factor": 2.5, "min_points": 5.0})
    assert (last["summary"]["was"], last["summary"]["would"]) == (1, 1)
    assert last["summary"]["populations"][0]["objects"] == 1  # the other has V = 0
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")
    text = trapline(*given, "--differing", cwd=tmp_path, env=env)
    assert "1 announced, 1 would be; 2 differ" in text.stdout
    nowhere = trapline("replay", cwd=tmp_path)
    assert nowhere.returncode == 2
    assert "is this the directory of a mesh?" in nowhere.stderr


def test_wrong_rules_are_refused_with_what_is_allowed(tmp_path):
    path = tmp_path / "rules.toml"
    for text, complaint in (
        ("flare_sgma = 1.0", "unknown key flare_sgma; allowed here are .*flare_sigma"),
        ("flare_sigma = -1.0", "flare_sigma = -1.0: .*greater than 0"),
        ("flare_sigma", "rules.toml: "),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=complaint):
            rules_from(FinderConfig(), path)
    path.write_text("[transient_finder]\nflare_sigma = 4.0\n")
    assert rules_from(FinderConfig(warm_up=3), path) == FinderConfig(warm_up=3, flare_sigma=4.0)
    with pytest.raises(ConfigError, match="no file"):
        rules_from(FinderConfig(), tmp_path / "none.toml")


def test_a_rule_of_a_user_has_episodes_like_any_other():
    plugins = load_rules([RULE_FILE], {"doubled": {"factor": 3.0}})
    state, quiet = FinderState(), FinderConfig(flare_sigma=1e6)
    flux = [1.0] * 6 + [2.9, 9.0, 9.0, 1.0]
    judged = [step(state, record(k, 0, f), quiet, plugins) for k, f in enumerate(flux)]
    assert said(judged) == [(7, "doubled", "initial"), (9, "doubled", "ended")]
    assert said(run([record(k, 0, f) for k, f in enumerate(flux)], quiet)) == []


def test_rule_files_that_cannot_be_used_are_told_in_a_line(tmp_path):
    good = RULE_FILE.read_text()
    for name, text, thresholds, complaint in (
        ("empty.py", "", {}, "no rule in it"),
        ("broken.py", "1 / 0", {}, "broken.py: ZeroDivisionError"),
        ("taken.py", good.replace('"doubled"', '"flare"'), {}, "'flare' is taken"),
        ("good.py", good, {"doubled": {"facto": 1.0}}, "no threshold 'facto'; there are factor, min_points"),
        ("other.py", good, {"tripled": {}}, "no rule 'tripled'; there are doubled"),
        ("rules.txt", good, {}, "name should end in .py"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=complaint):
            load_rules([tmp_path / name], thresholds)
    with pytest.raises(ConfigError, match=r"no file .*none.py"):
        load_rules([tmp_path / "none.py"], {})


def test_a_fit_is_drawn_of_what_a_state_knows(tmp_path):
    from trapline.transient_finder.diagram import draw, variability_of

    settings, rng = FinderConfig(variable_min_points=5), np.random.default_rng(1)
    state = FinderState()
    for k in range(10):
        step(state, record(k, range(120), rng.normal(5, 0.2, 120)), settings)
    (band,) = variability_of(state, settings)
    assert (band.band, len(band.v), band.as_dict()["variable"]) == ("60 MHz I", 120, 0)
    assert band.v.mean() == pytest.approx(0.04, rel=0.1)
    draw([band], tmp_path / "v.png")
    assert (tmp_path / "v.png").stat().st_size > 10_000
    with pytest.raises(ConfigError, match="variable_min_points"):
        draw([], tmp_path / "none.png")
