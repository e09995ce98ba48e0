"""The examples for operators: configurations that are valid and say the truth, units that systemd takes."""

import shutil
import subprocess
import sys
from pathlib import Path

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


HOSTS = sorted((ROOT / "deploy" / "hosts").glob("*.toml"))


def test_the_hosts_of_the_example_name_each_other_and_have_what_a_link_needs(nowhere):
    configs = {path.stem: load_config(path) for path in HOSTS}
    assert {config.mesh.host for config in configs.values()} == set(configs) and len(configs) == 2
    address = {name: f"tcp://{config.relay.host}:{config.relay.port}" for name, config in configs.items()}
    for name, config in configs.items():
        others = {address[other]: other for other in configs if other != name}
        assert config.mesh.relays == list(others)
        assert config.security.relays == others
        assert config.relay_needs_keys and config.security.identity == name


def test_every_service_runs_on_some_host_and_a_fold_on_one(nowhere):
    running = {}
    for path in HOSTS:
        for service, section in load_config(path).services().items():
            if section.replicas:
                running.setdefault(service, []).append(path.stem)
    assert running == {
        "image_ingest": ["north"],
        "source_extractor": ["north", "south"],
        "associator": ["south"],
        "transient_finder": ["south"],
        "database_dumper": ["south"],
        **({"dashboard": running["dashboard"]} if "dashboard" in running else {}),
    }


@pytest.fixture
def units(tmp_path):
    """Return the units, with the program where it is here."""
    program = str(Path(sys.executable).parent / "trapline")
    for path in (ROOT / "deploy" / "systemd").glob("trapline*"):
        text = path.read_text().replace("/opt/trapline/.venv/bin/trapline", program)
        (tmp_path / path.name).write_text(text)
    return tmp_path


needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on this machine")
NAMES = ["trapline-relay.service", "trapline@source_extractor-0.service", "trapline.target"]


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_systemd_takes_the_units(units, name):
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(units / name)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "trapline" in line]
    assert (done.returncode, ours) == (0, [])


@needs_systemd
@pytest.mark.parametrize("name", ["trapline-relay.service", "trapline@.service"])
def test_the_units_are_shut_in(units, name):
    # In tenths: 10.0 is a service without any protection.
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(units / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_the_units_run_commands_that_there_are_and_notify(units):
    for name, command in (("trapline-relay.service", "relay"), ("trapline@.service", "run %i")):
        text = (units / name).read_text()
        assert f"trapline {command} --config /etc/trapline/mesh.toml" in text
        for line in ("Type=notify", "WatchdogSec=30", "Restart=always", "RestartPreventExitStatus=2"):
            assert line in text.splitlines(), (name, line)
