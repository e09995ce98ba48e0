"""`extract`: the extractor against bare sep, stage by stage. No target: the pipeline has one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import sep

from bench.bare import background_of, extract, islands_of, tune_stack
from bench.harness import Comparison, Note, Size, in_pairs, seconds_of
from bench.skies import Pixels, Sky
from trapline.common.wcs import parse_wcs
from trapline.schemas.image import Image
from trapline.schemas.message import decode, encode
from trapline.source_extractor.beam import PixelBeam, pixel_beam, reference_axes
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure, measure_image
from trapline.source_extractor.detection import detect
from trapline.source_extractor.noise import flatten, noise_range
from trapline.source_extractor.radio import measure_radio

_CASES: dict[Size, tuple[tuple[int, int], ...]] = {
    "small": ((512, 50),),
    "full": ((1024, 100), (1024, 1000), (2300, 100), (2300, 1000)),
}
_PAIRS: dict[Size, int] = {"small": 5, "full": 20}


def stages(size: Size) -> list[Comparison]:
    """Compare milliseconds per image, and note those of each stage of both."""
    return [_compare(size, *case) for case in _CASES[size]]


def beam_of(image: Image) -> PixelBeam:
    """Return the beam of an image on its pixels, as the extractor makes it."""
    assert image.wcs is not None
    assert image.beam is not None
    assert image.shape is not None
    return pixel_beam(image.beam, reference_axes(parse_wcs(image.wcs), image.shape))


def min_area_px(image: Image, settings: ExtractorConfig) -> int:
    """Return the smallest island, as the extractor chooses it."""
    return max(1, int(settings.min_area_beams * beam_of(image).area_px))


def _compare(size: Size, side_px: int, n_sources: int) -> Comparison:
    sky, settings = Sky.of(side_px, n_sources, 1), ExtractorConfig()
    pixels, image = sky.pixels[0], image_of(sky)
    smallest = min_area_px(image, settings)
    found = len(measure(pixels, image, settings).columns["kind"])
    stack = tune_stack(sky.pixels, smallest)

    def ours() -> float:
        return 1e3 * seconds_of(lambda: measure(pixels, image, settings))

    def bare() -> float:
        # Both use the one stack that sep has in a process.
        sep.set_extract_pixstack(stack)
        return 1e3 * seconds_of(lambda: extract(pixels, smallest))

    values = in_pairs(ours, bare, _PAIRS[size], warm_up=2)
    stages = {**_our_stages(sky, settings), **_bare_stages(pixels, smallest)}
    notes: dict[str, Note] = {f"{name}, ms at best": 1e3 * _best_s(work) for name, work in stages.items()}
    megapixels, theirs = side_px**2 / 1e6, ("sep: background", "sep: subtract", "sep: rms map")
    for name, parts in (("ours", ("ours: background and noise",)), ("sep", theirs)):
        spent_s = sum(_best_s(stages[part], time.process_time) for part in parts)
        notes[f"{name}: background and noise, processor ms a megapixel"] = 1e3 * spent_s / megapixels
    case = f"{side_px} px, {n_sources} sources"
    return Comparison(case, "ms", *values, notes={"sources measured": found, "pixel stack": stack, **notes})


def _our_stages(sky: Sky, settings: ExtractorConfig) -> dict[str, Callable[[], Any]]:
    """Return what the extractor does to an image, some of it inside of what stands before it."""
    pixels, image = sky.pixels[0], image_of(sky)
    beam, smallest = beam_of(image), min_area_px(image, settings)
    noise = flatten(pixels, None, settings.mesh_radio_px, beam.smallest_sigma_px)
    frames = encode(sky.message())
    sources = measure_image(sky.message(), settings, None)
    return {
        "ours: decode images": lambda: decode(frames),
        "ours: background and noise": lambda: flatten(pixels, None, settings.mesh_radio_px, beam.smallest_sigma_px),
        "ours: background and noise, pixels each for itself": lambda: flatten(pixels, None, settings.mesh_optical_px),
        "ours: detection": lambda: detect(noise, settings, smallest, beam),
        "ours: detection and fit": lambda: measure_radio(noise, beam, settings),
        "ours: range of the noise": lambda: noise_range(noise, image),
        "ours: all of an image": lambda: measure(pixels, image, settings),
        "ours: encode sources": lambda: encode(sources),
    }


def _bare_stages(pixels: Pixels, smallest: int) -> dict[str, Callable[[], Any]]:
    background = background_of(pixels)
    flat, rms = pixels - background.back(dtype=np.float32), background.rms(dtype=np.float32)
    scratch = pixels.copy()
    return {
        "sep: copy": pixels.copy,
        "sep: background": lambda: background_of(pixels),
        "sep: subtract": lambda: background.subfrom(scratch),
        "sep: rms map": lambda: background.rms(dtype=np.float32),
        "sep: extract": lambda: islands_of(flat, rms, smallest),
    }


def image_of(sky: Sky) -> Image:
    """Return the description of the first image of a sky."""
    image = sky.message().header.image
    assert image is not None
    return image


def _best_s(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    # Single calls on a shared machine: the fastest says most about the work.
    return min(seconds_of(work, clock=clock) for _ in range(9))
