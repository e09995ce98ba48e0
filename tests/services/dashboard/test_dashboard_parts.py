"""Small parts of the dashboard, by themselves: ticks, shared answers, filters, pictures, units."""

import asyncio
import math
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from trapline.dashboard.events import why
from trapline.dashboard.hub import Hub
from trapline.dashboard.picture import cut_out, png, shrunk, stretched
from trapline.dashboard.questions import filters_of, parse_angle, parse_position, parse_time
from trapline.dashboard.sharing import shared
from trapline.dashboard.units import all_converted, converted, unit_of


def request(query="", *, site=None, **headers):
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": "/x", "query_string": query.encode(), "headers": named}
    scope |= {"server": ("h", 80), "scheme": "http", "app": SimpleNamespace(state=SimpleNamespace(site=site))}
    return Request(scope)


async def test_a_slow_viewer_gets_one_tick_for_all_that_it_missed_and_close_sends_it_away():
    hub = Hub(0.001)
    ticks = hub.ticks(frozenset({"status", "images"}))
    assert await anext(ticks) == {"images": 0, "status": 0}
    assert (hub.viewers, hub.watched("images"), hub.watched("sources")) == (1, True, False)
    for _ in range(5):
        hub.bump(["status"])
    hub.bump(["sources"])
    assert await anext(ticks) == {"images": 0, "status": 5}
    # What it is not about is no news to it.
    hub.bump(["sources"])
    waiting = asyncio.ensure_future(anext(ticks, None))
    hub.close()
    assert await asyncio.wait_for(waiting, 20) is None
    assert hub.viewers == 0 and not hub.watched("images")


async def test_fragments_are_made_once_for_all_who_ask_and_again_after_news_for_another_unit_and_after_a_failure():
    hub, made = Hub(60.0), []
    site = SimpleNamespace(hub=hub, settings=SimpleNamespace(tick_s=60.0))

    async def endpoint(asked):
        made.append(asked)
        await asyncio.sleep(0)
        if len(made) == 4:
            raise ValueError("not now")
        return PlainTextResponse(str(len(made)))

    answer = shared(endpoint, "status")
    ask = lambda query="", **more: answer(request(query, site=site, x_fragment="1", **more))  # noqa: E731
    assert [a.body for a in await asyncio.gather(*(ask() for _ in range(5)))] == [b"1"] * 5
    hub.bump(["status"])
    assert (await ask()).body == b"2"
    # What it is not about makes nothing new.
    hub.bump(["sky"])
    assert (await ask()).body == b"2"
    assert (await ask(cookie="trapline_unit=mJy")).body == b"3"
    hub.bump(["status"])
    with pytest.raises(ValueError, match="not now"):
        await ask()
    assert (await ask()).body == b"5"
    # A whole page is made for each who asks.
    assert [(await answer(request(site=site))).body for _ in range(2)] == [b"6", b"7"]


@pytest.mark.parametrize(
    ("text", "ra_deg", "dec_deg"),
    [
        ("350.85 58.815", 350.85, 58.815),
        ("350.85,-58.815", 350.85, -58.815),
        ("23:23:24 +58:48:54", 350.85, 58.815),
        ("23h23m24s -00d30m00s", 350.85, -0.5),
        ("23 23 24 58 48 54", 350.85, 58.815),
        ("-10 20", 350.0, 20.0),
        ("5:20:00\u221220:00:00", 80.0, -20.0),
    ],
)
def test_positions_are_read_in_all_their_forms(text, ra_deg, dec_deg):
    assert parse_position(text) == pytest.approx((ra_deg, dec_deg), abs=1e-9)


@pytest.mark.parametrize("text", ["", "1", "a b", "1 2 3", "10 91", "1:61:00 2:00:00", "nan 5", "inf 1"])
def test_what_is_no_position_is_refused(text):
    with pytest.raises(ValueError, match=r"position|declination"):
        parse_position(text)


def test_angles_times_and_numbers_say_what_would_be_right():
    assert [parse_angle(t) for t in ("2", "30 arcmin", "36 arcsec", "1 deg")] == pytest.approx([2, 0.5, 0.01, 1])
    assert parse_time("2026-01-31T23:59").isoformat() == "2026-01-31T23:59:00+00:00"
    assert parse_time("2026-02-01T00:59+01:00") == parse_time("2026-01-31T23:59")
    for wrong in ("3 pc", "deg", ""):
        with pytest.raises(ValueError, match="no angle"):
            parse_angle(wrong)
    with pytest.raises(ValueError, match="2026-01-31T23:59"):
        parse_time("noon")


