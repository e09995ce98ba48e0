"""`trapline dead-letters`: what could not be taken is shown, and taken again once the cause is mended."""

import json

import pytest

from mesh_runs import trapline
from plugin_runs import Journals, published, running_plugin, write_plugin
from trapline.common.relay.groups import Share
from trapline.common.testing.plugin import fake_lightcurves
from trapline.common.testing.relay import mesh_config, running_relay
from waiting import wait_for

MOODY = """
    import msgspec
    from pathlib import Path
    from trapline.plugin import publishes, subscribes

    class Seen(msgspec.Struct):
        flux: float

    @subscribes("lightcurves", start="first", group=%s)
    @publishes("%s", Seen)
    def see(event):
        if event["flux_int"][0] > 1 and Path("broken").exists():
            raise RuntimeError("the disk of the catalogue is away")
        return Seen(float(event["flux_int"][0]))
"""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def config(tmp_path):
    return mesh_config(tmp_path / "trapline-data")


@pytest.fixture
def journals(config):
    written = Journals(config.journal_directory)
    yield written
    written.close()


def commands(tmp_path, *arguments):
    return trapline("dead-letters", *arguments, cwd=tmp_path)


def letters(config, name):
    return published(config.journal_directory, "dead_letters", f"{name}-0")


def test_a_group_gets_its_dead_letters_again_and_a_fold_says_why_it_does_not(config, journals, tmp_path):
    (tmp_path / "broken").touch()
    journals.append(*(fake_lightcurves([flux], t_us=int(flux) * 1_000_000) for flux in (1.0, 2.0, 3.0)))
    group = write_plugin(tmp_path, MOODY % (True, "seen"), "sharers")
    fold = write_plugin(tmp_path, MOODY % (False, "folded"), "folder")
    data = config.data_directory
    with running_relay(config), running_plugin(group, data=data), running_plugin(fold, data=data):
        wait_for(lambda: len(letters(config, "sharers")) == len(letters(config, "folder")) == 2, what="dead letters")
        shown = [json.loads(line) for line in commands(tmp_path, "list", "--json").stdout.splitlines()]
        assert {(row["place"], row["service"], row["why"]) for row in shown} == {
            (f"lightcurves/0@0:{n}", name, "RuntimeError: the disk of the catalogue is away")
            for n in (1, 2)
            for name in ("sharers", "folder")
        }
        # In vain, while the cause is there: it comes back.
        done = commands(tmp_path, "replay", "lightcurves/0@0:1", "--service", "sharers")
        assert (done.returncode, done.stdout) == (0, "lightcurves/0@0:1 is given to sharers again\n"), done.stderr
        wait_for(lambda: len(letters(config, "sharers")) == 3, what="the same dead letter")
        (tmp_path / "broken").unlink()
        assert commands(tmp_path, "replay", "--service", "sharers").returncode == 0
        seen = lambda: sorted(h.flux for h in published(config.journal_directory, "seen", "sharers-0"))  # noqa: E731
        wait_for(lambda: seen() == [1.0, 2.0, 3.0], what="what was mended")
        refused = commands(tmp_path, "replay", "--service", "folder")
        assert refused.returncode == 1 and "passes lightcurves/0@0:1 over for good" in refused.stderr
        unknown = commands(tmp_path, "replay", "lightcurves/0@0:9")
        assert unknown.returncode == 1 and "lightcurves/0@0:9 is no dead letter" in unknown.stderr


def test_one_that_retention_has_dropped_holds_up_no_worker():
    share = Share(floor=100, next_seq=100)
    share.give_back(5, failed=False, again=True)
    share.give_back(60, failed=False, again=True)
    assert list(share.candidates(50, 102)) == [60, 100, 101]
