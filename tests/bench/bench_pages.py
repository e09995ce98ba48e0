"""`pages`: how long each page takes, warm, with very many points in the store, against a hundredth of them.

The ratio is reported, not judged; wanted are 300 ms for any page.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import lightcurve_messages as mesh
from bench.bench_flat import SIZES, filled
from bench.filling import Fill
from bench.harness import Comparison, Note, Size, in_pairs, percentile
from dashboard_night import Night, running_night
from trapline.common.postgres.cluster import Cluster
from trapline.common.testing.postgres import fresh_database, temporary_cluster

_STAR = "018bcfe5-687b-8000-8000-000000000000"
_PAGES = (
    "/", "/transients", "/objects", "/objects?position=10+10&radius=2+deg", f"/objects/{_STAR}",
    f"/objects/{_STAR}/curve?most=4000", "/objects/population", "/images", "/log", "/sky",
    # These are in proportion to the objects, of which there are a hundred times as many too.
    "/objects?sort=-eta", "/objects/population.bin", "/sky/objects",
)  # fmt: skip


def pages(size: Size) -> list[Comparison]:
    """Compare each page of a full store with that of a small one."""
    sizes = SIZES[size]
    with ExitStack() as stack:
        cluster = stack.enter_context(temporary_cluster(durable=True))
        nights = [_night(stack, cluster, fill) for fill in (sizes.full, sizes.less)]
        found = []
        for path in _PAGES:
            askers = [partial(_seconds, night, path) for night in nights]
            ours, baseline = in_pairs(*askers, pairs=sizes.pairs, warm_up=2)
            notes: dict[str, Note] = {"p95": f"{1000 * percentile(ours, 95):.0f} ms"}
            found.append(Comparison(path.replace(_STAR, "ID"), "s", ours, baseline, None, notes))
    return found


def _night(stack: ExitStack, cluster: Cluster, fill: Fill) -> Night:
    dsn = stack.enter_context(fresh_database(cluster))
    asyncio.run(_fill(dsn, fill))
    directory = Path(stack.enter_context(TemporaryDirectory(prefix="trapline-bench-")))
    night: Night = stack.enter_context(running_night(directory, dsn))
    night.append(*[mesh.images_message(i) for i in range(20)])
    return night


async def _fill(dsn: str, fill: Fill) -> None:
    async with AsyncExitStack() as stack:
        await filled(stack, dsn, fill)


def _seconds(night: Night, path: str) -> float:
    start = time.perf_counter()
    with urllib.request.urlopen(f"{night.address.rstrip('/')}{path}", timeout=120) as answer:
        answer.read()
    return time.perf_counter() - start
