"""What a person chooses on the pages: the unit of fluxes, and that a dead letter is taken again."""

import csv
import io
import json

import pytest

from dashboard_night import running_night
from plugin_runs import running_plugin, write_plugin
from trapline.common.ids import text_id
from waiting import wait_for

pytestmark = pytest.mark.timeout(240)

MOODY = """
    from pathlib import Path
    from trapline.plugin import subscribes

    @subscribes("transients", start="first", group=True)
    def post(event):
        if Path("broken").exists():
            raise RuntimeError("no route to the telescope")
        with open("posted", "a") as file:
            file.write("one\\n")
"""


def test_the_unit_is_in_the_address_and_stays_for_other_pages(watched, night):
    path = f"/objects/{text_id(night.objects[1])}"
    page = watched.open(path)
    page.wait_for_selector("#curve[data-ready]")
    measured = json.loads(night.get(f"{path}/curve")[1])["bands"][0]
    assert measured["unit"] == "Jy"
    page.locator("#unit").select_option("mJy")
    page.wait_for_url("**unit=mJy")
    page.wait_for_selector("#curve[data-ready]")
    assert " mJy" in page.locator("section[aria-labelledby=statistics]").inner_text()
    shown = json.loads(night.get(f"{path}/curve?unit=mJy")[1])["bands"][0]
    assert shown["flux"] == pytest.approx([1000 * flux for flux in measured["flux"]])
    assert " mJy" in watched.open("/objects").locator("#live tbody tr").first.inner_text()
    assert " mJy" in watched.open("/transients").locator("#live tbody tr").first.inner_text()
    assert " uJy" in watched.open("/objects?unit=uJy").locator("#live tbody tr").first.inner_text()
    row = next(csv.DictReader(io.StringIO(night.get("/objects.csv?unit=mJy")[1])))
    plain = next(csv.DictReader(io.StringIO(night.get("/objects.csv")[1])))
    assert (row["unit"], plain["unit"]) == ("mJy", "Jy")
    assert float(row["flux_mean"]) == pytest.approx(1000 * float(plain["flux_mean"]))
    assert night.get("/objects?unit=furlong")[0] == 400
    assert watched.serious() == []


def test_forced_points_that_are_no_detection_are_limits_and_images_tell_their_sources(watched, night):
    page = watched.open(f"/objects/{text_id(night.objects[1])}")
    page.wait_for_selector("#curve[data-ready]")
    assert page.evaluate("limitOf({kind: [1], err: [2], flux: [1]}, 0, 3)") == 7
    assert page.evaluate("limitOf({kind: [1], err: [2], flux: [-9]}, 0, 3)") == 6
    for kept in ("{kind: [1], err: [2], flux: [6]}", "{kind: [0], err: [2], flux: [1]}",
                 "{kind: [1], err: [null], flux: [1]}", "{kind: [1], err: [2], flux: [null]}"):  # fmt: skip
        assert page.evaluate(f"limitOf({kept}, 0, 3)") is None
    page = watched.open("/images")
    page.wait_for_selector("#numbers canvas")
    assert page.locator("#numbers-said").inner_text() == "the newest 8 images"
    bands = json.loads(night.get("/images/numbers")[1])["bands"]
    assert {n for band in bands for n in band["flux"]} == {5}


def test_a_page_is_sorted_by_a_heading_and_the_order_is_in_its_address(watched, night):
    page = watched.open("/objects")
    own = page.locator("#live tbody tr").evaluate_all("all => all.map(row => row.dataset.id)")
    heading = page.locator("th", has_text="mean flux")
    column = "all => all.map(row => parseFloat(row.cells[7].innerText))"
    heading.click()
    page.wait_for_url("**sort=-mean**")
    down = page.locator("#live tbody tr").evaluate_all(column)
    assert down == sorted(down, reverse=True) and len(set(down)) > 5
    assert heading.get_attribute("aria-sort") == "descending"
    heading.press("Enter")
    page.wait_for_url("**sort=mean**")
    assert page.locator("#live tbody tr").evaluate_all(column) == down[::-1]
    again = watched.open(page.url.removeprefix(night.address.rstrip("/")))
    assert again.locator("#live tbody tr").evaluate_all(column) == down[::-1]
    assert watched.serious() == []
    with page.expect_navigation():
        page.locator("th", has_text="mean flux").click()
    page.wait_for_selector("#live tbody tr")
    assert page.locator("#live tbody tr").evaluate_all("all => all.map(row => row.dataset.id)") == own


def test_the_token_is_asked_for_once_in_a_browser(browser, tmp_path, dsn):
    with running_night(tmp_path, dsn, token="a token of night") as night:
        context = browser.new_context()
        page = context.new_page()
        page.goto(night.address)
        page.locator("input[name=token]").fill("a token of night")
        page.keyboard.press("Enter")
        page.wait_for_selector("h1.verdict")
        context.close()


def test_a_dead_letter_is_taken_again_from_the_page(browser, night, tmp_path):
    path = write_plugin(tmp_path, MOODY, "poster")
    data = night.config.data_directory
    (data.parent / "broken").touch()
    with running_plugin(path, data=data):
        wait_for(lambda: len(json.loads(night.get("/dead-letters.json")[1])) == 4, what="four dead letters")
        (data.parent / "broken").unlink()
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{night.address.rstrip('/')}/log")
        page.locator("summary", has_text="no route to the telescope").first.click()
        page.get_by_role("button", name="Replay").first.click()
        page.get_by_text("was given out again").wait_for()
        wait_for((data.parent / "posted").exists, what="the post")
        context.close()
    status, text = night.request("POST", "/dead-letters/replay", "service=poster&place=transients/0@0:99")
    assert status == 404 and "none of the newest" in text
    refused = night.request("POST", "/dead-letters/replay", "service=poster&place=x", origin="http://elsewhere")
    assert refused[0] == 403