@pytest.mark.parametrize("query", [{"v_min": "x"}, {"flux_min": "nan"}, {"eta_min": "inf"}, {"object": "7"}])
def test_a_filter_that_is_no_value_is_refused(query):
    with pytest.raises(ValueError, match=r"no number|no id"):
        filters_of(query, "default")


def test_filters_are_those_of_the_query_and_nothing_else():
    found = filters_of({"n_min": "3", "band": "60 MHz", "rejected": "no", "odd": "1", "kind": ""}, "night")
    assert (found.dataset, found.n_min, found.band, found.rejected, found.kind) == ("night", 3.0, "60 MHz", False, None)


@pytest.mark.parametrize(
    ("kind", "rule", "words"),
    [
        ("variable", {"v_now": 0.213, "eta_now": 179.0, "v_threshold": 0.209, "eta_threshold": 3.0, "n_now": 53.0},
         "V 0.213 and eta 179, where 0.209 and 3 are limits, over 53 points"),
        ("disappeared", {"misses": 3.0, "missed_limit": 4.5, "brightest": 12.0},
         "not in 3 images that show all above 4.5 Jy; it once had 12 Jy"),
        ("flare", {"mean": 2.0}, "7.0 sigma from the mean of 2 Jy before it"),
        ("variable", {"v_now": 0.2}, "v now 0.2"),
        ("doubled", {}, "announced without a reason"),
    ],
    ids=["variable", "disappeared", "flare", "some", "none"],
)  # fmt: skip
def test_a_sentence_says_why(kind, rule, words):
    assert why({"kind": kind, "unit": "Jy", "significance": 7.0, "reason": {"rule": rule}}) == words


def test_a_picture_is_a_png_with_its_first_row_at_the_bottom():
    pixels = np.zeros((3, 5))
    pixels[0, 0] = 9.0
    data = png(pixels)
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (5, 3)
    length = struct.unpack(">I", data[33:37])[0]
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8).reshape(3, 6)[:, 1:]
    assert np.unravel_index(rows.argmax(), rows.shape) == (2, 0)


@pytest.mark.parametrize("value", [math.nan, 0.0, -5.0, 1e30, math.inf])
def test_any_pixels_can_be_stretched(value):
    shown = stretched(np.full((4, 4), value))
    assert np.isfinite(shown).all() and shown.min() >= 0 and shown.max() <= 1


def test_a_cut_out_at_the_edge_is_filled_with_what_is_not_known():
    pixels = np.arange(100.0).reshape(10, 10)
    stamp = cut_out(pixels, 0, 0, half=2)
    assert stamp.shape == (5, 5) and stamp[2, 2] == 0 and np.isnan(stamp[:2]).all() and stamp[4, 4] == 22
    assert np.isnan(cut_out(pixels, 500, -500, half=2)).all()


def test_a_large_image_is_shrunk_by_means_of_blocks():
    small, block = shrunk(np.arange(64.0).reshape(8, 8), 3)
    assert (small.shape, block) == ((2, 2), 3)
    assert small[0, 0] == np.arange(64.0).reshape(8, 8)[:3, :3].mean()
    assert shrunk(np.zeros((4, 4)), 4)[1] == 1
    assert [shrunk(np.zeros((4, 4)), most)[1] for most in (0, -3)] == [4, 4]


def test_fluxes_come_in_the_unit_of_the_address_or_of_the_cookie_and_others_stay():
    row = {"unit": "Jy", "flux_int": 0.5, "flux_int_err": None, "eta": 2.0, "t": [1.0]}
    assert converted(row, "mJy") == {"unit": "mJy", "flux_int": 500.0, "flux_int_err": None, "eta": 2.0, "t": [1.0]}
    assert converted({"unit": "nJy", "flux": [1000.0, None]}, "uJy")["flux"] == [pytest.approx(1.0), None]
    counts = [{"unit": "count", "flux": 3.0}, {"unit": None, "flux": 3.0}]
    assert all_converted(counts, "Jy") == counts
    assert unit_of(request()) is None
    assert unit_of(request(cookie="trapline_unit=mJy")) == "mJy"
    assert unit_of(request(cookie="trapline_unit=furlong")) is None
    assert unit_of(request("unit=uJy", cookie="trapline_unit=mJy")) == "uJy"
    assert unit_of(request("unit=", cookie="trapline_unit=mJy")) is None
    with pytest.raises(ValueError, match="choose Jy, mJy, uJy"):
        unit_of(request("unit=furlong"))
