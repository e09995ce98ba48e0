"""The example configuration: every key is one that there is, and what it shows as the default is the default."""

import pytest

from mesh_runs import ROOT
from trapline.common.config.mesh import load_config

EXAMPLE = ROOT / "deploy" / "mesh.toml"
# What the example shows because there is no telling default: a telescope, and a channel of its own.
CHOSEN = {("image_ingest", "streams"), ("journal", "channels")}


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_example_shows_the_defaults(nowhere):
    example, defaults = load_config(EXAMPLE).model_dump(), load_config().model_dump()
    differing = {
        (table, key)
        for table, values in example.items()
        for key, value in values.items()
        if value != defaults[table][key]
    }
    assert differing == CHOSEN


def test_the_example_keeps_a_channel_for_its_own_time(nowhere):
    assert load_config(EXAMPLE).journal.of("lightcurves").retention.age_s == 30 * 86400
