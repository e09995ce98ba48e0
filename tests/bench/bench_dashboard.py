"""`dashboard`: what the mesh loses to ten viewers, and how long a change is on its way to the screen.

The same mesh is measured with the viewers and without, in pairs. The viewers ask for what a browser asks for; they run
on this machine, and step back as if they did not. What is painted is measured in a real Chromium, where there is
one: the map with 2,000 objects, all of which change ten times a second.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

import lightcurve_messages
from bench.bench_pipeline import PipelineMesh, pipeline_mesh
from bench.harness import Comparison, Note, Size, Target, in_pairs, percentile
from bench.meshes import eventually
from bench.report import cores
from bench.skies import N_BANDS, Sky
from bench.viewers import Viewers, viewers
from dashboard_night import Night, running_night
from trapline.common.ids import text_id
from trapline.common.testing.postgres import fresh_database, temporary_cluster
from trapline.schemas.message import Message

_TARGET = Target(">=", 0.97)
_LOADS: dict[Size, tuple[int, int, int, int]] = {"small": (512, 50, 40, 2), "full": (1024, 100, 300, 10)}
"""side in pixels, sources, images of a measurement, pairs"""
_OBJECTS = 2000
_UPDATES_HZ = 10.0
_WATCHED_S: dict[Size, float] = {"small": 5.0, "full": 30.0}


def dashboard(size: Size) -> list[Comparison]:
    """Compare images/s with ten viewers and without."""
    side_px, n_sources, images, pairs = _LOADS[size]
    sky = Sky.of(side_px, n_sources, 8)
    pulled: list[int] = []
    with pipeline_mesh(sky) as mesh, viewers(_address(mesh)) as people:
        mesh.images_per_s(2 * cores() + N_BANDS)
        values = in_pairs(
            lambda: _watched(mesh, people, images, pulled), lambda: mesh.images_per_s(images), pairs, warm_up=1
        )
    notes: dict[str, Note] = {"pages pulled in a measurement": float(sum(pulled)) / len(pulled)}
    notes |= painted(_WATCHED_S[size])
    return [Comparison(f"{side_px} px, {n_sources} sources", "images/s", *values, _TARGET, notes)]


def _address(mesh: PipelineMesh) -> str:
    path = mesh.running.directory / "dashboard.address"
    return str(eventually(lambda: path.exists() and path.read_text().strip(), "the dashboard", mesh.running))


def _watched(mesh: PipelineMesh, people: Viewers, images: int, pulled: list[int]) -> float:
    people.watch()
    rate = mesh.images_per_s(images)
    pulled.append(people.leave())
    return rate


def painted(seconds: float) -> dict[str, Note]:
    """Return how long changes take from being published to being painted, ms; or why that was not measured."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {"publish to painted": "playwright is not installed"}
    if chromium is None:
        return {"publish to painted": "no chromium on this machine"}
    with _night() as night, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{night.address}sky")
        page.wait_for_selector(f"#sky[data-ready='{_OBJECTS}']", state="attached")
        with _publishing(night):
            page.wait_for_function("() => window.painted.length > 10")
            page.evaluate("() => { window.painted.length = 0; }")
            page.wait_for_timeout(1e3 * seconds)
            found: list[float] = page.evaluate("() => window.painted")
        page.goto(f"{night.address}objects/{text_id(lightcurve_messages.object_ids(1)[0])}")
        page.wait_for_selector("#curve[data-ready]")
        frames: list[float] = page.evaluate(_ZOOM)
        browser.close()
    return {
        "publish to painted p50, ms": percentile(found, 50),
        "publish to painted p95, ms": percentile(found, 95),
        "paints a second": len(found) / seconds,
        "zoom with 10,000 points p50, ms a frame": percentile(frames, 50),
        "zoom with 10,000 points p95, ms a frame": percentile(frames, 95),
    }


_ZOOM = """
async () => {
  const place = document.createElement("div");
  place.style.width = "1200px";
  document.getElementById("main").prepend(place);
  const t = Array.from({ length: 10000 }, (_, i) => 1.7e9 + i);
  const bands = [{ name: "60 MHz", unit: "Jy", t, flux: t.map((_, i) => 5 + Math.sin(i / 300)),
                   err: t.map(() => 0.2), kind: t.map((_, i) => +(i % 7 === 0)) }];
  const chart = window.curve(place, bands, { limit: 3 }), took = [];
  for (let i = 0; i < 90; i++) {
    await new Promise((frame) => requestAnimationFrame(frame));
    const start = performance.now();
    chart.zoom(i % 2 ? 1 / 0.999 : 0.999);
    await new Promise((frame) => requestAnimationFrame(frame));
    took.push(performance.now() - start);
  }
  return took.slice(10);
}
"""
"""zooms a little in and out, all points in sight, and returns ms from a step to the frame after it"""


@contextmanager
def _night() -> Iterator[Night]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="trapline-bench-")))
        cluster = stack.enter_context(temporary_cluster())
        night: Night = stack.enter_context(running_night(directory, stack.enter_context(fresh_database(cluster))))
        objects = lightcurve_messages.object_ids(_OBJECTS)
        night.store(lightcurve_messages.lightcurves_message(0, objects))
        yield night


@contextmanager
def _publishing(night: Night) -> Iterator[None]:
    """Append a change of all objects ten times a second while the block lasts."""
    stop = threading.Event()

    def publish() -> None:
        objects = lightcurve_messages.object_ids(_OBJECTS)
        messages = [lightcurve_messages.lightcurves_message(i, objects) for i in range(1, 9)]
        number = 0
        while not stop.wait(1 / _UPDATES_HZ):
            night.append(_stamped(messages[number % len(messages)]))
            number += 1

    thread = threading.Thread(target=publish, name="publisher")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _stamped(message: Message[Any]) -> Message[Any]:
    return Message(msgspec.structs.replace(message.header, t_pub_us=time.time_ns() // 1000), message.arrays)
