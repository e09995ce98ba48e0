"""What was measured in an image, still in pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.schemas.columns import Flag
from trapline.source_extractor.beam import PixelBeam

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PixelRows:
    """One row per source: positions 0-based, fluxes and `rms` in the unit of the image.

    `covariance_px` (n, 2, 2) is that of the position (x, y), `shape_px` (n, 2, 2) holds the second moments of the
    source, and `flags` the bits of `Flag`.

    Of the image as a whole, where a method knows it: `left_out` is how many sources it did not measure since there are
    too many, and `psf` the point-spread function of an image without a restoring beam.
    """

    x: Float
    y: Float
    covariance_px: Float
    shape_px: Float
    flux_peak: Float
    flux_peak_err: Float
    flux_int: Float
    flux_int_err: Float
    rms: Float
    chi2_reduced: Float
    flags: npt.NDArray[np.uint32]
    left_out: int = 0
    psf: PixelBeam | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def position_px(self) -> Float:
        """Positions (x, y), (n, 2)."""
        return np.stack([self.x, self.y], axis=-1)

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return what has a value for each row, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in {"left_out", "psf"}}

    def take(self, index: Index | Bool) -> PixelRows:
        """Return these rows in this order."""
        taken: dict[str, Any] = {name: array[index] for name, array in self.arrays().items()}
        return replace(self, **taken)

    def highest(self, most: int) -> PixelRows:
        """Return so many rows at most, those furthest above (or below) the noise, in the order they had."""
        if len(self) <= most:
            return self
        kept = np.sort(np.argsort(-np.abs(self.flux_peak / self.rms), kind="stable")[:most])
        return replace(self.take(kept), left_out=self.left_out + len(self) - most)

    def flagged(self, **conditions: Bool) -> PixelRows:
        """Return the rows with the named bits of `Flag` raised: ``rows.flagged(MASKED=..., BLENDED=...)``."""
        raised = self.flags.copy()
        for name, condition in conditions.items():
            raised[condition] |= np.uint32(Flag[name])
        return replace(self, flags=raised)


def choose(first_is_good: Bool, first: PixelRows, second: PixelRows) -> PixelRows:
    """Return each row from the first where that is good, else from the second."""
    other, chosen = second.arrays(), dict[str, Any]()
    for name, array in first.arrays().items():
        chosen[name] = np.where(first_is_good.reshape(-1, *[1] * (array.ndim - 1)), array, other[name])
    return replace(first, **chosen)


def no_flags(rows: int) -> npt.NDArray[np.uint32]:
    """Return flags of which none is raised."""
    return np.zeros(rows, np.uint32)


def symmetric(xx: Float, xy: Float, yy: Float) -> Float:
    """Return (n, 2, 2) symmetric matrices from their elements."""
    return np.stack([np.stack([xx, xy], axis=-1), np.stack([xy, yy], axis=-1)], axis=-2)
