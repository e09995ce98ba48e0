"""Two hosts in one machine: network namespaces `north` and `south`, and a link between them that can be cut."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

NORTH, SOUTH = "10.77.0.1", "10.77.0.2"

_SETUP = f"""
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip netns add north
ip netns add south
ip -n north link add link0 type veth peer name link0 netns south
for host in north south; do ip -n $host link set lo up; ip -n $host link set link0 up; done
ip -n north addr add {NORTH}/24 dev link0
ip -n south addr add {SOUTH}/24 dev link0
echo ready
exec cat
"""


class Hosts:
    """The two hosts, as a context manager. Programs run in them with files of their own choice; they end with it."""

    def __enter__(self) -> Hosts:
        try:
            self._lab = subprocess.Popen(
                ["unshare", "-rnm", "sh", "-c", _SETUP],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except FileNotFoundError as error:
            pytest.skip(f"no network namespaces here: {error}")
        assert self._lab.stdout and self._lab.stderr and self._lab.stdin
        if self._lab.stdout.readline() != "ready\n":
            _, why = self._lab.communicate()
            pytest.skip(f"`unshare -rnm` with a veth link does not work here: {why.strip()}")
        self._running: list[subprocess.Popen[Any]] = []
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._running:
            child.kill()
            child.wait()
        self._lab.communicate()

    def command(self, host: str, *command: str) -> list[str]:
        """Return the command that runs another one on a host."""
        # Whoever is root already stays so; others are root in the user namespace that owns these.
        user = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        network = f"--net=/proc/{self._lab.pid}/root/run/netns/{host}"
        return ["nsenter", "-t", str(self._lab.pid), *user, network, *command]

    def start(self, host: str, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a program on a host."""
        child = subprocess.Popen(self.command(host, *command), **options)
        self._running.append(child)
        return child

    def run(self, host: str, *command: str, **options: Any) -> str:
        """Run a program on a host to its end, and return what it wrote."""
        whole = self.command(host, *command)
        return subprocess.run(whole, check=True, capture_output=True, text=True, timeout=60, **options).stdout

    def cut(self) -> None:
        """Cut the link."""
        self.run("south", "ip", "link", "set", "link0", "down")

    def mend(self) -> None:
        """Mend the link."""
        self.run("south", "ip", "link", "set", "link0", "up")
