"""One image in, its sources out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from trapline.common.ids import blind_source_id, record_id
from trapline.common.region import inside, on_array
from trapline.schemas.columns import Array, Kind, ids_to_array
from trapline.schemas.header import Place
from trapline.schemas.image import Beam, Image
from trapline.schemas.images import Images
from trapline.schemas.message import Message
from trapline.schemas.sources import COLUMNS, SCHEMA, Sources
from trapline.schemas.watchlist import Remeasure
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.mesh import Meshes
from trapline.source_extractor.methods import extract
from trapline.source_extractor.noise import noise_of, noise_range
from trapline.source_extractor.positions import (
    SkyPositions,
    axes_on_sky,
    on_sky,
    shape_on_sky,
    systematic_errors_deg,
)
from trapline.source_extractor.rows import PixelRows
from trapline.source_extractor.scene import Scene, prepare
from trapline.source_extractor.watched import Watched, fluxes_at, measure_watched, not_measured
from trapline.source_extractor.watchlist import Watchlists

Float = npt.NDArray[np.float64]

_NONE = Watchlists()


@dataclass(frozen=True, slots=True)
class Measurement:
    """Columns of `sources`, in order of (y, x), and the smallest and largest noise in the region (None: no pixel).

    `left_out` sources were not measured: there are too many. `psf` is the point-spread function where there is no
    restoring beam, and enough stars.
    """

    columns: dict[str, Array]
    rms_min: float | None
    rms_max: float | None
    left_out: int = 0
    psf: Beam | None = None


def measure_image(
    message: Message[Images],
    settings: ExtractorConfig,
    place: Place | None,
    watchlists: Watchlists = _NONE,
    meshes: Meshes | None = None,
) -> Message[Sources]:
    """Return the `sources` record of a record of `images` that stands at `place`; a rejected image has no rows.

    The rows of watched positions in the image follow the blind ones. The mesh of its noise is kept in `meshes`.

    Raises
    ------
    ValueError
        When the record carries no image, or one that is not rejected and cannot be measured.
    """
    image = message.header.image
    if image is None:
        raise ValueError("the record carries no image: commands and ends of streams are not measured")
    if image.quality.rejected:
        found = Measurement(COLUMNS.empty(), None, None)
    else:
        scene = prepare(_pixels(message), image, settings, *_mask_and_noise(message))
        if meshes:
            meshes.keep(image.id, scene.noise.mesh)
        found = _measure(scene, settings, watchlists)
    header = Sources(
        schema=SCHEMA,
        id=record_id(image.t_start_us or 0, SCHEMA, image.id),
        dataset=message.header.dataset,
        parents=[message.header.id],
        trace=message.header.trace,
        image=msgspec.structs.replace(image, place=place),
        rms_min=found.rms_min,
        rms_max=found.rms_max,
        detection_threshold=settings.detection_threshold,
        analysis_threshold=settings.analysis_threshold,
        left_out=found.left_out,
        psf=found.psf,
        watchlist_version=watchlists.version,
    )
    return Message(header, found.columns)


def measure_again(
    request: Message[Remeasure],
    images: Message[Images] | None,
    blind: Message[Sources],
    settings: ExtractorConfig,
    meshes: Meshes | None = None,
) -> Message[Sources]:
    """Return the answer to a request: forced rows only, NaN where there are no pixels any more.

    Parameters
    ----------
    request
        What is asked for.
    images
        The record with the pixels; None when they are gone.
    blind
        The `sources` record of the image, whose blind rows are fitted along.
    settings
        As they were when the image was measured: else the answer differs from what it would have been then.
    meshes
        Those of images measured lately, with these settings: of another it is made again, with the same bits.
    """
    watched, image = Watched.of(request.arrays), blind.header.image
    if images is None or image.quality.rejected:
        columns = not_measured(image, watched)
    else:
        _, about_y = on_array(image, watched.ra_deg, watched.dec_deg)
        known = meshes.of(image.id) if meshes else None
        scene = prepare(_pixels(images), image, settings, *_mask_and_noise(images), about_y=about_y, known=known)
        if meshes:
            meshes.keep(image.id, scene.noise.mesh)
        rows = blind.arrays["kind"] == Kind.BLIND
        blind_px: Any = np.stack([blind.arrays["x"][rows], blind.arrays["y"][rows]], axis=-1)
        columns = measure_watched(scene, watched, blind_px, settings)
    header = msgspec.structs.replace(
        blind.header,
        id=record_id(image.t_start_us or 0, SCHEMA, image.id, request.header.id),
        parents=[request.header.id, blind.header.id],
        trace=request.header.trace,
        request=request.header.id,
        consumed=[],
        frames=[],
        watchlist_version=None,
    )
    return Message(header, columns)


def measure(
    pixels: Array,
    image: Image,
    settings: ExtractorConfig,
    *,
    mask: Array | None = None,
    rms: Array | None = None,
    detection: Array | None = None,
) -> Measurement:
    """Find and measure the sources in the region of an image; parameters and errors as `prepare`.

    `rms` is the noise map, if it is known. `detection` is another image of the same sky on the same pixels, deeper or
    of another band: sources, positions and shapes are then those of that image, and fluxes are measured in this one
    where those sources are.
    """
    scene = prepare(pixels, image, settings, mask, rms)
    if detection is None:
        return _measure(scene, settings)
    found = extract(prepare(detection, image, settings, mask), settings)
    return _measure(scene, settings, rows=_fluxes_of(scene, found, settings))


def _measure(
    scene: Scene, settings: ExtractorConfig, watchlists: Watchlists = _NONE, rows: PixelRows | None = None
) -> Measurement:
    image = scene.image
    rows = extract(scene, settings) if rows is None else rows
    rows = _in_region(rows, scene)
    sky = on_sky(scene.wcs, rows.x, rows.y, rows.covariance_px)
    if not np.isfinite(sky.ra_deg).all():
        # Peaks beyond the horizon of an all-sky image are nowhere.
        rows = rows.take(np.isfinite(sky.ra_deg))
        sky = on_sky(scene.wcs, rows.x, rows.y, rows.covariance_px)
    columns = _columns(rows, sky, image, settings, scene.axes)
    if watchlists.version is not None:
        forced = measure_watched(scene, watchlists.near(image), rows.position_px, settings)
        columns = {name: np.concatenate([column, forced[name]]) for name, column in columns.items()}
    psf = shape_on_sky(rows.psf, scene.axes) if rows.psf else None
    return Measurement(columns, *noise_range(scene.noise, image), rows.left_out, psf)


def _fluxes_of(scene: Scene, rows: PixelRows, settings: ExtractorConfig) -> PixelRows:
    """Return rows with the fluxes that this image has at their positions, those without pixels left out."""
    found = fluxes_at(scene, rows.position_px, rows.position_px, settings)
    measured = replace(
        rows,
        flux_peak=found.amplitude,
        flux_peak_err=found.amplitude_err,
        flux_int=found.amplitude,
        flux_int_err=found.amplitude_err,
        rms=found.rms,
        chi2_reduced=np.full(len(rows), np.nan),
        flags=rows.flags | found.flags,
    )
    return measured.take(np.isfinite(found.amplitude))


def _pixels(message: Message[Images]) -> Array:
    pixels = message.arrays.get("pixels")
    if pixels is None:
        raise ValueError("the record carries an image that is not rejected, and no pixels")
    return pixels


def _mask_and_noise(message: Message[Images]) -> tuple[Array | None, Array | None]:
    """Return the mask and the noise map that came with an image."""
    weight = message.arrays.get("weight")
    return message.arrays.get("mask"), None if weight is None else noise_of(weight)


def _in_region(rows: PixelRows, scene: Scene) -> PixelRows:
    """Return rows in the region in order of (y, x), flagged where a measurement reaches beyond it."""
    rows = rows.take(inside(scene.image, rows.x, rows.y))
    rows = rows.take(np.lexsort((rows.x, rows.y)))
    return rows.flagged(NEAR_EDGE=scene.near_edge(rows.x, rows.y))


def _columns(
    rows: PixelRows, sky: SkyPositions, image: Image, settings: ExtractorConfig, axes: Float
) -> dict[str, Array]:
    major, minor, pa = axes_on_sky(rows.shape_px, axes)
    systematic_ew, systematic_ns = systematic_errors_deg(settings, image.beam)
    t_us = image.t_start_us or 0
    values: dict[str, Any] = {
        "source_id": ids_to_array(blind_source_id(t_us, image.id, rank) for rank in range(len(rows))),
        "kind": np.full(len(rows), Kind.BLIND),
        "x": rows.x,
        "y": rows.y,
        "ra_deg": sky.ra_deg,
        "dec_deg": sky.dec_deg,
        "ra_err_deg": sky.err_ew_deg,
        "dec_err_deg": sky.err_ns_deg,
        "pos_err_ew_deg": np.hypot(sky.err_ew_deg, systematic_ew),
        "pos_err_ns_deg": np.hypot(sky.err_ns_deg, systematic_ns),
        "flux_peak": rows.flux_peak,
        "flux_peak_err": rows.flux_peak_err,
        "flux_int": rows.flux_int,
        "flux_int_err": rows.flux_int_err,
        "snr": rows.flux_peak / rows.rms,
        "major_deg": major,
        "minor_deg": minor,
        "pa_deg": pa,
        "chi2_reduced": rows.chi2_reduced,
        "flags": rows.flags,
    }
    columns = COLUMNS.empty(len(rows))
    with np.errstate(over="ignore"):
        # A ratio or a size beyond float32 becomes infinite, and says so itself.
        return {name: values[name].astype(blank.dtype) if name in values else blank for name, blank in columns.items()}
