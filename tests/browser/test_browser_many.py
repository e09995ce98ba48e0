"""A hundred thousand objects and points in a real Chromium: using a page costs little more than with few."""

import contextlib

import pytest

from dashboard_many import STAR, N, fill_many
from dashboard_night import fill, running_night
from trapline.common.ids import text_id
from trapline.common.testing.postgres import fresh_database

pytestmark = pytest.mark.timeout(400)

FRAME = "() => new Promise(painted => requestAnimationFrame(() => requestAnimationFrame(painted)))"
PAGES = {
    "/objects": "tr[data-href]",
    "/objects/STAR": "#curve[data-ready]",
    "/objects/population": "#population[data-ready]",
    "/sky": "#sky[data-ready]",
}
MOST_NODES = 2500
MOST_BYTES = {"/objects": 250_000, "/objects/STAR": 1_000_000}
TWICE = 2
FLOOR_S = 0.001


class Costs:
    """What the renderer of a page has worked (s of processor time: who else uses the machine does not matter)."""

    def __init__(self, page):
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def now(self):
        """Return what was worked so far."""
        metrics = {m["name"]: m["value"] for m in self._session.send("Performance.getMetrics")["metrics"]}
        return metrics["TaskDuration"]

    def of(self, action):
        """Return what an action cost."""
        before = self.now()
        action()
        return self.now() - before


def used(browser, night, path, ready):
    """Open a page, use it as a person does, and return what that cost."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page = context.new_page()
    page.goto("about:blank")
    costs, sizes = Costs(page), []
    page.on("response", lambda answer: sizes.append(int(answer.headers.get("content-length", 0))))
    page.goto(night.address.rstrip("/") + path, wait_until="load")
    page.wait_for_selector(ready, state="attached", timeout=100_000)
    page.evaluate(FRAME)
    found = {"nodes": page.evaluate("document.querySelectorAll('*').length"), "bytes": sum(sizes)}
    if page.locator("canvas").count():
        box = page.locator("canvas").first.bounding_box()
        found["move"] = costs.of(lambda: moved(page, box, 30)) / 30
        found["zoom"] = costs.of(lambda: zoomed(page, 10)) / 10
        page.mouse.down()
        found["drag"] = costs.of(lambda: moved(page, box, 20, frames=True)) / 20
    context.close()
    return found


def moved(page, box, steps, *, frames=False):
    for i in range(steps):
        page.mouse.move(box["x"] + 200 + 12 * i, box["y"] + 60 + 6 * i)
        if frames:
            page.evaluate(FRAME)


def zoomed(page, steps):
    for i in range(steps):
        page.keyboard.press("-" if i % 2 else "+")
        page.evaluate(FRAME)


@contextlib.contextmanager
def night_of(directory, postgres, filled):
    directory.mkdir()
    with fresh_database(postgres) as dsn, contextlib.ExitStack() as stack:
        if filled:
            fill_many(dsn)
        night = stack.enter_context(running_night(directory, dsn, page_rows=100))
        night.star = STAR if filled else text_id(fill(night)[1])
        yield night


def test_a_page_of_very_many_costs_little_more_than_one_of_few(browser, tmp_path, postgres):
    found = {}
    for name in ("few", "many"):
        with night_of(tmp_path / name, postgres, name == "many") as night:
            found[name] = {
                path: used(browser, night, path.replace("STAR", night.star), ready) for path, ready in PAGES.items()
            }
    for path, many in found["many"].items():
        few = found["few"][path]
        assert many["nodes"] < MOST_NODES, path
        # Maps and diagrams have 32 bytes an object, everything else has a page of it.
        assert many["bytes"] < MOST_BYTES.get(path, 32 * N * TWICE), path
        for what in many.keys() - {"nodes", "bytes"}:
            # 2,500 times as many objects: a frame is not in proportion to them.
            assert many[what] + FLOOR_S < 10 * (few[what] + FLOOR_S), (path, what, few, many)
