"""A real Chromium, and a night for it to look at."""

import shutil
from pathlib import Path

import pytest

from dashboard_night import fill, running_night

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `make setup`")

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # Root has no sandbox of its own kind; what is looked at is ours.
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield chromium
        chromium.close()


@pytest.fixture
def night(tmp_path, dsn):
    with running_night(tmp_path, dsn, allow_triage=True, allow_replay=True, page_rows=20) as night:
        night.objects = fill(night)
        yield night


class Watched:
    """A page whose errors and requests are kept."""

    def __init__(self, context, address):
        self.page = context.new_page()
        self.address = address
        self.errors, self.strangers = [], []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "request", lambda r: None if r.url.startswith((address, "data:")) else self.strangers.append(r.url)
        )

    def open(self, path):
        answer = self.page.goto(self.address.rstrip("/") + path, wait_until="load")
        assert answer.status == 200, f"{path}: {answer.status}"
        return self.page

    def check(self):
        assert self.errors == []
        assert self.strangers == []

    def serious(self):
        """Return what axe finds that keeps somebody out."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:160]}"
            for v in found["violations"]
            if v["impact"] in ("serious", "critical")
        ]


@pytest.fixture
def watched(browser, night):
    context = browser.new_context(viewport={"width": 1360, "height": 900}, accept_downloads=True)
    context.set_default_timeout(20_000)
    watched = Watched(context, night.address)
    yield watched
    context.close()
    watched.check()
