"""Islands of connected pixels above the noise, positive and negative.

Without a convolution they are ours (`islands.py`, `peaks.py`), which is four times as fast; else sep's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sep

from trapline.source_extractor.beam import PixelBeam
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.islands import Limits, islands_above
from trapline.source_extractor.noise import Flattened, Pixels

Float = npt.NDArray[np.float64]
Kernel = npt.NDArray[np.float32]

# How much larger than configured the pixel stack stays after a crowded image; beyond that it grows for one image only.
_KEPT_GROWTH = 16
_MOST_PARTS = 4096
"""Parts that sep may take an island into: its time and memory grow with their square. Larger islands stay whole."""
_OVERFLOW = "deblending overflow"  # sep's errors differ by their text alone
# A contrast of 1 switches deblending off, but sep still tries every level: one is five times faster.
_WHOLE: dict[str, Any] = {"deblend_nthresh": 1, "deblend_cont": 1.0}
_MOST_DIVIDED_PX = 1 << 20
"""Pixels of unfinished islands, with more of which none is taken apart: that takes 700 bytes and 1.5 us a pixel."""


@dataclass(frozen=True, slots=True)
class Islands:
    """Islands whose peak is above the detection threshold.

    A table with the columns of sep, and the sign of each: its pixels are those of the image times that.
    """

    table: npt.NDArray[Any]
    sign: Float
    left_out: int = 0
    """how many more there are, fainter than these"""

    def __len__(self) -> int:
        return len(self.table)

    def column(self, name: str) -> Float:
        """Return one column of the table as float64."""
        return np.asarray(self.table[name], np.float64)

    def flagged(self, bit: int) -> npt.NDArray[np.bool_]:
        """Return where one of sep's flags is raised."""
        return np.asarray((self.table["flag"] & bit) != 0)

    def rms(self, noise: Flattened) -> Float:
        """Return the noise at the peaks."""
        return np.asarray(noise.rms[self.table["ypeak"], self.table["xpeak"]], np.float64)


def detect(noise: Flattened, settings: ExtractorConfig, min_area_px: int, smooth: PixelBeam | Kernel) -> Islands:
    """Return islands above the analysis threshold that hold a peak above the detection threshold.

    Of more than `most_sources` the highest, in units of the noise: that bounds what one image may cost.

    Parameters
    ----------
    noise
        The image without background, and its noise.
    settings
        Thresholds, deblending, and whether negative sources are wanted.
    min_area_px
        Smallest number of pixels of an island.
    smooth
        The beam that noise and sources are as smooth as, or the kernel of a convolution before detection.
    """
    found = [(1.0, _above(noise.flat, noise.rms, settings, min_area_px, smooth))]
    if settings.negative:
        found.append((-1.0, _above(-noise.flat, noise.rms, settings, min_area_px, smooth)))
    sign = np.concatenate([np.full(len(table), value) for value, table in found])
    tables: Any = [table for _, table in found]
    islands = Islands(np.concatenate(tables) if settings.negative else tables[0], sign)
    return _highest(islands, noise, settings.most_sources)


def _highest(islands: Islands, noise: Flattened, most: int) -> Islands:
    """Return so many islands at most, in the order they had; of equal ones the first."""
    if len(islands) <= most:
        return islands
    snr = islands.column("peak") / islands.rms(noise)
    kept = np.sort(np.argsort(-snr, kind="stable")[:most])
    return Islands(islands.table[kept], islands.sign[kept], len(islands) - most)


def _above(
    flat: Pixels, rms: Pixels, settings: ExtractorConfig, min_area_px: int, smooth: PixelBeam | Kernel
) -> npt.NDArray[Any]:
    if isinstance(smooth, PixelBeam):
        thresholds = settings.analysis_threshold, settings.detection_threshold
        limits = Limits(*thresholds, min_area_px, settings.deblend_sigma)
        return islands_above(flat, rms, limits, smooth if settings.deblend else None)
    divided = {"deblend_nthresh": settings.deblend_levels, "deblend_cont": settings.deblend_contrast}
    table = _stack.extract(
        flat,
        settings.analysis_threshold,
        settings.pixel_stack_px,
        err=rms,
        minarea=min_area_px,
        filter_kernel=smooth,
        clean=False,
        **(divided if settings.deblend else _WHOLE),
    )
    peak_rms = rms[table["ypeak"], table["xpeak"]].astype(np.float64)
    return np.asarray(table[table["peak"] > settings.detection_threshold * peak_rms])


class _PixelStack:
    """sep takes memory for its whole stack of pixels on each call: kept small, grown when an image needs it."""

    def __init__(self) -> None:
        self._kept = 0

    def extract(self, flat: Pixels, threshold: float, configured: int, **options: Any) -> npt.NDArray[Any]:
        size = max(self._kept, configured)
        while True:
            sep.set_extract_pixstack(size)
            try:
                table = sep.extract(flat, threshold, **options)
            except Exception as error:
                overflow = _OVERFLOW in str(error)
                larger = size if overflow else _larger(str(error), size, flat.size)
                if larger is None:
                    raise
                size = larger
                if size > _MOST_DIVIDED_PX or (overflow and not _more_parts()):
                    options |= _WHOLE
            else:
                self._kept = min(size, _KEPT_GROWTH * configured)
                return np.asarray(table)


def _larger(error: str, size: int, most: int) -> int | None:
    """Return the stack to try next, or None when more memory is no answer."""
    return 4 * size if "pixel buffer full" in error and size <= most else None


def _more_parts() -> bool:
    """Let sep take islands into more parts; return whether that is allowed."""
    limit = sep.get_sub_object_limit()
    if limit < _MOST_PARTS:
        sep.set_sub_object_limit(min(4 * limit, _MOST_PARTS))
    return bool(limit < _MOST_PARTS)


_stack = _PixelStack()
