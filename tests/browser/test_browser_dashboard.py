"""The dashboard in a real Chromium: live, by keyboard, with downloads, and for everyone."""

import csv
import io
import itertools
import uuid

import pytest

import lightcurve_messages as mesh
from dashboard_night import event_message, image_message
from trapline.common.ids import text_id
from trapline.schemas.image import Band
from waiting import wait_for

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.timeout(240)


def rows(page):
    return page.locator("#live tbody tr")


def test_every_page_shows_the_night_without_an_error_and_for_everyone(watched, night):
    first = text_id(night.objects[0])
    event = str(uuid.UUID(bytes=event_message(0, night.objects[0], kind="fade").header.event_id))
    image = text_id(mesh.image(2).id)
    pages = {
        "/": ("All is well", "svg.mesh .box.good"),
        "/transients": ("Transients", "tr[data-id] svg.spark"),
        f"/transients/{event}": ("Fade", "#recent canvas"),
        "/objects": ("Objects", "tr[data-href]"),
        f"/objects/{first}": ("Object", "#curve[data-ready] canvas"),
        "/objects/population": ("eta–V", "#population[data-ready='40']"),
        "/sky": ("Sky", "#sky[data-ready='40']"),
        "/images": ("Images", "#noise canvas"),
        f"/images/{image}": ("measured", "#image[data-ready]"),
        "/log": ("Log", "table.log"),
    }
    for scheme in ("light", "dark"):
        watched.page.emulate_media(color_scheme=scheme)
        for path, (heading, element) in pages.items():
            page = watched.open(path)
            page.wait_for_selector(element, state="attached")
            expect(page.locator("h1"), path).to_contain_text(heading)  # a mesh that has just begun says so first
            assert page.locator("html").get_attribute("data-shown") == scheme
            assert watched.serious() == [], f"{path} in {scheme}"


def test_the_health_page_follows_the_mesh(watched, night):
    page = watched.open("/")
    page.wait_for_selector("h1.verdict.good")
    assert page.locator(".find").first.inner_text().split()[:3] == ["flare", "10", "sigma"]
    night.append(event_message(6, night.objects[6], kind="new_source", significance=21.5, certain=True))
    page.locator(".find", has_text="new source 21.5 sigma").wait_for()
    night.report("database_dumper", state="waiting", last_error="the disk is full")
    page.wait_for_selector("h1.verdict.busy")
    page.get_by_text("waits: the disk is full").first.wait_for()
    assert page.locator("g.box[data-service=database_dumper]").get_attribute("class") == "box busy"
    night.report("database_dumper", state="stopped")
    page.wait_for_selector("g.box.off[data-service=database_dumper]")
    assert "stopped" in page.locator("tr", has_text="database dumper-0").inner_text()
    night.report("image_ingest", sources={"tcp://imager:5100": {"connected": 0.0, "images": 4.0}})
    page.get_by_text("is not connected").first.wait_for()


def test_transients_arrive_are_judged_by_keyboard_and_exported(watched, night):
    page = watched.open("/transients")
    assert rows(page).count() == 4
    late = event_message(6, night.objects[6], kind="new_source", significance=21.5, certain=True)
    night.append(image_message(6), late)
    page.locator("tr", has_text="new source").wait_for()
    assert rows(page).count() == 5
    page.keyboard.press("j")
    assert "new source" in page.locator("tr[aria-selected=true]").inner_text()
    page.keyboard.press("r")
    page.locator("tr.faded[data-verdict=reject]").wait_for()
    page.keyboard.press("k")
    page.keyboard.press("n")
    page.locator("#note textarea").fill("a <b>satellite</b>")
    page.locator("#note input[name=person]").fill("Vera")
    page.locator("#note button[value=keep]").click()
    page.locator(".note", has_text="a <b>satellite</b>").wait_for()
    status, text = night.get("/transients.csv")
    found = {row["transient"]: row for row in csv.DictReader(io.StringIO(text))}
    judged = found[str(uuid.UUID(bytes=late.header.event_id))]
    assert status == 200
    assert (judged["verdict"], judged["note"], judged["person"]) == ("reject", "a <b>satellite</b>", "Vera")


def test_a_retraction_is_seen(watched, night):
    page = watched.open("/transients")
    first = rows(page).first.get_attribute("data-id")
    opened = event_message(3, night.objects[3], kind="flare", significance=10.0)
    night.append(mesh.event(5, night.objects[3], opening=3, alert_type="retraction", significance=1.0))
    page.locator(f"tr[data-id='{first}']", has_text="retracted").wait_for()
    assert first == str(uuid.UUID(bytes=opened.header.event_id))


def test_filters_and_pages_are_addresses(watched, night):
    page = watched.open("/objects")
    assert rows(page).count() == 20
    seen = set(page.locator("tr[data-id]").evaluate_all("all => all.map(row => row.dataset.id)"))
    page.keyboard.press("]")
    page.wait_for_url("**before=**")
    older = set(page.locator("tr[data-id]").evaluate_all("all => all.map(row => row.dataset.id)"))
    assert len(seen | older) == 40
    page.keyboard.press("[")
    page.wait_for_url("**after=**")
    assert set(page.locator("tr[data-id]").evaluate_all("all => all.map(row => row.dataset.id)")) == seen
    page.keyboard.press("/")
    page.keyboard.type("5:20:00 +20:00:00")
    page.locator("input[name=radius]").fill("1 deg")
    page.keyboard.press("Enter")
    page.wait_for_url("**position=**")
    assert 0 < rows(page).count() < 10
    with page.expect_download() as download:
        page.get_by_role("link", name="VOTable").click()
    from astropy.io.votable import parse_single_table

    table = parse_single_table(str(download.value.path())).to_table()
    assert len(table) == rows(page).count()
    assert {"ra_deg", "eta", "object"} <= set(table.colnames)
    assert table["ra_deg"].unit == "deg"


