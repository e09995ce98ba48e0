"""The records of a visit: what ingest and the extractor would have said of it, one image per detector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash
from astropy.io.fits import Header as FitsHeader

from trapline.common.ids import blind_source_id, fact_id, forced_source_id, record_id
from trapline.common.sky import from_tangent
from trapline.common.wcs import wcs_cards
from trapline.schemas.columns import Kind, array_to_ids, ids_to_array
from trapline.schemas.header import Place
from trapline.schemas.image import Band, Image
from trapline.schemas.images import SCHEMA as IMAGES_SCHEMA
from trapline.schemas.images import Images
from trapline.schemas.message import Message
from trapline.schemas.sources import COLUMNS, Sources
from trapline.schemas.sources import SCHEMA as SOURCES_SCHEMA
from trapline.schemas.watchlist import Remeasure
from trapline.survey.config import SurveyConfig
from trapline.survey.detections import detections, flux_at
from trapline.survey.visits import Visit, visit_at

INSTRUMENT = "survey"
_NOT_OF_THE_SKY = {
    "visits", "replicas", "realtime", "patience_s", "history_s", "history_from_store", "forced_s", "parallel"
}  # fmt: skip
"""settings that change how a survey is run, but not what there is to see: its images stay the same"""

Float = npt.NDArray[np.float64]
Rows = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tile:
    """What one detector saw: its image, its detections in order of (y, x), and where they are in pixels."""

    image: Image
    found: Rows
    x: Float
    y: Float

    def source_ids(self) -> npt.NDArray[np.uint8]:
        """Return the ids of the detections, (n, 16)."""
        t_us = self.image.t_start_us or 0
        return ids_to_array(blind_source_id(t_us, self.image.id, rank) for rank in range(len(self.found)))


def tiles_of(config: SurveyConfig, visit: Visit, dataset: str) -> Iterator[Tile]:
    """Yield what each detector saw in a visit, row by row from the south-east."""
    found = detections(config, visit)
    for row in range(config.tiles):
        for column in range(config.tiles):
            yield _tile(config, visit, found, (row, column), dataset)


def bodies_apart(tile: Tile) -> tuple[Tile, Rows]:
    """Return the tile without what lies where a body is expected, and those detections."""
    keep = ~tile.found["body"]
    return Tile(tile.image, tile.found[keep], tile.x[keep], tile.y[keep]), tile.found[~keep]


def images_message(image: Image, dataset: str) -> Message[Images]:
    """Return the `images` record of a tile: there are no pixels."""
    header = Images(
        schema=IMAGES_SCHEMA, id=record_id(image.t_start_us or 0, IMAGES_SCHEMA, image.id), dataset=dataset, image=image
    )
    return Message(header)


def sources_message(
    config: SurveyConfig, visit: Visit, tile: Tile, images: Message[Images], place: Place
) -> Message[Sources]:
    """Return the `sources` record of a tile whose `images` record stands at `place`."""
    header = Sources(
        schema=SOURCES_SCHEMA,
        id=record_id(visit.t_us, SOURCES_SCHEMA, tile.image.id),
        dataset=images.header.dataset,
        parents=[images.header.id],
        image=msgspec.structs.replace(tile.image, place=place),
        rms_min=config.flux_err_njy,
        rms_max=config.flux_err_njy,
        detection_threshold=config.detection_threshold,
        analysis_threshold=config.detection_threshold,
    )
    found = tile.found
    ra, dec = from_tangent(found["east_deg"], found["north_deg"], visit.ra_deg, visit.dec_deg)
    position_error = np.hypot(found["err_deg"], config.jitter_deg)
    columns = {
        "source_id": tile.source_ids(),
        "x": tile.x,
        "y": tile.y,
        "ra_deg": ra,
        "dec_deg": dec,
        "ra_err_deg": found["err_deg"],
        "dec_err_deg": found["err_deg"],
        "pos_err_ew_deg": position_error,
        "pos_err_ns_deg": position_error,
        **_fluxes(found["seen_njy"], config.flux_err_njy),
    }
    return Message(header, _typed(columns, len(found)))


def answer(config: SurveyConfig, request: Message[Remeasure], blind: Message[Sources]) -> Message[Sources]:
    """Return the forced fluxes that a request asks for, measured in the image of a `sources` record.

    The noise of a flux follows from the image and the object: whoever asks twice gets the same bits.

    Raises
    ------
    ValueError
        When the image is none of this survey.
    """
    image, asked = blind.header.image, request.arrays
    visit = visit_at(config, image.t_start_us or 0)
    if visit is None or image.instrument != INSTRUMENT:
        raise ValueError(f"image {image.id.hex()} is none of this survey: was the configuration changed?")
    ra, dec = np.asarray(asked["ra_deg"], float), np.asarray(asked["dec_deg"], float)
    objects, kinds = asked["object_id"], asked["kind"]
    seen = flux_at(config, visit, ra, dec) + config.flux_err_njy * _noise(image.id, objects)
    pairs = zip(array_to_ids(objects), kinds.tolist(), strict=True)
    columns = {
        "source_id": ids_to_array(forced_source_id(visit.t_us, image.id, object_, kind) for object_, kind in pairs),
        "kind": kinds,
        "object_id": objects,
        "watch_ra_deg": ra,
        "watch_dec_deg": dec,
        "ra_deg": ra,
        "dec_deg": dec,
        **_fluxes(seen, config.flux_err_njy),
    }
    header = msgspec.structs.replace(
        blind.header,
        id=record_id(visit.t_us, SOURCES_SCHEMA, image.id, request.header.id),
        parents=[request.header.id, blind.header.id],
        request=request.header.id,
        consumed=[],
        frames=[],
    )
    return Message(header, _typed(columns, len(ra)))


def _tile(config: SurveyConfig, visit: Visit, found: Rows, place: tuple[int, int], dataset: str) -> Tile:
    row, column = place
    side = config.field_deg / config.tiles
    half, scale = config.field_deg / 2, side / config.tile_px
    # East is to the left: column 0 is the eastern one.
    east, north = half - found["east_deg"], found["north_deg"] + half
    here = (np.minimum(east // side, config.tiles - 1) == column) & (np.minimum(north // side, config.tiles - 1) == row)
    x, y = (east[here] - column * side) / scale - 0.5, (north[here] - row * side) / scale - 0.5
    order = np.lexsort((x, y))
    image = _image(config, visit, place, dataset)
    return Tile(image, found[here][order], x[order], y[order])


def _image(config: SurveyConfig, visit: Visit, place: tuple[int, int], dataset: str) -> Image:
    row, column = place
    side = config.field_deg / config.tiles
    middle = (config.field_deg / 2 - (column + 0.5) * side, (row + 0.5) * side - config.field_deg / 2)
    ra, dec = from_tangent(middle[0], middle[1], visit.ra_deg, visit.dec_deg)
    # There are no pixels to hash: what they would show follows from the settings, the visit and the detector.
    pixels = xxhash.xxh3_128_digest(f"{_fingerprint(config)} {visit.number} {row} {column}".encode())
    parts = (dataset, INSTRUMENT, visit.filter, "I", visit.t_us, config.exposure_s, pixels)
    return Image(
        id=fact_id(visit.t_us, "image", *parts),
        origin=f"survey: visit {visit.number}, detector {row},{column}",
        instrument=INSTRUMENT,
        band=Band(name=visit.filter, filter=visit.filter),
        stokes="I",
        t_start_us=visit.t_us,
        exposure_s=config.exposure_s,
        shape=(config.tile_px, config.tile_px),
        unit="nJy",
        wcs=_cards(config, visit.ra_deg, visit.dec_deg, place),
        centre_ra_deg=float(ra),
        centre_dec_deg=float(dec),
        noise=config.flux_err_njy,
        role="test",
    )


@lru_cache(maxsize=4)
def _fingerprint(config: SurveyConfig) -> str:
    chosen = config.model_dump_json(exclude=_NOT_OF_THE_SKY)
    return xxhash.xxh3_128_hexdigest(chosen.encode())


@lru_cache(maxsize=1024)
def _cards(config: SurveyConfig, ra_deg: float, dec_deg: float, place: tuple[int, int]) -> str:
    """Return the WCS of a detector: all of a field share its tangent plane."""
    row, column = place
    scale = config.field_deg / config.tiles / config.tile_px
    middle = config.tiles * config.tile_px / 2
    header = FitsHeader()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, config.tile_px, config.tile_px
    header["CTYPE1"], header["CTYPE2"], header["RADESYS"] = "RA---TAN", "DEC--TAN", "ICRS"
    header["CRVAL1"], header["CRVAL2"] = ra_deg, dec_deg
    header["CDELT1"], header["CDELT2"] = -scale, scale
    header["CRPIX1"], header["CRPIX2"] = middle - column * config.tile_px + 0.5, middle - row * config.tile_px + 0.5
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    return wcs_cards(header)


def _fluxes(seen: Float, error: float) -> dict[str, Any]:
    errors = np.full(len(seen), error)
    return {
        "flux_peak": seen,
        "flux_peak_err": errors,
        "flux_int": seen,
        "flux_int_err": errors,
        "snr": (seen / error).astype("f4"),
    }


def _typed(values: dict[str, Any], rows: int) -> dict[str, Any]:
    blank = COLUMNS.empty(rows)
    blank["kind"][:] = Kind.BLIND
    return {name: np.asarray(values.get(name, column)).astype(column.dtype) for name, column in blank.items()}


def _noise(image: bytes, objects: Rows) -> Float:
    """Return standard normal numbers (Box and Muller 1958) that follow from an image and (n, 16) objects."""
    words = np.ascontiguousarray(objects).view("<u8").reshape(-1, 2)
    seed = np.uint64(xxhash.xxh3_64_intdigest(image))
    first = _mixed(words[:, 0] ^ _mixed(words[:, 1] ^ seed))
    uniform = [(_mixed(first + np.uint64(k)) >> np.uint64(11)).astype(float) * 2.0**-53 for k in (1, 2)]
    normal: Float = np.sqrt(-2 * np.log1p(-uniform[0])) * np.cos(2 * np.pi * uniform[1])
    return normal


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return well-mixed bits of each number: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
