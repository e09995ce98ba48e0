import pytest

from trapline.common.testing.relay import mesh_config, running_relay


@pytest.fixture
def config(tmp_path):
    return mesh_config(tmp_path, runtime={"snapshot_s": 0.2}, relay={"lease_s": 0.5})


@pytest.fixture
def relay(config):
    with running_relay(config) as server:
        yield server
