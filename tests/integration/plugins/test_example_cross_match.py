"""The example that looks into a catalogue file: nearest counterpart, none, across RA 0, and a file that changes."""

import pytest

from plugin_runs import EXAMPLES, published, running_plugin
from trapline.common.channel.filters import field_of
from trapline.common.plugin.declare import PluginError
from trapline.common.plugin.load import load_plugin
from trapline.common.testing.plugin import fake_transient, step
from waiting import wait_for

pytestmark = pytest.mark.timeout(300)

CROSS_MATCH = EXAMPLES / "cross_match.py"
LINES = ["name,ra_deg,dec_deg,kind", "Cas A,350.85,58.815,SNR", "edge,0.001,52.9,AGN", "edge 2,0.01,52.9,star"]


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    path = tmp_path / "catalogue.csv"
    path.write_text("\n".join(LINES) + "\n")
    monkeypatch.setenv("CATALOGUE", str(path))
    return path


def matched(*events):
    return step(load_plugin(CROSS_MATCH).functions[0].call, *events)


def test_the_nearest_entry_within_the_errors_is_the_counterpart(catalogue):
    known = fake_transient(1, ra_deg=350.87, dec_deg=58.82)
    unknown = fake_transient(2, ra_deg=100.0)
    edge = fake_transient(3, ra_deg=359.999)
    first, second, third = matched(known, unknown, edge)
    assert (first.name, first.kind, first.others) == ("Cas A", "SNR", 0)
    assert first.separation_deg == pytest.approx(0.0115, abs=2e-4)
    assert (second.name, second.separation_deg) == (None, None)
    assert (third.name, third.others) == ("edge", 1)
    assert third.separation_deg == pytest.approx(0.002 * 0.6032, rel=1e-3)


def test_only_first_announcements_of_new_sources_are_looked_up(catalogue):
    assert matched(fake_transient(1, kind="flare"), fake_transient(2, alert_type="update")) == []


@pytest.mark.parametrize(
    ("lines", "words"),
    [(["name,ra"], "lacks dec_deg, ra_deg"), ([LINES[0], "x,1,2,y", "x,one,2,y"], r"csv:3: ra_deg and dec_deg must")],
    ids=["columns", "number"],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_line(catalogue, lines, words):
    catalogue.write_text("\n".join(lines) + "\n")
    with pytest.raises(PluginError, match=words):
        load_plugin(CROSS_MATCH)


def test_it_runs_beside_a_mesh_and_reads_the_file_again(config, relay, journals, catalogue):
    def matches():
        return published(config.journal_directory, "matches", "cross_match-0")

    event = fake_transient(1, ra_deg=100.0)
    journals.append(event)
    with running_plugin(CROSS_MATCH, "--from", "first", data=config.data_directory, CATALOGUE=str(catalogue)):
        wait_for(matches, what="the first match")
        catalogue.write_text("\n".join([*LINES, "new one,100.0,52.9,star"]) + "\n")
        journals.append(fake_transient(2, ra_deg=100.0))
        wait_for(lambda: len(matches()) == 2, what="the second match")
    assert [field_of(m.header, "name") for m in matches()] == [None, "new one"]
