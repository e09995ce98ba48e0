"""Clients that have nothing of ours: pyzmq and msgpack in Python, and Node."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mesh_runs import environment
from plugin_runs import EXAMPLES, Journals
from trapline.common.testing.plugin import fake_transient
from trapline.common.testing.relay import running_relay
from waiting import wait_for

pytestmark = pytest.mark.timeout(300)

SCRIPT = EXAMPLES / "javascript" / "transients.mjs"


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    """The script beside its packages, in a directory of its own."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("this machine has no node and npm: the JavaScript client cannot be tried")
    directory = tmp_path_factory.mktemp("node")
    for path in (SCRIPT, SCRIPT.with_name("package.json")):
        shutil.copy(path, directory)
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel", "error"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=90)
    if done.returncode:
        pytest.skip(f"npm cannot install zeromq here: {done.stderr.strip().splitlines()[-1:]}")
    probe = ["node", "-e", "import('zeromq').then(() => process.exit(0), () => process.exit(1))"]
    if subprocess.run(probe, cwd=directory, check=False, timeout=60).returncode:
        pytest.skip("npm's zeromq has no binary for this machine")
    return directory / SCRIPT.name


class Program:
    """A client that prints a line for each record, to a file."""

    def __init__(self, *command, directory: Path):
        self.output = directory / "out"
        self._file, self._errors = self.output.open("w"), (directory / "err").open("w")
        self._process = subprocess.Popen(
            command, stdout=self._file, stderr=self._errors, env=environment(), cwd=directory
        )

    def lines(self, count):
        def enough():
            assert self._process.poll() is None, (self.output.with_name("err")).read_text()
            found = self.output.read_text().splitlines()
            return len(found) >= count and found

        return wait_for(enough, what=f"{count} lines")

    def errors(self):
        return self.output.with_name("err").read_text()

    def end(self):
        self._process.terminate()
        self._process.wait()
        self._file.close()
        self._errors.close()


@pytest.fixture
def program(tmp_path):
    started = []

    def start(*command):
        started.append(Program(*command, directory=tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.end()


def test_node_reads_transients_with_their_arrays(node, program, relay, journals):
    journals.append(*(fake_transient(n, kind="flare", significance=7.5 + n) for n in range(3)))
    client = program("node", str(node), relay.address, "transients", "first")
    first = [json.loads(line) for line in client.lines(3)]
    assert [e["place"]["seq"] for e in first] == [0, 1, 2]
    assert [(e["kind"], e["significance"], e["ra_deg"]) for e in first] == [
        ("flare", 7.5 + n, 359.95) for n in range(3)
    ]
    sent = fake_transient(0)
    assert first[0]["id"] == sent.header.id.hex()
    assert first[0]["recent_flux"] == sent.arrays["recent.flux_int"].tolist()
    assert first[0]["frames"] == list(sent.arrays)
    journals.append(fake_transient(3), partition="1")
    assert json.loads(client.lines(4)[3])["place"] == {"channel": "transients", "partition": "1", "epoch": 0, "seq": 0}


def test_node_goes_on_when_what_it_reads_is_no_message_or_the_relay_dies(node, program, config):
    journals = Journals(config.journal_directory)
    address = f"ipc://{config.ipc_path}"
    with running_relay(config):
        journals.append_frames([b"\xc1"], "transients")
        journals.append(fake_transient(1))
        client = program("node", str(node), address, "transients", "first")
        client.lines(1)
        assert "transients/0 0 is no message" in client.errors()
    journals.append(fake_transient(2))
    with running_relay(config):
        seqs = [json.loads(line)["place"]["seq"] for line in client.lines(2)]
    journals.close()
    assert seqs == [1, 2]


def test_pyzmq_and_msgpack_are_enough(program, relay, journals):
    journals.append(fake_transient(1, kind="flare"))
    client = program(sys.executable, str(EXAMPLES / "plain_zmq.py"), relay.address, "transients", "first")
    assert client.lines(1) == ["0 0 trapline.transients/1.0 flare 7 arrays"]
    journals.append(fake_transient(2, kind="fade"), partition="1")
    assert client.lines(2)[1] == "1 0 trapline.transients/1.0 fade 7 arrays"


def test_printing_transients_takes_a_dozen_lines(program, relay, journals):
    script = EXAMPLES / "print_transients.py"
    assert len(script.read_text().splitlines()) <= 12
    client = program(sys.executable, str(script), relay.address)
    wait_for(lambda: relay.core.n_waiting, what="the subscription")
    journals.append(fake_transient(1, kind="flare", significance=9.5))
    assert client.lines(1) == ["1767225600.0 359.95 52.9 flare 9.5"]
