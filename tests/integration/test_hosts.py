"""A mesh of two hosts in network namespaces, with keys: ingest in the north, the rest in the south, and a bad link."""

import json
import os
import sys

import pytest

from mesh_runs import ROOT, SMALL_SKY, TRAPLINE, environment, trapline
from namespaces import NORTH, Hosts
from trapline.common.config.mesh import load_config
from trapline.common.journal import PartitionReader
from trapline.common.security.keys import new_key_pair
from trapline.common.security.trust import Rights, trust
from trapline.schemas.message import decode_header
from waiting import wait_for

pytestmark = pytest.mark.timeout(700)

SLOW_PORT = 7411
FRAMES = 8

NORTH_TOML = """
[mesh]
host = "north"
data_directory = "{directory}/north"
[relay]
host = "{north}"
[security]
identity = "north"
[image_ingest]
watch = ["{directory}/night"]
watch_settle_s = 0.1
"""
SOUTH_TOML = """
[mesh]
host = "south"
data_directory = "{directory}/south"
relays = ["{address}"]
[relay]
lease_s = 1.0
[security]
identity = "south"
relays = {{ "{address}" = "north" }}
[associator]
idle_after_s = 2.0
"""


@pytest.fixture
def hosts():
    with Hosts() as found:
        yield found


class Mesh:
    """The files of both hosts under one directory, and what their journals hold."""

    def __init__(self, directory, address):
        self.directory = directory
        values = {"directory": directory, "north": NORTH, "address": address}
        self.files = {}
        for host, text in (("north", NORTH_TOML), ("south", SOUTH_TOML)):
            self.files[host] = directory / f"{host}.toml"
            self.files[host].write_text(text.format(**values))
        self.config = {host: load_config(path) for host, path in self.files.items()}
        north, _ = new_key_pair(self.config["north"].keys_directory, "north")
        south, _ = new_key_pair(self.config["south"].keys_directory, "south")
        trusted = self.config["north"].keys_directory / "trusted"
        trust(trusted, Rights("south", south.public, read=frozenset("*"), groups=frozenset("*")))
        (self.config["south"].keys_directory / "north.pub").write_text(
            (self.config["north"].keys_directory / "north.pub").read_text()
        )
        assert north.name == "north"
        (directory / "night").mkdir()

    def start(self, hosts, host, *command):
        with (self.directory / f"{host}-{command[-1]}.log").open("wb") as log:
            hosts.start(
                host, *TRAPLINE, *command, "--config", str(self.files[host]), env=environment(SMALL_SKY),
                cwd=self.directory, stdout=log, stderr=log,
            )  # fmt: skip

    def headers(self, host, channel):
        """Return the headers of a channel of a host, in the order of its one partition."""
        path = self.config[host].journal_directory / channel / f"{host}.0"
        return [decode_header(frame) for _, frame in PartitionReader(path).first_frames(0)] if path.exists() else []

    def logs(self):
        return "\n".join(f"{p.name}: {p.read_text()[-1500:]}" for p in sorted(self.directory.glob("*.log")))


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Return FITS files of a simulated night, in order of time."""
    directory = tmp_path_factory.mktemp("night")
    done = trapline("simulate", "--frames", str(FRAMES), "--fits", str(directory), cwd=directory, env=SMALL_SKY)
    assert done.returncode == 0, done.stderr
    return sorted(directory.glob("*.fits"))


@pytest.mark.parametrize("link", ["direct", "slow"])
def test_a_service_reads_what_another_host_has_through_a_link_that_is_slow_and_cut_and_mended(
    hosts, night, tmp_path, link
):
    address = f"tcp://{NORTH}:7400" if link == "direct" else f"tcp://127.0.0.1:{SLOW_PORT}"
    mesh = Mesh(tmp_path, address)
    if link == "slow":
        hosts.start("south", sys.executable, str(ROOT / "tests/slow_link.py"), str(SLOW_PORT), NORTH, "7400", "0.1")
    for host, *command in (
        ("north", "relay"), ("north", "run", "image_ingest"),
        ("south", "relay"), ("south", "run", "source_extractor"), ("south", "run", "associator"),
    ):  # fmt: skip
        mesh.start(hosts, host, *command)

    def observe(files):
        for path in files:
            os.link(path, tmp_path / "night" / path.name)

    def told(count):
        return lambda: len(mesh.headers("south", "lightcurves")) >= count

    half = len(night) // 2
    try:
        observe(night[:half])
        wait_for(told(half), 240, "half a night in lightcurves")
        hosts.cut()
        observe(night[half:])
        wait_for(lambda: len(mesh.headers("north", "images")) >= len(night), 60, "ingest behind the cut")
        status = [*TRAPLINE, "status", "--json", "--config", str(mesh.files["south"])]
        cut = json.loads(hosts.run("south", *status, cwd=tmp_path, env=environment()).splitlines()[-1])
        assert [("no answer" in (r["trouble"] or "")) for r in cut["relays"]] == [False, True]
        assert len(mesh.headers("south", "lightcurves")) == half
        hosts.mend()
        wait_for(told(len(night)), 240, "the rest of the night")
    except TimeoutError as error:
        raise AssertionError(mesh.logs()) from error
    images = [header.image.id for header in mesh.headers("north", "images")]
    assert [header.image.id for header in mesh.headers("south", "lightcurves")] == images
    assert {header.image.id for header in mesh.headers("south", "sources")} == set(images)
    assert {header.image.place.partition for header in mesh.headers("south", "lightcurves")} == {"north.0"}
