"""The same file over what was recorded: what it would have published is what it publishes, and nothing is written."""

import json
import subprocess
import sys

import pytest

from mesh_runs import TRAPLINE, environment, trapline
from plugin_runs import Journals, published, write_plugin
from trapline.common.plugin.declare import PluginError
from trapline.common.plugin.load import load_plugin
from trapline.common.plugin.recording import Recorder
from trapline.common.plugin.replay import Replay, parse_span
from trapline.common.plugin.stepping import initial_states, pack_states, take, unpack_states
from trapline.common.testing.plugin import fake_event, fake_lightcurves


def image(number):
    return fake_lightcurves(flux=(1.0, 9.0 + number), t_us=(number + 1) * 1_000_000)


@pytest.fixture
def recorded(tmp_path):
    """Journals of six images in two partitions, taken by turns."""
    journals = Journals(tmp_path / "trapline-data" / "journal")
    for number in range(6):
        journals.append(image(number), partition=str(number % 2))
    yield tmp_path
    journals.close()


def test_the_command_shows_what_would_have_been_published_and_writes_nothing(recorded):
    path = write_plugin(recorded)
    before = sorted(p for p in recorded.rglob("*") if p.suffix == ".log")
    done = trapline("plugin", path.name, "--replay", "first..latest", "--json", cwd=recorded)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["flux"] for line in lines] == [9.0, 10.0, 11.0, 12.0, 13.0, 14.0]
    assert "6 records" in done.stderr and "6 on bright" in done.stderr
    assert sorted(p for p in recorded.rglob("*") if p.suffix == ".log") == before


def replay(directory, path, **options):
    return Replay(load_plugin(path), directory / "trapline-data" / "journal", **options)


def test_only_what_was_appended_between_two_times_is_taken(recorded):
    path = write_plugin(recorded)
    times = [record.t_us for record, _ in replay(recorded, path).run()]
    assert times == sorted(times)
    part = list(replay(recorded, path, since_us=times[2], until_us=times[4]).run())
    assert [record.t_us for record, _ in part] == [t for t in times if times[2] <= t < times[4]]


def test_a_record_that_cannot_be_taken_is_named_and_the_rest_goes_on(recorded):
    Journals(recorded / "trapline-data" / "journal").append_frames([b"\xc1"], "lightcurves", "junk")
    run = replay(recorded, write_plugin(recorded))
    assert len(list(run.run())) == 6
    ((place, text),) = run.failed
    assert place.partition == "junk" and "not msgpack" in text


def test_what_is_recorded_is_replayed_with_the_same_outcome(recorded):
    plugin = load_plugin(write_plugin(recorded))
    states = initial_states(plugin)
    recorder = Recorder(recorded / "kept", plugin.name)
    live = []
    for _ in range(2):  # a second life takes the same records again: they are kept once
        states = initial_states(plugin)
        live = []
        for number in range(3):
            record = fake_event(image(number), seq=number).record
            messages = take(plugin, states, record)
            recorder.keep(record, messages)
            live += messages
    recorder.close()
    kept = published(recorded / "kept" / "journal", "bright", plugin.name)
    again = [message for _, message in Replay(plugin, recorded / "kept" / "journal").run()]
    assert [m.header.id for m in kept] == [m.header.id for m in live] == [m.header.id for m in again]


def test_nothing_recorded_is_said_with_what_there_is(recorded):
    path = write_plugin(recorded)
    Journals(recorded / "other" / "journal").append_frames([b"\xc1"], "images")
    with pytest.raises(PluginError, match=r"nothing is recorded of lightcurves .* it has images"):
        list(Replay(load_plugin(path), recorded / "other" / "journal").run())


@pytest.mark.parametrize(
    ("span", "words"),
    [
        ("yesterday", r"SINCE\.\.UNTIL"),
        ("2026-01-31..2026-01-30", "not later"),
        ("noon..latest", "UTC times"),
    ],
)
def test_a_wrong_stretch_is_refused_with_what_would_be_right(span, words):
    with pytest.raises(PluginError, match=words):
        parse_span(span)


def test_a_stretch_may_have_open_ends():
    assert parse_span("..") == parse_span("first..latest")
    assert parse_span("2026-01-01..2026-01-02") == (1_767_225_600_000_000, 1_767_312_000_000_000)


def test_a_kept_state_gets_new_fields_and_says_what_differs(tmp_path):
    text = """
        import msgspec, numpy as np
        from trapline.plugin import subscribes

        class Kept(msgspec.Struct):
            seen: dict[int, tuple[float, ...]] = {}
            sums: np.ndarray = msgspec.field(default_factory=lambda: np.zeros((2, 3)))
            %s

        @subscribes("lightcurves", state=Kept)
        def find(event, kept):
            pass
    """
    old = load_plugin(write_plugin(tmp_path, text % "pass", "old_one"))
    states = initial_states(old)
    states["find"].seen[7] = (1.5, 2.5)
    states["find"].sums[1, 2] = 4.0
    packed = pack_states(states)
    found = unpack_states(old, packed)["find"]
    assert found.seen == {7: (1.5, 2.5)} and found.sums[1, 2] == 4.0 and found.sums.shape == (2, 3)
    grown = load_plugin(write_plugin(tmp_path, text % "more: int = 3", "new_one"))
    assert unpack_states(grown, packed)["find"].more == 3
    other = load_plugin(write_plugin(tmp_path, (text % "pass").replace("dict[int,", "dict[str,"), "other_one"))
    with pytest.raises(ValueError, match=r"kept state of find is not a Kept: .*\$\.seen"):
        unpack_states(other, packed)


def test_new_writes_a_working_example_with_a_test(tmp_path):
    done = trapline("plugin", "new", "brightenings", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wrote brightenings.py\nwrote test_brightenings.py\n")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", ".", "."],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout
    again = trapline("plugin", "new", "brightenings", cwd=tmp_path)
    assert again.returncode == 2 and "is there already" in again.stderr


def test_the_command_says_in_one_line_what_is_wrong(tmp_path):
    (tmp_path / "broken.py").write_text("import os\nx = 1 +\n")
    for arguments, words in [
        (["broken.py"], "broken.py:2: SyntaxError"),
        (["missing.py"], "there is no file missing.py"),
        (["new"], "needs a name"),
        (["new", "Not-A-Name"], "lower-case letters"),
    ]:
        done = trapline("plugin", *arguments, cwd=tmp_path)
        assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
        assert words in done.stderr
    assert TRAPLINE