def test_the_lightcurve_zooms_and_the_diagram_is_brushed(watched, night):
    page = watched.open(f"/objects/{text_id(night.objects[1])}")
    page.wait_for_selector("#curve[data-ready]")
    assert page.locator("#resolution").inner_text() == "8 points, each measurement"
    before = page.evaluate("document.querySelector('.u-wrap canvas').toDataURL()")
    page.keyboard.press("+")
    page.wait_for_function("before => document.querySelector('.u-wrap canvas').toDataURL() !== before", arg=before)
    page.keyboard.press("0")
    page.wait_for_function("before => document.querySelector('.u-wrap canvas').toDataURL() === before", arg=before)
    page.locator("#curve").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("before => document.querySelector('.u-wrap canvas').toDataURL() !== before", arg=before)
    page = watched.open("/objects/population")
    page.wait_for_selector("#population[data-ready='40']")
    box = page.locator("#population").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 16, box["y"] + box["height"] - 42, steps=4)
    page.mouse.up()
    assert page.locator("#readout").inner_text() == "40 of 40 in the box"
    assert page.locator("#chosen tbody tr").count() == 40


def test_an_image_tells_where_the_pointer_is_and_leads_to_its_neighbours(watched, night):
    page = watched.open(f"/images/{text_id(mesh.image(2).id)}")
    page.wait_for_selector("#image[data-ready]")
    box = page.locator("#image").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    text = page.locator("#readout").inner_text()
    ra, dec = map(float, text.split("(")[1].split(")")[0].split())
    assert abs(ra - 83.6) < 1.5, text
    assert abs(dec - 22.0) < 1.5, text
    page.keyboard.press("j")
    page.wait_for_url(f"**/{text_id(mesh.image(3).id)}")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert len(download.value.path().read_text().splitlines()) == 6
    higher = mesh.image(93, band=Band("70 MHz", 70e6, 2e5), t_start_us=mesh.START_US + 3 * mesh.STEP_US)
    night.append(image_message(93, id=higher.id, band=higher.band, t_start_us=higher.t_start_us))
    page = watched.open(f"/images/{text_id(mesh.image(3).id)}")
    page.keyboard.press("b")
    page.wait_for_url(f"**/{text_id(higher.id)}")
    page.keyboard.press("B")
    page.wait_for_url(f"**/{text_id(mesh.image(3).id)}")


def test_the_sky_follows_the_lightcurves(watched, night):
    page = watched.open("/sky")
    page.wait_for_selector("#sky[data-ready='40']")
    # The map follows what comes after it has opened: until then nobody read the channel.
    numbers = itertools.count(9)
    wait_for(lambda: _painted(page, night, next(numbers)), what="a change on the map")
    page.get_by_role("button", name="Zenith").click()
    assert page.get_by_role("button", name="Zenith").get_attribute("aria-pressed") == "true"
    page.keyboard.press("z")
    assert page.get_by_role("button", name="Whole sky").get_attribute("aria-pressed") == "true"
    # The middle of the map is where the telescope looks, and the map tells so; with arrows it moves away.
    box = page.locator("#sky").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert told(page, middle) == pytest.approx((83.6, 0.0), abs=0.5)
    page.locator("#sky").press("ArrowRight")
    page.wait_for_timeout(100)
    ra, dec = told(page, middle)
    assert (ra < 80, abs(dec) < 0.5) == (True, True)
    for there in ((83.6, 22.0), (263.0, -80.0), (0.1, 89.0), (10.0, 5.0)):
        for name in ("mollweide", "zenith"):
            back = page.evaluate(
                "([name, at]) => { const p = projections[name]([83.6, 22]), o = [0, 0]; p.to(...at, o, 0);"
                " return Number.isNaN(o[0]) ? null : p.from(...o); }", [name, there],
            )  # fmt: skip
            assert back is None if name == "zenith" and there[1] == -80.0 else back == pytest.approx(there, abs=1e-3)


def told(page, where):
    page.mouse.move(where[0] + 1, where[1])
    page.mouse.move(*where)
    text = page.locator("#readout").inner_text()
    return tuple(map(float, text.split("(")[1].split(")")[0].split()))


def _painted(page, night, number):
    night.append(mesh.lightcurves_message(number, night.objects))
    page.wait_for_timeout(200)
    return page.evaluate("() => window.painted.length")


def test_everything_by_keyboard_and_on_a_phone(browser, watched, night):
    page = watched.open("/")
    page.keyboard.press("?")
    page.locator("dialog#keys[open]").wait_for()
    page.keyboard.press("Escape")
    shown = page.locator("html").get_attribute("data-shown")
    page.keyboard.press("d")
    assert page.locator("html").get_attribute("data-shown") != shown
    page.keyboard.press("g")
    page.keyboard.press("t")
    page.wait_for_url("**/transients")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/transients/*-*")
    watched.page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/", "/transients", "/objects", "/sky", "/images", "/log", f"/objects/{text_id(night.objects[0])}"):
        page = watched.open(path)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path} is {wide} px wider than a phone"
