"""The baseline of everything that extracts: `sep` on pixels in memory, as many processes as cores, nothing else."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import sep

from bench.harness import InvalidRunError
from bench.report import cores
from bench.skies import Pixels
from trapline.source_extractor.config import ExtractorConfig

MESH_PX = ExtractorConfig().mesh_radio_px
THRESHOLD = ExtractorConfig().analysis_threshold
_LARGEST_STACK = 100_000_000


def background_of(pixels: Pixels) -> sep.Background:
    """Return the background on the extractor's mesh."""
    return sep.Background(pixels, bw=MESH_PX, bh=MESH_PX)


def islands_of(flat: Pixels, rms: Pixels, min_area_px: int) -> npt.NDArray[Any]:
    """Return what stands above the extractor's threshold, without filter and deblending."""
    return np.asarray(
        sep.extract(
            flat,
            THRESHOLD,
            err=rms,
            minarea=min_area_px,
            filter_kernel=None,
            deblend_nthresh=1,
            deblend_cont=1.0,
            clean=False,
        )
    )


def extract(pixels: Pixels, min_area_px: int) -> int:
    """Return the number of islands; the pixels stay as they are."""
    flat = pixels.copy()
    background = background_of(flat)
    background.subfrom(flat)
    return len(islands_of(flat, background.rms(dtype=np.float32), min_area_px))


def tune_stack(pixels: Sequence[Pixels], min_area_px: int) -> int:
    """Make sep's pixel stack the fastest that holds these images, and return it: sep takes all of it on each call."""
    fitting = [size for size in (10_000, 30_000, 100_000, 300_000, 1_000_000) if _fits(size, pixels, min_area_px)]
    if not fitting:
        raise InvalidRunError("no pixel stack of sep holds these images")
    times = {size: _seconds(size, pixels[0], min_area_px) for size in fitting[:3]}
    best = min(times, key=lambda size: times[size])
    sep.set_extract_pixstack(best)
    return best


def _fits(size: int, pixels: Sequence[Pixels], min_area_px: int) -> bool:
    sep.set_extract_pixstack(size)
    try:
        for one in pixels:
            extract(one, min_area_px)
    except Exception as error:
        if "pixel buffer full" not in str(error):
            raise
        return False
    return True


def _seconds(size: int, pixels: Pixels, min_area_px: int) -> float:
    sep.set_extract_pixstack(size)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        extract(pixels, min_area_px)
        times.append(time.perf_counter() - start)
    return min(times)


class BareSep:
    """Processes that hold the same images, and extract those that are named."""

    def __init__(self, pool: Any, processes: int, n_images: int) -> None:
        self.processes = processes
        self._pool, self._n_images = pool, n_images

    def images_per_s(self, count: int) -> float:
        """Extract so many images, and return how many that were per second."""
        start = time.perf_counter()
        found = self._pool.map(_extract_numbered, [i % self._n_images for i in range(count)], chunksize=1)
        seconds = time.perf_counter() - start
        if not all(found):
            raise InvalidRunError("bare sep found an image without sources")
        return count / seconds


_images: list[Pixels] = []
_min_area_px = 1


def _begin(pixels: list[Pixels], min_area_px: int) -> None:
    global _min_area_px
    _images[:], _min_area_px = pixels, min_area_px
    tune_stack(pixels[:2], min_area_px)


def _extract_numbered(number: int) -> int:
    return extract(_images[number], _min_area_px)


@contextmanager
def bare_sep(pixels: Sequence[Pixels], min_area_px: int) -> Iterator[BareSep]:
    """Run one process per core, each with all images and a stack that was tuned for them."""
    context, processes = multiprocessing.get_context("spawn"), cores()
    with context.Pool(processes, _begin, (list(pixels), min_area_px)) as pool:
        yield BareSep(pool, processes, len(pixels))
