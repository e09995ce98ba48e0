"""What was measured in an image, still in pixels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from trapline.schemas.columns import Flag

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PixelRows:
    """One row per source: positions 0-based, fluxes and `rms` in the unit of the image.

    `covariance_px` (n, 2, 2) is that of the position (x, y), `shape_px` (n, 2, 2) holds the second moments of the
    source, and `flags` the bits of `Flag`.
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

    def __len__(self) -> int:
        return len(self.x)

    @property
    def position_px(self) -> Float:
        """Positions (x, y), (n, 2)."""
        return np.stack([self.x, self.y], axis=-1)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array."""
        return {f.name: np.shape(getattr(self, f.name)) for f in fields(self)}

    def take(self, index: Index | Bool) -> PixelRows:
        """Return these rows in this order."""
        return PixelRows(*(getattr(self, f.name)[index] for f in fields(self)))

    def flagged(self, **conditions: Bool) -> PixelRows:
        """Return the rows with the named bits of `Flag` raised: ``rows.flagged(MASKED=..., BLENDED=...)``."""
        raised = self.flags.copy()
        for name, condition in conditions.items():
            raised[condition] |= np.uint32(Flag[name])
        return replace(self, flags=raised)


def choose(first_is_good: Bool, first: PixelRows, second: PixelRows) -> PixelRows:
    """Return each row from the first where that is good, else from the second."""
    return PixelRows(
        *(
            np.where(first_is_good.reshape(-1, *[1] * (a.ndim - 1)), a, b)
            for a, b in ((getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
        )
    )


def no_flags(rows: int) -> npt.NDArray[np.uint32]:
    """Return flags of which none is raised."""
    return np.zeros(rows, np.uint32)


def symmetric(xx: Float, xy: Float, yy: Float) -> Float:
    """Return (n, 2, 2) symmetric matrices from their elements."""
    return np.stack([np.stack([xx, xy], axis=-1), np.stack([xy, yy], axis=-1)], axis=-2)
