"""Replicas as processes of their own, started without a supervisor: what they share, and what they do not wait for."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from extractor_skies import grid_field, make_image, round_beam
from mesh_runs import ROOT, TRAPLINE, environment
from trapline.common.config.mesh import MeshConfig
from trapline.common.ids import fact_id
from trapline.common.journal import PartitionReader
from trapline.common.runtime.daemon import open_context
from trapline.common.runtime.threads import ONE_THREAD
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.image import Band
from trapline.schemas.images import SCHEMA, Images
from trapline.schemas.message import Message, decode_header
from waiting import until

IMAGE = make_image((200, 240), round_beam(4), margin_px=10, band=Band("test", 60e6, 1e5))
FIELD = grid_field(1, IMAGE, spacing_px=48, snr=(20, 90))
IMAGES, SLOW = 40, (3, 20)
# An image that takes as long as the others together, whatever the machine: until it is told that they are done.
STUCK = """
    import time
    from pathlib import Path
    from trapline.source_extractor.methods import ours

    def extract(scene, settings):
        if scene.image.origin == "slow":
            Path(__file__).with_name(f"begun-{scene.image.id.hex()}").touch()
            while not Path(__file__).with_name("go on").exists():
                time.sleep(0.01)
        return ours(scene, settings)
"""


@contextlib.contextmanager
def replicas(config: MeshConfig, directory: Path, number: int, command: list[str]) -> Iterator[list[subprocess.Popen]]:
    """Run replicas as a person would start them, with a method from this directory."""
    free = {name: value for name, value in environment().items() if name not in ONE_THREAD}
    variables = {
        "TRAPLINE__MESH__DATA_DIRECTORY": str(config.data_directory),
        "TRAPLINE__RELAY__PORT": "0",
        "TRAPLINE__SOURCE_EXTRACTOR__METHOD": "stuck:extract",
        "PYTHONPATH": os.pathsep.join([str(directory), str(ROOT / "tests")]),
    }
    started = [
        subprocess.Popen([*command, "--replica", str(i)], env={**free, **variables}, cwd=directory)
        for i in range(number)
    ]
    try:
        yield started
    finally:
        for child in started:
            child.kill()
            child.wait()


def sources(config: MeshConfig) -> dict[bytes, list[str]]:
    """Return the partitions that hold the sources of each image."""
    found: dict[bytes, list[str]] = {}
    for directory in sorted((config.journal_directory / "sources").glob("*")):
        reader = PartitionReader(directory)
        for seq in range(reader.first_seq, reader.next_seq):
            slab = reader.slab(seq, max_bytes=1, max_records=1)
            start, length = slab.entries[0].spans[0]
            header = decode_header(slab.data[start : start + length])
            found.setdefault(header.image.id, []).append(directory.name)
    return found


def variables_of(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/environ").read_text().split("\0"))


def record(number: int) -> Message[Images]:
    image = msgspec.structs.replace(IMAGE, id=image_id(number), origin="slow" if number in SLOW else "quick")
    return Message(Images(schema=SCHEMA, id=fact_id(0, "test", number), image=image), {"pixels": FIELD.pixels})


def image_id(number: int) -> bytes:
    return fact_id(0, "image", number)


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "-m", "trapline.source_extractor"], [*TRAPLINE, "run", "source_extractor"]],
    ids=["python -m", "trapline run"],
)
async def test_slow_images_delay_no_other_and_libraries_have_one_thread(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "stuck.py").write_text(textwrap.dedent(STUCK))
    config = mesh_config(tmp_path / "data")
    with running_relay(config):
        async with open_context("image_ingest", config, "0") as feed:
            feed.outputs.append([record(number) for number in range(IMAGES)])
            with replicas(config, tmp_path, 3, command) as children:
                # Two of three replicas are stuck for as long as it takes the third to do everything else.
                await until(lambda: len(list(tmp_path.glob("begun-*"))) == len(SLOW), 60)
                await until(lambda: len(sources(config)) == IMAGES - len(SLOW), 60)
                assert not {image_id(number) for number in SLOW} & sources(config).keys()
                assert all({f"{name}=1" for name in ONE_THREAD} <= variables_of(child.pid) for child in children)
                (tmp_path / "go on").touch()
                await until(lambda: len(sources(config)) == IMAGES, 60)
    assert all(len(partitions) == 1 for partitions in sources(config).values()), "each is measured once"
    assert {partition for partitions in sources(config).values() for partition in partitions} == {"0", "1", "2"}
    assert not list((config.journal_directory / "dead_letters").glob("*/*.seg*"))
