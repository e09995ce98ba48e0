"""Which pixels of an image lie under windows around many positions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trapline.source_extractor.noise import Flattened

Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]


def pixel_index(noise: Flattened, place: Int) -> tuple[Int, Bool, Bool]:
    """Return the flat index of pixels, which of them are usable, and which windows hold masked ones.

    Parameters
    ----------
    noise
        The image.
    place
        Pixels (x, y) of n windows, (n, m, 2); they may lie beyond its edges: those have an index, and are not usable.

    Returns
    -------
    index, usable : (n, m)
    masked : (n,)
    """
    ny, nx = noise.flat.shape
    x, y = place[..., 0], place[..., 1]
    usable = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    index = np.clip(y, 0, ny - 1) * nx + np.clip(x, 0, nx - 1)
    masked = np.zeros(len(place), bool)
    if noise.unusable is not None:
        unusable = noise.unusable.ravel()[index]
        masked = (usable & unusable).any(axis=-1)
        usable &= ~unusable
    return index, usable, masked


def first_of_its_kind(index: Int) -> Bool:
    """Return which pixels (n, m) were not met before in their row: windows of neighbours overlap."""
    order = np.argsort(index, axis=-1, kind="stable")
    ranked = np.take_along_axis(index, order, axis=-1)
    first = np.ones(index.shape, bool)
    first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    result = np.empty(index.shape, bool)
    np.put_along_axis(result, order, first, axis=-1)
    return result
