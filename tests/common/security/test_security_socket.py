"""The socket of this host when the data directory's path is too long for one: where nobody else can be first."""

import os
from pathlib import Path

import pytest

from trapline.common.channel import RelayConnection
from trapline.common.config import ConfigError
from trapline.common.config import mesh as config_mesh
from trapline.common.relay.requests import Info
from trapline.common.testing.relay import mesh_config, running_relay


@pytest.fixture
def config(tmp_path):
    return mesh_config(tmp_path / ("long" * 25))


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """A directory in which others may have been first, in place of /tmp."""
    monkeypatch.setattr(config_mesh, "_SHORT_PATH", tmp_path)
    return tmp_path / f"trapline-{os.getuid()}"


def test_it_is_in_a_directory_of_this_account_alone(config):
    directory = Path(config.ipc_path).parent
    assert directory == Path(f"/tmp/trapline-{os.getuid()}") and directory.stat().st_mode & 0o077 == 0


async def test_programs_of_this_host_find_it(config):
    with running_relay(config):
        async with RelayConnection(f"ipc://{config.ipc_path}") as connection:
            await connection.request(Info())


def test_a_directory_that_others_can_enter_is_refused(config, shared):
    shared.mkdir(mode=0o755)
    with pytest.raises(ConfigError, match=r"not a directory of this account alone .*shorter path"):
        _ = config.ipc_path


def test_a_link_is_refused(config, shared, tmp_path):
    (tmp_path / "else").mkdir(mode=0o700)
    shared.symlink_to(tmp_path / "else")
    with pytest.raises(ConfigError, match="not a directory of this account alone"):
        _ = config.ipc_path


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a directory of another account")
def test_a_directory_of_another_account_is_refused(config, shared):
    shared.mkdir(mode=0o700)
    os.chown(shared, 12345, 12345)
    with pytest.raises(ConfigError, match="not a directory of this account alone"):
        _ = config.ipc_path
