"""A picture of what was measured: the image with its sources, and the noise map, as PNG."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header as FitsHeader
from astropy.wcs import WCS

from trapline.schemas.columns import Flag
from trapline.schemas.image import Beam
from trapline.source_extractor.beam import HALF_POWER, pixel_beam
from trapline.source_extractor.core import Measurement
from trapline.source_extractor.scene import Scene

Float = npt.NDArray[np.float64]

SHOWN_BEAMS = 2.5
"""Ellipses are drawn so many times as large as the half-power contour: else they hide what they show."""
_INCHES, _MARGIN_INCHES = 8.0, 1.7
_COLOURS = {0: "#39d353", int(Flag.EXTENDED): "#ff9f1c", int(Flag.BLENDED): "#2ec4ff", int(Flag.FIT_FAILED): "#ff3864"}
_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 60)), np.sin(np.linspace(0, 2 * np.pi, 60))])


def draw(scene: Scene, found: Measurement, path: Path) -> None:
    """Write a PNG: left the image without background and the ellipses of its sources, right the noise.

    Raises
    ------
    ModuleNotFoundError
        When matplotlib is not installed.
    OSError
        When the file cannot be written.
    """
    from matplotlib.figure import Figure

    ny, nx = scene.noise.flat.shape
    height = _INCHES * min(max(ny / nx, 0.3), 2.0)
    figure = Figure(figsize=(2 * (_INCHES + _MARGIN_INCHES), height + 1.0), layout="constrained")
    with warnings.catch_warnings():
        # Axes of a whole sky have labels where there is no sky.
        warnings.simplefilter("ignore")
        wcs = WCS(FitsHeader.fromstring(scene.image.wcs or "")).celestial
        _sources(figure, figure.add_subplot(1, 2, 1, projection=wcs), scene, found)
        _noise(figure, figure.add_subplot(1, 2, 2, projection=wcs), scene)
        figure.suptitle(_title(scene, found))
        # One pixel of the image has at least one of the picture, up to a large screen.
        figure.savefig(path, format="png", dpi=float(np.clip(nx / _INCHES, 90, 250)))


def ellipses(scene: Scene, found: Measurement) -> list[Float]:
    """Return the half-power contours of the sources as polygons (60, 2) in pixels, `SHOWN_BEAMS` times as large."""
    columns: Any = found.columns
    rows = zip(*(columns[name].tolist() for name in ("x", "y", "major_deg", "minor_deg", "pa_deg")), strict=True)
    return [_ellipse(scene, x, y, major, minor, pa) for x, y, major, minor, pa in rows]


def _ellipse(scene: Scene, x: float, y: float, major: float, minor: float, pa: float) -> Float:
    floor = 0.2 * abs(float(np.linalg.det(scene.axes))) ** 0.5
    if not np.isfinite([major, minor, pa]).all():
        major, minor, pa = 10 * floor, 10 * floor, 0.0
    shape = pixel_beam(Beam(max(major, floor), max(minor, floor), pa), scene.axes)
    contour = SHOWN_BEAMS * HALF_POWER * (shape.to_pixel @ _CIRCLE)
    return np.asarray(contour.T + np.array([x, y]))


def _sources(figure: Any, axes: Any, scene: Scene, found: Measurement) -> None:
    from matplotlib.collections import PolyCollection

    noise = scene.noise
    usable = np.isfinite(noise.rms)
    shown = np.where(usable, noise.flat, np.nan)
    rms = float(np.median(noise.rms[usable])) if usable.any() else 1.0
    # Linear to a few sigma, then as a logarithm: faint and bright sources are seen in one picture.
    image = axes.imshow(
        np.arcsinh(shown / (2 * rms)), origin="lower", cmap="gray", vmin=-1.5, vmax=4.0, interpolation="nearest"
    )
    ticks = np.array([-3, 0, 3, 8, 20, 50])
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="signal over the median noise", extend="max")
    bar.set_ticks(np.arcsinh(ticks / 2), labels=[str(tick) for tick in ticks])
    flags: Any = found.columns["flags"]
    colours = [_colour(int(one)) for one in flags]
    axes.add_collection(PolyCollection(ellipses(scene, found), facecolors="none", edgecolors=colours, linewidths=0.9))
    _beam(axes, scene, found.psf)
    _labels(axes, f"{len(flags)} sources; ellipses {SHOWN_BEAMS:g} times as large as at half power")
    for bit, colour in _COLOURS.items():
        axes.plot([], [], color=colour, label=Flag(bit).name.lower().replace("_", " ") if bit else "source")  # type: ignore[union-attr]
    axes.legend(loc="upper right", fontsize="small", framealpha=0.6)


def _noise(figure: Any, axes: Any, scene: Scene) -> None:
    rms = np.where(np.isfinite(scene.noise.rms), scene.noise.rms, np.nan)
    image = axes.imshow(rms, origin="lower", cmap="viridis", interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.8, label=f"noise, {scene.image.unit or 'unit of the image'}")
    _labels(axes, "noise map")


def _beam(axes: Any, scene: Scene, psf: Beam | None) -> None:
    """Draw the beam, or the point-spread function, into the corner: as large as it is."""
    shape = scene.beam if psf is None else pixel_beam(psf, scene.axes)
    if shape is None:
        return
    contour = HALF_POWER * (shape.to_pixel @ _CIRCLE)
    corner = contour.max(axis=1) + 0.02 * np.array(scene.noise.flat.shape[::-1])
    label = "beam" if psf is None else f"PSF, {3600 * np.sqrt(psf.major_deg * psf.minor_deg):.3g} arcsec"
    axes.fill(*(contour + corner[:, None]), color="#ffd166", label=label)


def _labels(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize="medium")
    axes.coords.grid(color="white", alpha=0.25, linestyle=":")
    axes.coords[0].set_axislabel("right ascension")
    axes.coords[1].set_axislabel("declination")


def _colour(flags: int) -> str:
    worst = [colour for bit, colour in _COLOURS.items() if bit & flags]
    return worst[-1] if worst else _COLOURS[0]


def _title(scene: Scene, found: Measurement) -> str:
    image = scene.image
    band = image.band.name if image.band else ""
    noise = "" if found.rms_min is None else f"noise {found.rms_min:.3g} to {found.rms_max:.3g} {image.unit or ''}"
    return "   ".join(filter(None, (Path(image.origin).name, image.instrument, band, image.stokes, noise)))
