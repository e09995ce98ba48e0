"""What systemd hears of a real process: ready, how it is, signs of life while it lives, and that it stops."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mesh_runs import environment
from trapline.common.runtime.systemd import Systemd, tell_for_ever
from waiting import stop_process, wait_for


class Manager:
    """A service manager's socket, and what was said on it."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(0.05)
        self.said = []

    def hear(self):
        """Return everything that was said until now, a line an entry."""
        while True:
            try:
                self.said += self.socket.recv(4096).decode().splitlines()
            except TimeoutError:
                return self.said


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path):
    name = f"trapline-test-{os.getpid()}-{tmp_path.name}"
    found = Manager(str(tmp_path / "notify") if request.param == "file" else f"\0{name}")
    found.variable = str(tmp_path / "notify") if request.param == "file" else f"@{name}"
    yield found
    found.socket.close()


@pytest.fixture
def start(manager, tmp_path):
    children = []

    def start(module, *arguments, **variables):
        told = {
            "NOTIFY_SOCKET": manager.variable,
            "WATCHDOG_USEC": "300000",
            "TRAPLINE__MESH__DATA_DIRECTORY": str(tmp_path / "mesh"),
            "TRAPLINE__RELAY__PORT": "0",
        }
        with (tmp_path / "log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=environment(told, variables), cwd=tmp_path, stdout=log, stderr=log,
            )  # fmt: skip
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()


def test_a_relay_is_ready_shows_life_and_says_that_it_stops(manager, start):
    relay = start("trapline.common.relay")
    wait_for(lambda: manager.hear().count("WATCHDOG=1") >= 3, what="life")
    said = manager.hear()
    assert "READY=1" in said and said.count("READY=1") == 1 and "STATUS=running" in said
    assert "STOPPING=1" not in said
    # A process that is stopped shows none: systemd would kill it.
    stop_process(relay.pid)
    before = len(manager.hear())
    manager.socket.settimeout(1.0)
    with pytest.raises(TimeoutError):
        manager.socket.recv(4096)
    manager.socket.settimeout(0.05)
    relay.send_signal(signal.SIGCONT)
    wait_for(lambda: len(manager.hear()) > before, what="life after that")
    relay.terminate()
    wait_for(lambda: "STOPPING=1" in manager.hear(), what="stopping")
    assert relay.wait(20) == 0


def test_a_service_without_its_relay_is_ready_and_says_what_it_waits_for(manager, start):
    start("trapline.source_extractor")
    wait_for(lambda: any(s.startswith("STATUS=waiting: no answer from the relay") for s in manager.hear()), what="why")
    assert "READY=1" in manager.hear()


async def test_work_that_stands_still_shows_no_life(manager):
    context = SimpleNamespace(state="running", last_error=None, draining=asyncio.Event(), is_alive=lambda: False)
    systemd = Systemd({"NOTIFY_SOCKET": manager.variable, "WATCHDOG_USEC": "30000"})
    task = asyncio.create_task(tell_for_ever(context, systemd))
    async with asyncio.timeout(20):
        while "STATUS=running" not in manager.hear():
            await asyncio.sleep(0)
        assert "WATCHDOG=1" not in manager.hear()
        context.is_alive = lambda: True
        while "WATCHDOG=1" not in manager.hear():
            await asyncio.sleep(0.01)
    task.cancel()


def test_the_watchdog_of_another_process_is_not_ours():
    assert Systemd({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Systemd({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 1.0
    assert not Systemd({})
