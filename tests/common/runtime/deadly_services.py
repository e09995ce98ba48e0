"""Services that some of their inputs end: run as processes of their own by the tests, as a supervisor would.

python deadly_services.py worker|fold DATA_DIRECTORY HOW: HOW is ``hang`` or ``kill``, and happens at seq 2 of `images`.
"""

import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import msgspec

from trapline.common.config.mesh import load_config
from trapline.common.ids import fact_id
from trapline.common.runtime.daemon import Service, main
from trapline.common.runtime.fold import FoldRunner
from trapline.common.runtime.order import ArrivalOrder
from trapline.common.runtime.worker import Worker
from trapline.schemas.lightcurves import POINTS, Lightcurves
from trapline.schemas.lightcurves import SCHEMA as LIGHTCURVES_SCHEMA
from trapline.schemas.message import Message
from trapline.schemas.sources import COLUMNS, SCHEMA, Sources

DEADLY = 2


def deadly(how, seq):
    if seq == DEADLY and how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if seq == DEADLY and how == "hang":
        this_is_where_it_hangs()


def this_is_where_it_hangs():
    threading.Event().wait()


class DeadlyFold:
    """A fold whose output follows from its inputs, if it lives to tell."""

    reads, reads_headers, writes = ("images",), (), ("lightcurves",)
    order, initial = staticmethod(ArrivalOrder), staticmethod(lambda: {"n": 0})
    dump, load = staticmethod(lambda s: (s, {})), staticmethod(lambda header, _: dict(header))
    counters = staticmethod(lambda s: {"n": s["n"]})

    def __init__(self, how):
        self.how = how

    def step(self, state, inputs):
        (record,) = inputs.records
        if inputs.skipped:
            return
        deadly(self.how, record.place.seq)
        state["n"] += 1
        header = Lightcurves(
            schema=LIGHTCURVES_SCHEMA, id=fact_id(0, "deadly", record.place.seq), image=record.header.image
        )
        yield Message(header, POINTS.empty())


def worker(how):
    def handle(record):
        deadly(how, record.place.seq)
        image = msgspec.structs.replace(record.header.image, place=record.place)
        sources = Sources(schema=SCHEMA, id=fact_id(0, "sources", record.place.seq), image=image)
        return [Message(sources, COLUMNS.empty())]

    async def run(context):
        await Worker(context, handle, ("images",)).run()

    return Service("source_extractor", run)


def fold(how):
    async def run(context):
        await FoldRunner(context, DeadlyFold(how)).run()

    return Service("associator", run)


if __name__ == "__main__":
    kind, directory, how = sys.argv[1:]
    os.environ["TRAPLINE__MESH__DATA_DIRECTORY"] = directory
    os.environ["TRAPLINE__RUNTIME__MAX_RUNTIME_S"] = "0.5"
    load_config()
    sys.exit(main({"worker": worker, "fold": fold}[kind](how), ["--supervised"]))
