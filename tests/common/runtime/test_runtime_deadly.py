"""Records that hang a handler or kill its process: a few attempts, a dead letter, and the stream goes on."""

import asyncio
import contextlib
import signal
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from trapline.common.ids import fact_id
from trapline.common.journal import PartitionReader
from trapline.common.runtime.daemon import open_context
from trapline.common.runtime.hang import HangError, in_thread
from trapline.common.runtime.stepping import SteppingNote
from trapline.schemas.examples import example_image, example_messages
from trapline.schemas.header import Place
from trapline.schemas.images import Images
from trapline.schemas.message import Message, decode_header, encode
from waiting import until

IMAGE = next(m for m in example_messages() if isinstance(m.header, Images))
SCRIPT = Path(__file__).with_name("deadly_services.py")
PLACE = Place("images", "0", 0, 2)


@pytest.fixture
async def images(config, relay):
    async with open_context("image_ingest", config, "0") as context:
        for number in range(6):
            header = msgspec.structs.replace(IMAGE.header, id=fact_id(0, "test", number))
            header.image = msgspec.structs.replace(example_image(), id=fact_id(0, "image", number))
            context.outputs.writer("images").append(encode(Message(header, IMAGE.arrays)))
        yield


def headers(config, channel):
    found = []
    for directory in sorted((config.journal_directory / channel).glob("*")):
        reader = PartitionReader(directory)
        for seq in range(reader.first_seq, reader.next_seq):
            slab = reader.slab(seq, max_bytes=1, max_records=1)
            start, length = slab.entries[0].spans[0]
            found.append(decode_header(slab.data[start : start + length]))
    return found


async def supervised(config, kind, how, done):
    """Start the process again and again until `done` says so, and return how each ended."""
    codes = []
    while not done() and len(codes) < 10:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), kind, str(config.data_directory), how, stdin=asyncio.subprocess.PIPE
        )
        with contextlib.suppress(TimeoutError):
            await until(lambda process=process: done() or process.returncode is not None, 40)
        if process.returncode is None:
            process.stdin.close()
        codes.append(await asyncio.wait_for(process.wait(), 20))
    return codes


@pytest.mark.parametrize("how", ["hang", "kill"])
async def test_a_record_that_ends_its_worker_is_a_dead_letter_after_its_attempts(config, relay, images, how):
    def done():
        return relay.core.groups.share("source_extractor", "images", "0").floor == 6

    codes = await supervised(config, "worker", how, done)
    attempts = config.runtime.max_attempts
    # What was done and not yet acknowledged when a process died was done again.
    assert {h.image.place.seq for h in headers(config, "sources")} == {0, 1, 3, 4, 5}
    (letter,) = headers(config, "dead_letters")
    assert letter.place == PLACE
    if how == "hang":
        assert "this_is_where_it_hangs" in letter.traceback
        assert codes[: attempts - 1] == [1] * (attempts - 1)
    else:
        assert f"died {attempts} times" in letter.traceback
        assert codes == [-signal.SIGKILL] * attempts + [0]


@pytest.mark.parametrize("how", ["hang", "kill"])
async def test_a_record_that_ends_its_fold_is_noted_and_skipped_for_good(config, relay, images, how):
    def done():
        return len(headers(config, "lightcurves")) >= 5

    codes = await supervised(config, "fold", how, done)
    deaths = config.runtime.max_attempts
    assert len(codes) == deaths + 1
    assert [h.consumed[0].seq for h in headers(config, "lightcurves")] == [0, 1, 3, 4, 5]
    (letter,) = headers(config, "dead_letters")
    assert letter.place == PLACE
    assert f"died {deaths} times" in letter.traceback


async def test_a_hang_is_told_with_its_stack_and_a_result_is_returned():
    leave = threading.Event()

    def stuck_in_here():
        assert leave.wait(60)
        return 1

    with pytest.raises(HangError, match="stuck_in_here"):
        await in_thread(stuck_in_here, 0.05)
    leave.set()
    assert await in_thread(lambda: 7, 60.0) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0, 60.0)


def test_deaths_are_counted_in_a_row_and_only_against_the_record_in_hand(tmp_path):
    path, other = tmp_path / "fold.stepping", Place("images", "0", 0, 9)

    def die(*places):
        with SteppingNote(path) as note:
            for place in places[:-1]:
                note.begin(place)
                note.end()
            note.begin(places[-1])

    def deaths(place):
        with SteppingNote(path) as note:
            return note.deaths(place)

    assert deaths(PLACE) == 0
    die(other, PLACE)
    assert (deaths(PLACE), deaths(other)) == (1, 0)
    die(other, PLACE)
    assert deaths(PLACE) == 2
    die(other)
    assert (deaths(PLACE), deaths(other)) == (0, 1)
    die(PLACE)
    with SteppingNote(path) as note:
        note.begin(PLACE)
        note.end()
    assert deaths(PLACE) == 0


def test_a_note_that_is_nonsense_is_no_obstacle(tmp_path):
    path = tmp_path / "fold.stepping"
    path.write_bytes(b"\xff" * 10_000)
    with SteppingNote(path) as note:
        assert note.deaths(PLACE) == 0
        note.begin(PLACE)
