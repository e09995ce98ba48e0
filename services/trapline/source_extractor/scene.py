"""An image ready to be measured: its noise, its beam on the pixels, and where the pixels are on the sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.common.region import inside
from trapline.common.wcs import SkyWcs, parse_wcs
from trapline.schemas.columns import Array
from trapline.schemas.image import Image
from trapline.source_extractor.beam import FWHM_PER_SIGMA, HALF_POWER, PixelBeam, pixel_beam, reference_axes
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.groups import NEIGHBOUR_BEAMS
from trapline.source_extractor.mesh import NoiseMesh
from trapline.source_extractor.noise import Flattened, flatten

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scene:
    """What every measurement of an image begins with.

    `axes` (2, 2) are degrees (east, north) per pixel (x, y) at the reference. `beam` is None where fluxes are those of
    apertures, and `reach_px` is how far a measurement reaches along (x, y).
    """

    image: Image
    wcs: SkyWcs
    axes: Float
    noise: Flattened
    beam: PixelBeam | None
    reach_px: Float

    def near_edge(self, x: Float, y: Float) -> Bool:
        """Return which measurements at these pixels reach beyond the region of the image."""
        complete = np.ones(len(x), bool)
        for dx, dy in np.concatenate([np.diag(self.reach_px), -np.diag(self.reach_px)]):
            complete &= inside(self.image, x + dx, y + dy)
        return ~complete


def prepare(
    pixels: Array,
    image: Image,
    settings: ExtractorConfig,
    mask: Array | None = None,
    rms: Array | None = None,
    *,
    about_y: Float | None = None,
    known: NoiseMesh | None = None,
) -> Scene:
    """Return the scene of an image.

    Parameters
    ----------
    pixels
        ``im[y, x]`` in `image.unit`, (ny, nx); not changed. NaN and infinite pixels are not used.
    image
        What the pixels are: WCS, beam, margin, radius.
    settings
        Mesh and aperture.
    mask
        Non-zero where a pixel must not be used, (ny, nx).
    rms
        The noise, (ny, nx), if it is known; else it is measured.
    about_y
        Rows of the only positions that will be measured, NaN for one that is not in the image: with a beam the image is
        flattened about them alone, which is what most of the time goes to. None: everywhere.
    known
        The mesh of the noise of this image, from when it was prepared before with the same mask and settings.

    Raises
    ------
    ValueError
        When the pixels are not of the shape that the image says, or it has no WCS, or a beam without area.
    """
    if image.shape is None or tuple(image.shape) != pixels.shape:
        raise ValueError(f"the image says that its shape is {image.shape}, the pixels have {pixels.shape}")
    if image.wcs is None:
        raise ValueError("the image has no WCS: its FITS cards should be set")
    wcs = parse_wcs(image.wcs)
    axes = reference_axes(wcs, image.shape)
    if image.beam is None or _through_filter(image):
        noise = flatten(pixels, mask, settings.mesh_optical_px, given_rms=rms, known=known)
        return Scene(image, wcs, axes, noise, None, np.full(2, settings.aperture_radius_px))
    beam = pixel_beam(image.beam, axes)
    wanted = None if about_y is None else _rows_about(about_y, beam, image.shape[0])
    noise = flatten(pixels, mask, settings.mesh_radio_px, beam.smallest_sigma_px, rms, wanted, known)
    return Scene(image, wcs, axes, noise, beam, beam.half_power_px)


def _rows_about(y: Float, beam: PixelBeam, ny: int) -> slice:
    """Return the rows that the windows of positions and of the neighbours that are fitted along reach; at least one."""
    known = y[np.isfinite(y)]
    if not known.size:
        return slice(0, 1)
    half_x, half_y = beam.half_power_px.tolist()
    # A neighbour's distance and two windows, of which one may be sampled with a stride.
    reach = (NEIGHBOUR_BEAMS * FWHM_PER_SIGMA / HALF_POWER + 2) * half_y + np.sqrt(half_x * half_y) + 4
    low, high = int(np.clip(known.min() - reach, 0, ny - 1)), int(np.clip(known.max() + reach, 0, ny - 1))
    return slice(low, high + 1)


def _through_filter(image: Image) -> bool:
    """Return whether the image is optical: a beam is then the seeing, and pixels hold flux, not flux per beam."""
    return image.band is not None and image.band.filter is not None
