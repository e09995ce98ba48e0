"""The finder as a daemon through a real relay: killed again and again it says what it would have said undisturbed."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest

from finder_records import answer, asked, changed, forked, record, run
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.runtime import fold
from trapline.common.runtime.daemon import open_context
from trapline.common.runtime.fold import FoldRunner
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.columns import Flag, Link
from trapline.schemas.header import Place
from trapline.schemas.images import Images
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.sources import COLUMNS, Sources
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.service import FinderFold, FinderRunner
from waiting import until

SETTINGS = FinderConfig(min_points=4, cutout_px=0)
LIMITS = {"limit_low": 1.0, "limit_high": 2.0, "n_earlier": 20, "link": int(Link.NEW)}


def night():
    """A night with everything in it: flares, values that come later, a fork, new sources, vetoes, garbage."""
    random, made, outstanding = np.random.default_rng(8), [], []
    for number in range(120):
        star, flux = number % 5, float(random.choice([1.0, 1.0, 1.0, 9.0]))
        if random.random() < 0.3:
            made.append(asked(number, star))
            outstanding.append(answer(number, star, flux))
        else:
            made.append(record(number, star, flux))
        if number % 10 == 9:
            flags = int(Flag.NEAR_EDGE) * (number % 20 == 9)
            made.append(record(number, 20 + number, 3.0, band="70 MHz", flags=flags, **LIMITS))
        if outstanding and random.random() < 0.4:
            made.append(outstanding.pop(0))
        if number == 60:
            made.append(forked(number, 0, [10, 11], [1.0, 9.0]))
    return [*made, *outstanding]


def told(config, channel):
    """Return what the finder said on a channel: headers without what the clock and the places put in, and columns."""
    path = config.journal_directory / channel / "0"
    reader, found = PartitionReader(path) if path.exists() else None, []
    while reader and len(found) < reader.next_seq:
        slab = reader.slab(len(found), max_bytes=1 << 22, max_records=1000)
        messages = [decode([slab.data[o : o + n] for o, n in e.spans]) for e in slab.entries]
        plain = ("t_pub_us", "consumed", "producer", "config", "frames")
        found += [
            ({name: getattr(m.header, name) for name in m.header.__struct_fields__ if name not in plain},
             {name: array.tobytes() for name, array in m.arrays.items()})
            for m in messages
        ]  # fmt: skip
    return found


@contextlib.asynccontextmanager
async def finding(config, *, kill=False):
    """Run the finder while the block lasts; end it in an orderly way, or as `kill -9` would."""
    async with open_context("transient_finder", config, "0") as context:
        runner = FoldRunner(context, FinderFold(SETTINGS))
        work = asyncio.create_task(runner.run())
        yield context
        if kill:
            runner._save = asyncio.Event().wait  # whatever was not written by now never is
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        else:
            context.draining.set()
            await asyncio.wait_for(work, 20)


@pytest.fixture
def config(tmp_path):
    made = mesh_config(tmp_path, runtime={"snapshot_s": 0.001})
    with running_relay(made):
        yield made


async def test_an_event_says_when_each_service_was_done(config):
    first = record(20, 3, 3.0, **LIMITS)
    image = Message(Images(schema="trapline.images/1.0", id=bytes(16), producer="image_ingest/0", t_pub_us=1000))
    sources = Message(
        Sources(schema="x", id=bytes(16), image=first.header.image, producer="source_extractor/1", t_pub_us=3000),
        COLUMNS.empty(),
    )
    writers = {
        name: JournalWriter(config.journal_directory / name / "0") for name in ("images", "sources", "lightcurves")
    }
    writers["images"].append([b"another"])
    places = [
        Place(name, "0", writers[name].epoch, writers[name].append(encode(message)))
        for name, message in (("sources", sources), ("images", image))
    ]
    writers["lightcurves"].append(encode(changed(first, consumed=places, producer="associator/0", t_pub_us=4500)))
    writers["lightcurves"].append(
        encode(record(21, 4, 3.0, header={"consumed": [Place("images", "0", 0, 99)]}, **LIMITS))
    )
    async with open_context("transient_finder", config, "0") as context:
        work = asyncio.create_task(FinderRunner(context, SETTINGS).run())
        await until(lambda: context.counters["published_transients"] == 2)
        context.draining.set()
        await asyncio.wait_for(work, 20)
    (known, _), (unknown, _) = told(config, "transients")
    assert [(stage.producer, stage.t_pub_us) for stage in known["timeline"]] == [
        ("image_ingest/0", 1000), ("source_extractor/1", 3000), ("associator/0", 4500),
    ]  # fmt: skip
    assert [stage.producer for stage in unknown["timeline"]] == [""]
    for writer in writers.values():
        writer.close()


async def test_killed_at_any_time_it_says_the_same_and_nothing_twice(config):
    records, random = night(), np.random.default_rng(3)
    writer = JournalWriter(config.journal_directory / "lightcurves" / "0")
    written = 0
    while written < len(records):
        batch = records[written : written + int(random.integers(1, 25))]
        async with finding(config, kill=True) as context:
            for one in batch:
                writer.append(encode(one))
            written += len(batch)
            wanted = random.random() * len(batch)
            await until(lambda context=context, wanted=wanted: context.counters["steps"] >= wanted)
    writer.append([b"garbage"])
    events, vetoed = expected(records)
    async with finding(config) as context:
        await until(lambda: context.counters["dead_letters"] == 1)
        await until(lambda: len(told(config, "transients")) >= len(events))
    found = told(config, "transients")
    assert len(found) > 30
    assert [header["id"] for header, _ in found] == [h.id for h, _ in events]
    for (header, arrays), (wanted, columns) in zip(found, events, strict=True):
        assert {name: getattr(wanted, name) for name in header} == header
        assert arrays == columns
    assert [header["id"] for header, _ in told(config, "suppressed")] == [h.id for h, _ in vetoed]
    assert len(vetoed) == 6
    writer.close()


async def test_a_snapshot_while_it_makes_again_what_it_said_forgets_nothing_of_it(config, monkeypatch):
    """Each start has lost its snapshot or one taken half-way; steps and snapshots take turns."""
    monkeypatch.setattr(fold, "_BURST_S", 1e-6)
    records, snapshot = night(), config.data_directory / "snapshots" / "transient_finder-0.snapshot"
    # What it said last is not of its first channel.
    end = 1 + max(number for number, one in enumerate(run(records, SETTINGS)) if one.suppressed)
    with JournalWriter(config.journal_directory / "lightcurves" / "0") as writer:
        for one in records[:end]:
            writer.append(encode(one))
        async with finding(config) as context:
            await until(lambda: context.counters["steps"] == end)
        said = [[header["id"] for header, _ in told(config, channel)] for channel in ("transients", "suppressed")]
        assert all(said)
        for before in range(6, 0, -1):
            snapshot.unlink()
            for steps in (end - before, 1):
                async with finding(config, kill=True) as context:
                    # Where the snapshot has everything, nothing is left to step.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            await until(lambda context=context, steps=steps: context.counters["steps"] >= steps)
        writer.append([b"garbage"])
        async with finding(config) as context:
            await until(lambda: context.counters["dead_letters"] == 1)
    again = [[header["id"] for header, _ in told(config, channel)] for channel in ("transients", "suppressed")]
    assert again == said


def expected(records):
    """Return what an undisturbed run says: events, and what is kept back."""
    judged = run(records, SETTINGS)
    return tuple(
        [(m.header, {name: a.tobytes() for name, a in m.arrays.items()}) for one in judged for m in getattr(one, name)]
        for name in ("messages", "suppressed")
    )
