"""Fifty subscribers beside a mesh of two bands at 1 Hz, ten of them stopped and ten crashing: nobody notices."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import asyncpg
import numpy as np
import pytest

from mesh_runs import ROOT, SMALL_SKY, environment, running
from trapline.common.journal import PartitionReader
from trapline.schemas.message import decode_header
from waiting import stop_process, until, wait_for

CHILD = ROOT / "tests" / "subscriber_child.py"
CADENCE_S = 1.0
IMAGES = 40
IN_A_PROCESS = 10
RESTART_S = 2.0  # as whoever supervises a script that crashes would wait
BUSY = 0.25  # of the cores: with more taken by others, nothing can be said of time

pytestmark = pytest.mark.timeout(300)


def subscribers(address, report, *dies_after):
    return subprocess.Popen(
        [sys.executable, str(CHILD), address, str(report), str(IN_A_PROCESS), *dies_after],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Crashing:
    """Ten subscribers that die after a few events, again and again."""

    def __init__(self, address, report):
        self.deaths = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(address, report))
        self._thread.start()

    def _run(self, address, report):
        while not self._stop.is_set():
            process = subscribers(address, report, "25")
            while process.poll() is None and not self._stop.wait(0.05):
                pass
            self.deaths += process.poll() == -signal.SIGKILL
            process.kill()
            process.communicate()
            self._stop.wait(RESTART_S)

    def close(self):
        self._stop.set()
        self._thread.join()


@contextlib.contextmanager
def fifty(address, directory):
    """Run thirty subscribers that read, ten that are stopped, and ten that crash; yield (readers, crashing)."""
    readers = [subscribers(address, directory / f"reader{i}") for i in range(3)]
    stopped = subscribers(address, directory / "stopped")
    crashing = Crashing(address, directory / "crashing")
    try:
        wait_for(lambda: _read(directory / "stopped").get("images/0"), what="those that will be stopped")
        stop_process(stopped.pid)
        yield readers, crashing
    finally:
        crashing.close()
        for process in (*readers, stopped):
            process.kill()
            process.communicate()


def _read(path):
    return json.loads(path.read_text()) if path.exists() else {}


class Waits:
    """How long after its append to `images` each image has points in the store, in seconds, by its id."""

    def __init__(self, journal: Path) -> None:
        self.seconds: dict[bytes, float] = {}
        self.journal = journal
        self.appended: dict[bytes, int] = {}

    @property
    def caught_up(self) -> bool:
        """Whether everything that was appended is stored."""
        return len(self.seconds) > 0 and len(self.seconds) == len(self.appended)

    def since(self, t_us: int) -> np.ndarray:
        """Return the waits of the images that were appended after a time."""
        return np.array([s for image, s in self.seconds.items() if self.appended[image] >= t_us])

    @contextlib.asynccontextmanager
    async def noted(self, dsn: str):
        """Look at the store twenty times a second while the block lasts."""
        task = asyncio.create_task(self._note(dsn))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _note(self, dsn):
        con = await asyncpg.connect(dsn)
        try:
            while True:
                rows = await con.fetch("SELECT DISTINCT image FROM point")
                self._take({row["image"].bytes for row in rows}, time.time_ns() // 1000)
                await asyncio.sleep(0.05)
        finally:
            await con.close()

    def _take(self, stored, now_us):
        directory = self.journal / "images" / "0"
        for entry, frame in PartitionReader(directory).first_frames(len(self.appended)) if directory.exists() else ():
            self.appended[decode_header(frame).image.id] = entry.t_us
        for image in stored & self.appended.keys():
            self.seconds.setdefault(image, (now_us - self.appended[image]) / 1e6)


def busy() -> float:
    """Return the share of all cores that is taken, over a second."""

    def times() -> np.ndarray:
        return np.array(Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9], float)

    before = times()
    time.sleep(1)
    spent = times() - before
    return 1 - (spent[3] + spent[4]) / spent.sum()


async def watched(tmp_path, dsn):
    """Run the mesh with fifty subscribers; return how long images took to be stored once all of that was up."""
    env = {
        **SMALL_SKY,
        "TRAPLINE__DATABASE__DSN": dsn,
        "TRAPLINE__RELAY__PORT": "0",
        "TRAPLINE__SIMULATOR__CADENCE_S": str(CADENCE_S),
    }
    waits = Waits(tmp_path / "trapline-data" / "journal")
    with running("up", "--simulate", cwd=tmp_path, env=env) as mesh:
        address_file = tmp_path / "trapline-data" / "relay.address"
        address = await asyncio.to_thread(wait_for, lambda: address_file.exists() and address_file.read_text().strip())
        with fifty(address, tmp_path) as (readers, crashing):
            async with waits.noted(dsn):
                # Images that came while processes were starting have waited for those.
                await until(lambda: waits.caught_up and crashing.deaths, 150)
                began_us, deaths = time.time_ns() // 1000, crashing.deaths
                await until(lambda: len(waits.since(began_us)) >= IMAGES and crashing.deaths >= deaths + 2, 150)
            # Whoever reads has all that there was when the last image was stored, without a hole.
            end = PartitionReader(waits.journal / "images" / "0").next_seq
            for i, process in enumerate(readers):
                await until(lambda i=i: _read(tmp_path / f"reader{i}").get("images/0", 0) >= end, 60)
                assert process.poll() is None, process.communicate()[0]
        mesh.send_signal(signal.SIGINT)
        output = (await asyncio.to_thread(mesh.communicate, timeout=60))[0]
    assert mesh.returncode == 0, output
    sent = PartitionReader(waits.journal / "images" / "0").next_seq
    stored, measured, rejected = map(int, re.search(r"(\d+) images \((\d+) measured, (\d+) rej", output).groups())
    assert (stored, measured, rejected) == (sent, sent, 0), output
    return waits.since(began_us)


async def test_nothing_is_lost_to_anyone(tmp_path, dsn):
    seconds = await watched(tmp_path, dsn)
    print(f"{len(seconds)} images stored after {np.median(seconds):.2f} s (median), {seconds.max():.2f} s (largest)")


@pytest.mark.soak
async def test_no_image_is_stored_later_than_its_cadence(tmp_path, dsn):
    others = busy()
    seconds = await watched(tmp_path, dsn)
    print(f"{len(seconds)} images stored after {np.median(seconds):.2f} s (median), {seconds.max():.2f} s (largest)")
    others = max(others, busy())
    late = seconds[seconds > CADENCE_S]
    if len(late) and others > BUSY:
        pytest.skip(f"others take {100 * others:.0f} % of this machine; {len(late)} of {len(seconds)} images were late")
    assert not len(late), f"{len(late)} of {len(seconds)} images took up to {late.max():.2f} s"
