"""A plug-in beside the mesh as an operator sees it: its process, its channel, its place in the drawing, its death."""

import signal

import pytest

import lightcurve_messages as mesh
from plugin_runs import start_plugin, write_plugin

pytestmark = pytest.mark.timeout(240)


def test_a_plugin_and_its_channel_are_shown_and_its_death_breaks_nothing(watched, night, tmp_path):
    page = watched.open("/")
    page.wait_for_selector("h1.verdict.good")
    process = start_plugin(write_plugin(tmp_path), "--from", "first", data=night.config.data_directory)
    try:
        row = page.locator("section[aria-labelledby=services] tr", has_text="bright finder-0")
        row.locator(".tag.good", has_text="running").wait_for()
        channel = page.locator("section[aria-labelledby=channels] tr", has_text="bright")
        channel.first.wait_for()
        night.append(mesh.lightcurves_message(20, night.objects))
        page.locator("g.box.good[data-service=bright_finder]").wait_for()
        page.locator("g.arrow", has_text="lightcurves").nth(1).wait_for(state="attached")
        assert watched.serious() == []
        process.send_signal(signal.SIGKILL)
        process.wait()
        row.locator(".tag.bad", has_text="crashed").wait_for()
        page.get_by_text("Nothing waits for it").wait_for()
        # What an operator must see to is said; the mesh is not broken.
        assert "busy" in page.locator("h1.verdict").get_attribute("class")
    finally:
        process.kill()
        process.communicate()
