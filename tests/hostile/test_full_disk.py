"""A disk that is full: a small file system in a namespace of its own, where each case of `full_disk_cases.py` runs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("full_disk_cases.py")
NAMES = [n.name for n in ast.parse(CASES.read_text()).body if getattr(n, "name", "").startswith("test_")]
_SETUP = 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"'


@pytest.fixture(scope="module")
def mounts():
    """Skip, with the reason, where nobody may mount."""
    command = ["unshare", "-rnm", "sh", "-c", _SETUP, "/mnt", "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no namespaces here: {error}")
    if done.returncode:
        pytest.skip(f"`unshare -rnm` with a mount does not work here: {done.stderr.strip()}")


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk(mounts, tmp_path, name):
    disk = tmp_path / "disk"
    disk.mkdir()
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", f"--basetemp={disk}/run"]
    command = ["unshare", "-rnm", "sh", "-c", _SETUP, str(disk), *pytest_, f"{CASES}::{name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CASES.parents[2])
    assert done.returncode == 0, done.stdout
