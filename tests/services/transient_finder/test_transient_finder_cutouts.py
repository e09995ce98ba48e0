"""Cut-outs: the right pixels, a WCS that says where they are, and events that leave without them when they must."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import numpy as np
import pytest
from astropy.io import fits

from extractor_skies import fits_header
from finder_records import record
from trapline.common.ids import fact_id
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.runtime.daemon import open_context
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.common.wcs import parse_wcs, wcs_cards
from trapline.schemas.columns import Link
from trapline.schemas.header import Place
from trapline.schemas.image import Image
from trapline.schemas.images import Images
from trapline.schemas.message import Message, decode, encode
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.cutouts import cut_out
from trapline.transient_finder.service import FinderRunner
from waiting import until

SHAPE = (60, 80)


def an_image(**cards):
    pixels = np.arange(SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    image = Image(id=bytes(16), shape=SHAPE, wcs=wcs_cards(fits_header(SHAPE, **cards)), t_start_us=0)
    return Message(Images(schema="trapline.images/1.0", id=fact_id(0, "x"), image=image), {"pixels": pixels})


@pytest.mark.parametrize("x", [40.0, 0.0, 79.4, 12.7])
@pytest.mark.parametrize("y", [30.0, -0.4, 59.0])
@pytest.mark.parametrize("side", [1, 8, 9, 200])
def test_the_wcs_of_a_cut_out_finds_the_same_pixels(x, y, side):
    image = an_image()
    assert image.header.image is not None
    whole = parse_wcs(image.header.image.wcs or "")
    ra, dec = whole.to_sky(x, y)
    found = cut_out(image, float(ra), float(dec), side)
    assert found is not None
    cut, cards = found
    assert cut.shape == (side, side)
    assert len(cards) % 80 == 0
    u, v = parse_wcs(cards).to_pixel(ra, dec)
    assert abs(u - side // 2) <= 0.5 + 1e-6
    assert abs(v - side // 2) <= 0.5 + 1e-6
    inside = np.argwhere(np.isfinite(cut))
    assert len(inside) == min(side * side, np.isfinite(cut).sum())
    for row, column in inside[:: max(len(inside) // 20, 1)]:
        at = whole.to_pixel(*parse_wcs(cards).to_sky(column, row))
        assert cut[row, column] == image.arrays["pixels"][round(float(at[1])), round(float(at[0]))]
    assert fits.Header.fromstring(cards)["CTYPE1"] == "RA---SIN"


def test_what_is_not_in_the_image_has_no_cut_out():
    image = an_image()
    for ra, dec in ((0.0, 0.0), (330.0, -35.0), (150.0, 36.0)):
        assert cut_out(image, ra, dec, 8) is None
    assert cut_out(Message(image.header), 150.0, 35.0, 8) is None


@contextlib.asynccontextmanager
async def finding(config, side_px=9):
    async with open_context("transient_finder", config, "0") as context:
        work = asyncio.create_task(FinderRunner(context, FinderConfig(cutout_px=side_px)).run())
        yield context
        context.draining.set()
        await asyncio.wait_for(work, 20)


def new_source(number, place):
    limits = {"limit_low": 1.0, "limit_high": 2.0, "n_earlier": 10, "link": int(Link.NEW)}
    at = {"object_ra_deg": 150.0, "object_dec_deg": 35.0}
    made = record(number, number, 5.0, **limits, **at)
    image = msgspec.structs.replace(made.header.image, place=place)
    return encode(Message(msgspec.structs.replace(made.header, image=image), made.arrays))


async def test_events_carry_them_while_the_image_is_there(tmp_path):
    config = mesh_config(tmp_path)
    images, lightcurves = (JournalWriter(config.journal_directory / name / "0") for name in ("images", "lightcurves"))
    with running_relay(config):
        there = Place("images", "0", images.epoch, images.append(encode(an_image())))
        garbage = Place("images", "0", images.epoch, images.append([b"\xc1"]))
        for number, place in enumerate((there, garbage, Place("images", "0", 0, 99), Place("images", "9", 0, 0), None)):
            lightcurves.append(new_source(number, place))
        async with finding(config) as context:
            await until(lambda: context.counters["published_transients"] == 5)
            assert (context.counters["cutouts"], context.counters["cutouts_missing"]) == (1, 3)
    reader = PartitionReader(config.journal_directory / "transients" / "0")
    slab = reader.slab(0, max_bytes=1 << 22, max_records=100)
    events = [decode([slab.data[o : o + n] for o, n in e.spans]) for e in slab.entries]
    assert ["cutout" in event.arrays for event in events] == [True, False, False, False, False]
    assert events[0].arrays["cutout"].shape == (9, 9)
    assert events[0].header.image_place == there
    x, y = parse_wcs(events[0].header.cutout_wcs).to_pixel(150.0, 35.0)
    assert abs(x - 4) <= 0.5 + 1e-6
    assert abs(y - 4) <= 0.5 + 1e-6
    for writer in (images, lightcurves):
        writer.close()
