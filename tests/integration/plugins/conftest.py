import pytest

from plugin_runs import Journals
from trapline.common.testing.relay import mesh_config, running_relay


@pytest.fixture
def config(tmp_path):
    return mesh_config(tmp_path / "mesh")


@pytest.fixture
def relay(config):
    with running_relay(config) as server:
        yield server


@pytest.fixture
def journals(config):
    written = Journals(config.journal_directory)
    yield written
    written.close()
