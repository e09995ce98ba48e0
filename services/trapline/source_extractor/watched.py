"""Fluxes at positions that others know: objects of the catalogue, monitored positions, requests back in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sep

from trapline.common.ids import forced_source_id
from trapline.common.region import on_array
from trapline.schemas.columns import Array, Flag, array_to_ids, ids_to_array
from trapline.schemas.image import Image
from trapline.schemas.sources import COLUMNS
from trapline.schemas.watchlist import POSITIONS
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.forced import ForcedFluxes, measure_forced
from trapline.source_extractor.scene import Scene

Float = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Watched:
    """Positions to measure: `object_id` (n, 16), ICRS degrees, and `kind` as in `sources`."""

    object_id: npt.NDArray[np.uint8]
    ra_deg: Float
    dec_deg: Float
    kind: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Watched:
        """Return the positions of a record of `watchlist` or `remeasure`; `SchemaError` when a column is wrong."""
        POSITIONS.check(arrays)
        columns: dict[str, Any] = POSITIONS.select(arrays)
        return cls(**columns)

    def take(self, index: npt.NDArray[Any]) -> Watched:
        """Return some of them."""
        return Watched(self.object_id[index], self.ra_deg[index], self.dec_deg[index], self.kind[index])

    def __len__(self) -> int:
        return len(self.kind)


def measure_watched(scene: Scene, watched: Watched, blind_px: Float, settings: ExtractorConfig) -> dict[str, Array]:
    """Return columns of `sources`, a row per position; fluxes are NaN, and flagged so, where the image is not.

    A row depends on the image, its own position and the blind sources, on no other position.

    Parameters
    ----------
    scene
        The image.
    watched
        Where to measure.
    blind_px
        Positions (x, y) of the blind sources of the image, (k, 2).
    settings
        Aperture of optical fluxes, and the gain that tells their photons.
    """
    columns = COLUMNS.empty(len(watched))
    # Also where the margin is: whether a position counts as covered is decided at the centre of its HEALPix cell.
    x, y = on_array(scene.image, watched.ra_deg, watched.dec_deg)
    at_px = np.stack([x, y], axis=-1)
    fluxes = fluxes_at(scene, at_px, blind_px, settings)
    for name in ("flux_int",) if scene.beam is None else ("flux_peak", "flux_int"):
        columns[name], columns[f"{name}_err"] = fluxes.amplitude, fluxes.amplitude_err
    with np.errstate(invalid="ignore", over="ignore"):
        columns["snr"] = (fluxes.amplitude / fluxes.rms).astype(np.float32)
    near_edge = np.isfinite(x) & scene.near_edge(x, y)
    columns["flags"] = fluxes.flags | np.where(near_edge, Flag.NEAR_EDGE, 0).astype(np.uint32)
    columns["x"], columns["y"] = x, y
    return columns | _identity(scene.image, watched)


def fluxes_at(scene: Scene, at_px: Float, blind_px: Float, settings: ExtractorConfig) -> ForcedFluxes:
    """Return fluxes at pixels (n, 2): of the beam, blind neighbours (k, 2) fitted along, or of apertures."""
    if scene.beam is None:
        return _apertures(scene, at_px, settings)
    return measure_forced(scene.noise, scene.beam, at_px, blind_px)


def not_measured(image: Image, watched: Watched) -> dict[str, Array]:
    """Return the rows of positions in an image whose pixels are gone: NaN, and flagged so."""
    flags = np.full(len(watched), Flag.NO_PIXELS, np.uint32)
    return COLUMNS.empty(len(watched)) | {"flags": flags} | _identity(image, watched)


def _identity(image: Image, watched: Watched) -> dict[str, Array]:
    t_us = image.t_start_us or 0
    asked = zip(array_to_ids(watched.object_id), watched.kind.tolist(), strict=True)
    return {
        "source_id": ids_to_array(forced_source_id(t_us, image.id, object_id, kind) for object_id, kind in asked),
        "object_id": watched.object_id,
        "kind": watched.kind,
        "watch_ra_deg": watched.ra_deg,
        "watch_dec_deg": watched.dec_deg,
        "ra_deg": watched.ra_deg,
        "dec_deg": watched.dec_deg,
    }


def _apertures(scene: Scene, at_px: Float, settings: ExtractorConfig) -> ForcedFluxes:
    """Return fluxes in circular apertures at sub-pixel positions; `rms` is that of the sum."""
    known = np.isfinite(at_px).all(axis=-1)
    flux, error = np.full((2, len(at_px)), np.nan)
    flags = np.where(known, 0, Flag.NO_PIXELS).astype(np.uint32)
    x, y = np.ascontiguousarray(at_px[known].T)
    noise = scene.noise
    options = {"err": noise.rms, "mask": noise.unusable, "gain": settings.gain_per_unit}
    total, total_err, missing = sep.sum_circle(noise.flat, x, y, settings.aperture_radius_px, **options)
    good = np.isfinite(total) & np.isfinite(total_err) & (total_err > 0)
    flux[known], error[known] = np.where(good, (total, total_err), np.nan)
    flags[known] |= np.where(missing & sep.APER_HASMASKED, Flag.MASKED, 0).astype(np.uint32)
    flags[known] |= np.where(good, 0, Flag.NO_PIXELS).astype(np.uint32)
    return ForcedFluxes(flux, error, error, flags)
