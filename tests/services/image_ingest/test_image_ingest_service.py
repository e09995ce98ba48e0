"""The whole service in this process: real sockets, real directories, a real journal, and starts over and over."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest_inputs import MAGIC, bare, frame, header, noise
from trapline.common.journal import PartitionReader
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import open_context
from trapline.common.runtime.heartbeat import heartbeat
from trapline.common.testing.relay import mesh_config
from trapline.image_ingest.seen import SeenFiles, Stamp
from trapline.image_ingest.service import run
from trapline.schemas.image import Image
from trapline.schemas.images import Images
from trapline.schemas.message import decode
from waiting import until

QUICK: dict[str, Any] = {
    "watch_interval_s": 0.02,
    "watch_settle_s": 0.1,
    "reconnect_min_s": 0.01,
    "reconnect_max_s": 0.05,
    "mid_image_timeout_s": 0.3,
}


@contextlib.asynccontextmanager
async def ingesting(directory: Path, **config: Any) -> AsyncIterator[Context]:
    """Run the service; it is drained at the end."""
    made = mesh_config(directory / "data", image_ingest=QUICK | config)
    async with open_context("image_ingest", made, "0") as context:
        work = asyncio.ensure_future(run(context))
        try:
            yield context
        finally:
            context.draining.set()
            async with asyncio.timeout(20):
                await work


def journal(directory: Path) -> list[Image]:
    """Return the images in the journal, in their order; each record is decoded whole."""
    reader = PartitionReader(directory / "data" / "journal" / "images" / "0")
    found: list[Image] = []
    for seq in range(reader.next_seq):
        slab = reader.slab(seq, max_bytes=1 << 40, max_records=1)
        message = decode([bytes(slab.data[start : start + n]) for start, n in slab.entries[0].spans])
        assert isinstance(message.header, Images)
        if message.header.image is not None:
            found.append(message.header.image)
    return found


async def has(directory: Path, count: int) -> list[Image]:
    await until(lambda: (directory / "data" / "journal" / "images" / "0").is_dir() and len(journal(directory)) >= count)
    return journal(directory)


def image(number: int, rms: float = 1.0, **cards: Any) -> bytes:
    """Return a FITS file whose observation began `number` seconds after 12:00."""
    pixels = noise((32, 40), seed=number, rms=rms)
    cards = {"DATE_OBS": f"2020-06-01T12:{number // 60:02d}:{number % 60:02d}.0"} | cards
    return bare(pixels, header(pixels.shape, **cards))


def names(images: list[Image]) -> list[str]:
    return [Path(one.origin).name for one in images]


# Watched directories


async def test_files_that_appear_are_read_once_also_after_a_restart(tmp_path: Path) -> None:
    night = tmp_path / "night"
    night.mkdir()
    (night / "a.fits").write_bytes(image(1))
    received = []
    for count, added in ((2, "b.fits"), (3, "c.fits")):
        async with ingesting(tmp_path, watch=[str(night)]) as context:
            await has(tmp_path, count - 1)
            (night / added).write_bytes(image(count))
            await has(tmp_path, count)
        received.append(context.counters["images_received"])
    # The second start did not even open what the first had read.
    assert received == [2, 1]
    assert names(journal(tmp_path)) == ["a.fits", "b.fits", "c.fits"]


async def test_a_file_is_read_when_it_is_complete(tmp_path: Path) -> None:
    night = tmp_path / "night"
    night.mkdir()
    data = image(1)
    async with ingesting(tmp_path, watch=[str(night)], watch_settle_s=0.5):
        with (night / "slow.fits").open("wb", buffering=0) as file:
            for start in range(0, len(data), 1000):
                file.write(data[start : start + 1000])
                await asyncio.sleep(0)
        (night / "hidden").mkdir()
        (night / "hidden" / "moved.fits").write_bytes(image(2))
        (night / "hidden" / "moved.fits").rename(night / "moved.fits")
        (night / "notes.txt").write_text("no image")
        found = await has(tmp_path, 2)
    assert sorted(names(found)) == ["moved.fits", "slow.fits"]
    assert not any(one.quality.rejected for one in found)


async def test_a_file_that_was_completed_later_is_read_again(tmp_path: Path) -> None:
    night = tmp_path / "night"
    night.mkdir()
    data = image(1)
    async with ingesting(tmp_path, watch=[str(night)]):
        (night / "a.fits").write_bytes(data[:5000])
        assert (await has(tmp_path, 1))[0].quality.rejected
        (night / "a.fits").write_bytes(data)
        found = await has(tmp_path, 2)
    assert [one.quality.rejected for one in found] == [True, False]
    assert "cut short" in found[0].quality.reasons[0].text


async def test_globs_and_directories_that_do_not_exist_yet(tmp_path: Path) -> None:
    async with ingesting(tmp_path, watch=[f"{tmp_path}/run*/images", {"path": f"{tmp_path}/later/*.fits"}]) as context:
        for name in ("run1/images", "run2/images", "later"):
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / "image.fits").write_bytes(image(len(name) + ord(name[3])))
        (tmp_path / "later" / "image.txt").write_bytes(image(50))
        found = await has(tmp_path, 3)
        await until(lambda: len(context.sources) == 2)
    assert len(found) == 3


async def test_the_same_image_in_two_files_is_one_image(tmp_path: Path) -> None:
    night = tmp_path / "night"
    night.mkdir()
    (night / "a.fits").write_bytes(image(1))
    async with ingesting(tmp_path, watch=[str(night)]):
        await has(tmp_path, 1)
    async with ingesting(tmp_path, watch=[str(night)]) as context:
        (night / "copy.fits").write_bytes(image(1))
        await until(lambda: source(context, str(night), "repeated"))
        (night / "next.fits").write_bytes(image(2))
        await has(tmp_path, 2)
    assert names(journal(tmp_path)) == ["a.fits", "next.fits"]


async def test_what_is_no_directory_is_said_once_and_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    night = tmp_path / "night"
    night.write_text("not a directory")
    (tmp_path / "other").mkdir()
    async with ingesting(tmp_path, watch=[str(night), str(tmp_path / "other")]):
        (tmp_path / "other" / "a.fits").write_bytes(image(1))
        await has(tmp_path, 1)
        night.unlink()
        night.mkdir()
        (night / "b.fits").write_bytes(image(2))
        await has(tmp_path, 2)
    assert capsys.readouterr().out.count("Not a directory") == 1


async def test_a_file_that_kills_its_reader_is_left_alone_after_some_deaths(tmp_path: Path) -> None:
    night = tmp_path / "night"
    night.mkdir()
    fatal = (night / "fatal.fits").absolute()
    fatal.write_bytes(image(1))
    found = fatal.stat()
    with SeenFiles(tmp_path / "data" / "image_ingest" / "0.seen") as seen:
        for deaths in range(3):
            assert seen.begin(fatal, Stamp(found.st_size, found.st_mtime_ns)) == deaths
    async with ingesting(tmp_path, watch=[str(night)]):
        (only,) = await has(tmp_path, 1)
        assert "died 3 times" in only.quality.reasons[0].text
        fatal.write_bytes(image(2) + bytes(2880))
        assert not (await has(tmp_path, 2))[1].quality.rejected


def test_what_was_seen_is_kept_compact_and_survives_torn_lines(tmp_path: Path) -> None:
    path, names_ = tmp_path / "seen", [tmp_path / f"{number}.fits" for number in range(3000)]
    with SeenFiles(path) as seen:
        for name in names_:
            seen.begin(name, Stamp(1, 2))
            seen.add(name, Stamp(1, 2))
    with path.open("ab") as file:
        file.write(b'["/torn.fi\n\xff\n[1,2]\n["/half')
    with SeenFiles(path) as seen:
        assert len(seen) == 3000
        assert (names_[7], Stamp(1, 2)) in seen
        assert (names_[7], Stamp(1, 3)) not in seen
        seen.forget_all_but(names_[:10])
        assert len(seen) == 10
    assert len(path.read_text().splitlines()) == 10


# What is remembered


async def test_the_noise_history_outlives_a_restart(tmp_path: Path) -> None:
    night = tmp_path / "night"
    night.mkdir()
    quality = {"rms_history_min": 10}
    for number in range(12):
        (night / f"{number:02d}.fits").write_bytes(image(number, rms=1 + 0.01 * (number % 3)))
    async with ingesting(tmp_path, watch=[str(night)], quality=quality):
        assert not any(one.quality.rejected for one in await has(tmp_path, 12))
    async with ingesting(tmp_path, watch=[str(night)], quality=quality):
        (night / "noisy.fits").write_bytes(image(12, rms=3.0))
        found = await has(tmp_path, 13)
    assert [reason.check for reason in found[-1].quality.reasons] == ["rms_history"]


async def test_files_that_are_read_again_after_a_restart_are_not_appended_again(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(image(1))
    for _ in range(2):
        async with ingesting(tmp_path, paths=[str(tmp_path / "a.fits")]) as context:
            await until(lambda: context.counters["images_received"])
    assert len(journal(tmp_path)) == 1


# Sockets


class Imager:
    """A telescope's imager on one port, that a test lets send, hang up, and come again."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._peers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def start(self) -> None:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._peers.append(writer)

        self._server = await asyncio.start_server(serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def send(self, data: bytes) -> None:
        await until(lambda: self._peers)
        self._peers[-1].write(data)
        await self._peers[-1].drain()

    async def die(self) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self._peers:
            peer.transport.abort()
        self._peers.clear()
        await self._server.wait_closed()


@contextlib.asynccontextmanager
async def imager() -> AsyncIterator[Imager]:
    made = Imager()
    await made.start()
    try:
        yield made
    finally:
        await made.die()


def source(context: Context, name: str, measure: str) -> float | None:
    return context.sources.get(name, {}).get(measure)


def framed(number: int) -> bytes:
    pixels = noise((32, 40), seed=number)
    cards = header(pixels.shape, DATE_OBS=f"2020-06-01T12:{number // 60:02d}:{number % 60:02d}.0")
    return frame(pixels, cards)


async def test_an_imager_that_dies_in_mid_image_and_comes_again_costs_that_image(tmp_path: Path) -> None:
    async with imager() as telescope:
        address = f"tcp://127.0.0.1:{telescope.port}"
        async with ingesting(tmp_path, streams=[{"address": address}]) as context:
            await telescope.send(framed(0) + framed(1)[:4000])
            await has(tmp_path, 1)
            await telescope.die()
            await has(tmp_path, 2)
            await telescope.start()
            await telescope.send(framed(2))
            found = await has(tmp_path, 3)
            await until(lambda: source(context, address, "images") == 3)
            report = context.sources[address]
    assert [one.t_start_us and one.t_start_us % 60_000_000 for one in found] == [0, None, 2_000_000]
    assert (report["connections"], report["rejected"], report["stream_truncated"]) == (2, 1, 1)


async def test_sixteen_times_the_rate_loses_nothing(tmp_path: Path) -> None:
    async with imager() as telescope:
        address = f"tcp://127.0.0.1:{telescope.port}"
        # The noise of such small images scatters.
        quality = {"rms_history_tolerance": 1.0}
        async with ingesting(tmp_path, streams=[{"address": address}], quality=quality) as context:
            sending = asyncio.ensure_future(telescope.send(b"".join(framed(number) for number in range(64))))
            found = await has(tmp_path, 64)
            await sending
            await until(lambda: source(context, address, "images") == 64)
            report = context.sources[address]
    assert [one.t_start_us for one in found] == sorted(one.t_start_us or 0 for one in found)
    assert (report["stream_skipped_bytes"], report["gaps"], report["late"]) == (0, 0, 0)
    assert report["cadence_s"] == 1.0


def hostile() -> dict[str, bytes]:
    """Return what a stranger, a bug or a bad line may send in the place of an image."""
    pixels = noise((32, 40), seed=99)

    def with_cards(**cards: Any) -> bytes:
        return frame(pixels, header(pixels.shape, **cards))

    return {
        "text": b"GET / HTTP/1.1\r\n\r\n" * 100,
        "zeros": bytes(5000),
        "magic alone": MAGIC,
        "many magics": MAGIC * 5000,
        "sizes of 4 GB": MAGIC + b"\xff" * 504,
        "a header of no cards": MAGIC + struct.pack("<II", 2880, 4 * 1280) + bytes(496) + b"no cards " * 320,
        "cut in the announcement": framed(9)[:300],
        "cut in the header": framed(9)[:2000],
        "cut in the pixels": framed(9)[:-500],
        "the wrong size": framed(9).replace(struct.pack("<I", 5120), struct.pack("<I", 5116), 1),
        "absurd axes": with_cards(NAXIS1=2**31, NAXIS2=2**31),
        "no axes": with_cards(NAXIS=0),
        "text as FITS": b"SIMPLE  = this is not a FITS file, whatever it says".ljust(6000),
        "a WCS of NaN": with_cards(CRVAL1="NaN", CRPIX1="inf"),
        "no WCS": with_cards(CTYPE1=None, CTYPE2=None),
        "a date of nobody": with_cards(DATE_OBS="2020-13-45T99:99:99"),
        "no beam": with_cards(BMAJ=None),
        "NaN alone": frame(np.full((32, 40), np.nan, np.float32)),
        "flat": frame(np.zeros((32, 40), np.float32)),
    }


async def test_whatever_comes_over_a_socket_the_next_image_is_taken(tmp_path: Path) -> None:
    async with imager() as telescope:
        address = f"tcp://127.0.0.1:{telescope.port}"
        # The noise of such small images scatters.
        quality = {"rms_history_tolerance": 1.0}
        async with ingesting(tmp_path, streams=[{"address": address}], quality=quality) as context:
            for number, (what, data) in enumerate(hostile().items()):
                await telescope.send(data + framed(number))
                probe = 1_591_012_800_000_000 + number * 1_000_000
                await until(lambda: any(one.t_start_us == probe for one in journal(tmp_path)))  # noqa: B023
                assert context.state == "running", what
            await until(lambda: source(context, address, "images") == len(journal(tmp_path)))
            report = context.sources[address]
    found = journal(tmp_path)
    probes = [one for one in found if one.t_start_us is not None and not one.quality.rejected]
    assert len(probes) == len(hostile())
    # Nothing was dropped without a word: each of the others is there with its reasons.
    assert all(one.quality.reasons for one in found if one not in probes)
    # A flood of beginnings is counted, and fills neither the journal nor the log.
    assert report["unrecorded"] > 4500
    assert len(found) < 200


async def test_late_images_are_taken_and_counted(tmp_path: Path) -> None:
    found = await sent_over_a_socket(tmp_path, [0, 2, 1, 3], late=1)
    assert found == [0, 2, 1, 3]


async def test_images_are_held_back_to_be_in_order(tmp_path: Path) -> None:
    found = await sent_over_a_socket(tmp_path, [0, 2, 1, 3], late=0, reorder_window_s=0.5)
    assert found == [0, 1, 2, 3]


async def sent_over_a_socket(tmp_path: Path, numbers: list[int], *, late: int, **config: Any) -> list[int]:
    async with imager() as telescope:
        address = f"tcp://127.0.0.1:{telescope.port}"
        async with ingesting(tmp_path, streams=[{"address": address}], **config) as context:
            await telescope.send(b"".join(map(framed, numbers)))
            found = await has(tmp_path, len(numbers))
            await until(lambda: source(context, address, "images") == len(numbers))
            assert source(context, address, "late") == late
    return [(one.t_start_us or 0) // 1_000_000 % 60 for one in found]


async def test_what_is_held_back_is_appended_when_the_service_ends(tmp_path: Path) -> None:
    night = tmp_path / "night"
    night.mkdir()
    (night / "a.fits").write_bytes(image(1))
    config: dict[str, Any] = {"watch": [str(night)], "reorder_window_s": 1000.0}
    async with ingesting(tmp_path, **config) as context:
        await until(lambda: context.counters["images_held"])
    assert names(journal(tmp_path)) == ["a.fits"]
    async with ingesting(tmp_path, **config) as context:
        (night / "b.fits").write_bytes(image(2))
        await until(lambda: context.counters["images_held"])
    assert context.counters["images_repeated"] == 0
    assert names(journal(tmp_path)) == ["a.fits", "b.fits"]


# Reports


async def test_status_and_metrics_say_how_the_sources_are(tmp_path: Path) -> None:
    async with imager() as telescope:
        address = f"tcp://127.0.0.1:{telescope.port}"
        async with ingesting(tmp_path, streams=[{"address": address}]) as context:
            await telescope.send(framed(0) + bytes(1000) + framed(5)[:-100])
            await telescope.send(framed(6))
            await until(lambda: source(context, address, "images") == 3)
            values = heartbeat(context).header.sources[address]
            metrics = await asyncio.to_thread(fetched, context.health_port)
    assert (values["connected"], values["rejected_unreadable"]) == (1, 1)
    assert values["stream_skipped_bytes"] > 1000
    assert f'measure="rejected_unreadable",replica="0",service="image_ingest",source="{address}"}} 1.0' in metrics


def fetched(port: int | None) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


async def test_injected_images_carry_their_truth(tmp_path: Path) -> None:
    night = tmp_path / "night"
    night.mkdir()
    (night / "a.fits").write_bytes(image(1))
    injection = {"per_square_deg": 20, "every_s": 60, "duration_s": 60, "snr_min": 20, "seed": 3}
    async with ingesting(tmp_path, watch=[str(night)], injection=injection, margin_px=0):
        (found,) = await has(tmp_path, 1)
    assert found.role == "injection"
    assert np.isfinite(found.noise or np.nan)
