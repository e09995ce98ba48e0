"""What a person chooses on the pages: the unit of fluxes, and that a dead letter is taken again."""

import csv
import io
import json

import pytest

import lightcurve_messages as mesh
from dashboard_night import event_message, running_night
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


def test_fluxes_of_filters_sentences_diagram_and_pixels_are_in_the_chosen_unit(watched, night):
    plain = [float(row["flux_mean_weighted"]) for row in rows_of(night, "/objects.csv")]
    middle = sorted(plain)[20]
    milli = [
        float(row["flux_mean_weighted"]) for row in rows_of(night, f"/objects.csv?flux_min={1000 * middle}&unit=mJy")
    ]
    assert sorted(milli) == pytest.approx([1000 * flux for flux in sorted(plain) if flux >= middle])
    page = watched.open("/objects?unit=mJy")
    assert page.get_by_label("Flux from (mJy)").count() == 1
    rule = {"limit_low": 2.5, "limit_high": 4.0}
    night.append(event_message(7, night.objects[7], kind="new_source", significance=30.0, rule=rule, certain=False))
    watched.open("/transients?unit=mJy").get_by_text("all above 2.5e+03").wait_for()
    page = watched.open("/transients?unit=Jy")
    page.get_by_text("all above 2.5").wait_for()
    page.locator("tr", has_text="all above 2.5").locator("a").first.click()
    assert "2.5" in page.locator("dl.facts").inner_text()
    readouts = []
    for unit in ("Jy", "mJy"):
        page = watched.open(f"/images/{text_id(mesh.image(2).id)}?unit={unit}")
        page.wait_for_selector("#image[data-ready]")
        box = page.locator("#image").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        value, shown = page.locator("#readout").inner_text().split(" · ")[-1].split()
        assert shown == unit
        readouts.append(float(value))
    assert readouts[1] == pytest.approx(1000 * readouts[0], rel=1e-3)
    page = watched.open("/objects/population?unit=mJy")
    page.wait_for_selector("#population[data-ready='40']")
    assert "mJy" in page.locator("#chosen thead").inner_text()


def test_a_heading_sorts_the_whole_list_and_its_pages_are_addresses(watched, night):
    page = watched.open("/objects?column=flux_mean_weighted&column=eta")
    own = ids(page)
    page.locator("th", has_text="mean flux").get_by_role("link").click()
    page.wait_for_url("**sort=-flux_mean_weighted**")
    heading = page.locator("th", has_text="mean flux")
    assert heading.get_attribute("aria-sort") == "descending"
    first = fluxes(page)
    page.keyboard.press("]")
    page.wait_for_url("**before=**")
    assert page.locator("thead th").count() == 7
    down = [*first, *fluxes(page)]
    assert down == sorted(down, reverse=True) and len(down) == 40 and len(set(down)) > 30
    page.keyboard.press("[")
    page.wait_for_url("**after=**")
    assert fluxes(page) == first
    page.locator("th", has_text="mean flux").get_by_role("link").press("Enter")
    page.wait_for_url("**sort=flux_mean_weighted**")
    assert fluxes(page) == down[::-1][:20]
    assert "before=" not in page.url and "after=" not in page.url
    files = [float(row["flux_mean_weighted"]) for row in rows_of(night, "/objects.csv?sort=flux_mean_weighted")]
    assert files == sorted(files) and len(files) == 40
    assert watched.serious() == []
    page.locator("th", has_text="mean flux").get_by_role("link").click()
    page.wait_for_url(lambda url: "sort=" not in url)
    assert ids(page) == own
    sigmas = watched.open("/transients?sort=significance").locator("#live tbody td:nth-child(4)").all_inner_texts()
    assert sigmas == ["7", "8", "9", "10"]
    assert "bad" in watched.open("/images?sort=-rejected").locator("#live tbody .tag").first.get_attribute("class")
    status, text = night.get("/objects?sort=password")
    assert status == 400 and "eta" in text


def ids(page):
    return page.locator("#live tbody tr").evaluate_all("all => all.map(row => row.dataset.id)")


def fluxes(page):
    return page.locator("#live tbody tr").evaluate_all("all => all.map(row => parseFloat(row.cells[5].innerText))")


def rows_of(night, path):
    status, text = night.get(path)
    assert status == 200, text
    return list(csv.DictReader(io.StringIO(text)))


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
