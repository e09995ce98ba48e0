"""The associator as a daemon: garbage on its inputs, dead letters, and two extractors, through a real relay."""

import asyncio
import contextlib

import msgspec
import pytest
from typer.testing import CliRunner

from associator_images import image, sources
from trapline.associator.service import run
from trapline.cli import app
from trapline.common.ids import record_id
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.journal.layout import SUFFIX
from trapline.common.runtime.daemon import open_context
from trapline.common.runtime.snapshot import read_snapshot
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.header import Place
from trapline.schemas.images import SCHEMA, Images
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.status import DEAD_LETTERS_SCHEMA, DeadLetter
from waiting import until


class Sky:
    """The journals of a mesh, written by hand."""

    def __init__(self, config):
        self.config = config
        self.writers = {}

    def append(self, name, frames):
        if name not in self.writers:
            self.writers[name] = JournalWriter(self.config.journal_directory / name)
        return Place(*name.split("/"), self.writers[name].epoch, self.writers[name].append(frames))

    def add_image(self, number):
        made = image(number)
        header = Images(schema=SCHEMA, id=record_id(made.t_start_us, SCHEMA, made.id), image=made)
        return made, self.append("images/0", encode(Message(header)))

    def add_sources(self, made, place, partition="0"):
        message = sources(made, [10.0], [50.0])
        header = msgspec.structs.replace(message.header, image=msgspec.structs.replace(made, place=place))
        return self.append(f"sources/{partition}", encode(Message(header, message.arrays)))

    def told(self):
        """Return the messages on `lightcurves`."""
        path = self.config.journal_directory / "lightcurves" / "0"
        reader = PartitionReader(path) if path.exists() else None
        if not reader or not reader.next_seq:
            return []
        slab = reader.slab(0, max_bytes=1 << 24, max_records=1000)
        return [decode([slab.data[o : o + n] for o, n in entry.spans]) for entry in slab.entries]

    def close(self):
        for writer in self.writers.values():
            writer.close()


@pytest.fixture
def sky(tmp_path):
    config = mesh_config(tmp_path, associator={"max_hold_s": None, "idle_after_s": None}, runtime={"snapshot_s": 0.1})
    made = Sky(config)
    with running_relay(config):
        yield made
    made.close()


@contextlib.asynccontextmanager
async def associating(sky):
    async with open_context("associator", sky.config, "0") as context:
        work = asyncio.create_task(run(context))
        yield context
        context.draining.set()
        await asyncio.wait_for(work, 20)


async def test_garbage_on_its_inputs_is_noted_once_and_the_next_image_is_folded(sky):
    for number in range(3):
        made, place = sky.add_image(number)
        sky.append("images/0", [b"\xc1"])
        sky.append("sources/0", [b"not msgpack", b"x"])
        sky.append("sources/stranger", [])
        sky.add_sources(made, place)
    async with associating(sky) as context:
        await until(lambda: len(sky.told()) == 3)
        await until(lambda: context.counters["dead_letters"] == 9)
    made, place = sky.add_image(3)
    sky.add_sources(made, place, "1")
    async with associating(sky) as context:
        await until(lambda: len(sky.told()) == 4)
        assert context.counters["dead_letters"] == 0, "noted before"
    assert [len(m.arrays["point_id"]) for m in sky.told()] == [1, 1, 1, 1]
    assert PartitionReader(sky.config.journal_directory / "dead_letters/associator-0").next_seq == 9


def rebuilt(sky, **changes):
    """Run `trapline associator rebuild` on the directory of a mesh."""
    variables = {"TRAPLINE__MESH__DATA_DIRECTORY": str(sky.config.data_directory)} | changes
    return CliRunner().invoke(app, ["associator", "rebuild"], env=variables)


async def test_the_state_is_made_anew_from_the_journals(sky):
    for number in range(5):
        made, place = sky.add_image(number)
        sky.add_sources(made, place, str(number % 2))
    path = sky.config.data_directory / "snapshots" / "associator-0.snapshot"
    async with associating(sky):
        await until(lambda: len(sky.told()) == 5)
        refused = rebuilt(sky)
        assert refused.exit_code == 1
        assert "stop the associator first" in refused.output
    before, told = read_snapshot(path), [m.header.id for m in sky.told()]
    done = rebuilt(sky)
    assert done.exit_code == 0, done.output
    assert "anew from 5 records" in done.output
    assert not path.exists()
    made, place = sky.add_image(5)
    sky.add_sources(made, place)
    async with associating(sky):
        await until(lambda: len(sky.told()) == 6)
    assert [m.header.id for m in sky.told()][:5] == told, "nothing is said twice"
    assert [len(m.arrays["point_id"]) for m in sky.told()] == [1] * 6
    after = read_snapshot(path)
    assert after.arrays["0.objects.n_blind"].tolist() == [6]
    assert after.arrays["0.objects.object_id"].tolist() == before.arrays["0.objects.object_id"].tolist()


def test_a_state_whose_beginning_is_gone_is_not_made_anew(tmp_path):
    config = mesh_config(tmp_path)
    for name in ("lightcurves/0", "images/0"):
        writer = JournalWriter(config.journal_directory / name, segment_bytes=4096)
        for _ in range(9):
            writer.append([b"x" * 3000])
        writer.close()
    min((config.journal_directory / "images" / "0").glob(f"*{SUFFIX}")).unlink()
    snapshot = config.data_directory / "snapshots" / "associator-0.snapshot"
    snapshot.parent.mkdir(parents=True)
    snapshot.write_bytes(b"x")
    refused = CliRunner().invoke(
        app, ["associator", "rebuild"], env={"TRAPLINE__MESH__DATA_DIRECTORY": str(config.data_directory)}
    )
    assert refused.exit_code == 1
    assert "images/0 begins at record" in refused.output
    assert snapshot.exists()


async def test_sources_that_it_cannot_take_cost_one_image_its_rows_and_no_other(sky):
    places = []
    for number in range(4):
        made, place = sky.add_image(number)
        if number == 1:
            made = msgspec.structs.replace(made, band=None)
        places.append(sky.add_sources(made, place))
    async with associating(sky) as context:
        await until(lambda: len(sky.told()) == 4)
        assert "no start or no band" in context.last_error
    rows = [len(m.arrays["point_id"]) for m in sky.told()]
    assert rows == [1, 0, 1, 1]
    letters = PartitionReader(sky.config.journal_directory / "dead_letters/associator-0")
    slab = letters.slab(0, max_bytes=1 << 20, max_records=9)
    (letter,) = [decode([slab.data[o : o + n] for o, n in e.spans]).header for e in slab.entries]
    assert letter.place == places[1]


async def test_an_image_that_the_extractors_gave_up_is_passed_without_rows(sky):
    dead, dead_place = sky.add_image(0)
    made, place = sky.add_image(1)
    sky.add_sources(made, place)
    async with associating(sky):
        header = DeadLetter(
            schema=DEAD_LETTERS_SCHEMA,
            id=record_id(0, DEAD_LETTERS_SCHEMA, b"x"),
            service="source_extractor",
            place=dead_place,
            traceback="",
        )
        assert sky.told() == []
        sky.append("dead_letters/source_extractor-1", encode(Message(header)))
        await until(lambda: len(sky.told()) == 2)
    assert [m.header.image.id for m in sky.told()] == [dead.id, made.id]
    assert [len(m.arrays["point_id"]) for m in sky.told()] == [0, 1]
