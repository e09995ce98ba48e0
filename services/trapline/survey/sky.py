"""The variable sources of the whole sky, drawn cell by cell: a field costs what is in it, and is always the same."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from astropy_healpix import HEALPix

from trapline.common.sky import separation_deg, unit_vectors, vectors_to_sky
from trapline.survey.config import SurveyConfig

Float = npt.NDArray[np.float64]
Stars = npt.NDArray[Any]

NSIDE = 64
STAR = np.dtype(
    [
        ("star", "i8"),
        ("ra_deg", "f8"),
        ("dec_deg", "f8"),
        ("flux_njy", "f8"),
        ("amplitude", "f8"),
        ("period_s", "f8"),
        ("phase_rad", "f8"),
    ]
)
UNITS = {"ra_deg": "deg", "dec_deg": "deg", "flux_njy": "nJy", "period_s": "s", "phase_rad": "rad"}

_GRID = HEALPix(NSIDE, order="nested")
_CELLS = 12 * NSIDE**2
_CELL_DEG2 = 4 * math.pi * math.degrees(1.0) ** 2 / _CELLS
_REACH_DEG = math.degrees(2 / NSIDE)  # no cell has a corner further than this from its centre
_PER_CELL = 1 << 24  # numbers of the stars of a cell


class SkyError(ValueError):
    """A file that is no density map or no catalogue. The text names it and what would be right."""


def cells_near(ra_deg: float, dec_deg: float, radius_deg: float) -> npt.NDArray[np.int64]:
    """Return the nested HEALPix cells that may have a part within a cone."""
    lon, lat = _GRID.healpix_to_lonlat(np.arange(_CELLS))
    distance = separation_deg(lon.to_value("deg"), lat.to_value("deg"), ra_deg, dec_deg)
    return np.flatnonzero(distance < radius_deg + _REACH_DEG)


@lru_cache(maxsize=4)
def stars_in(config: SurveyConfig, ra_deg: float, dec_deg: float, radius_deg: float) -> Stars:
    """Return the variable sources (`STAR`) within a cone, in order of their numbers.

    Raises
    ------
    SkyError
        When the density map or the catalogue of the configuration cannot be used.
    """
    if config.catalogue is not None:
        stars = load_stars(config.catalogue)
    else:
        cells = cells_near(ra_deg, dec_deg, radius_deg)
        stars = np.concatenate([_draw(config, int(cell)) for cell in cells])
    near = separation_deg(stars["ra_deg"], stars["dec_deg"], ra_deg, dec_deg) <= radius_deg
    return stars[near]


def fluxes(stars: Stars, t_us: int) -> Float:
    """Return the flux of each star in nJy at a time: a sinusoid about its mean."""
    cycles = np.mod(t_us * 1e-6, stars["period_s"]) / stars["period_s"]
    flux: Float = stars["flux_njy"] * (1 + stars["amplitude"] * np.sin(2 * np.pi * cycles + stars["phase_rad"]))
    return flux


def _draw(config: SurveyConfig, cell: int) -> Stars:
    random = np.random.default_rng([config.seed, 2, cell])
    mean = config.variables * _CELL_DEG2 / config.field_deg**2 * density(config.density_map, cell)
    stars = np.zeros(random.poisson(mean), STAR)
    n = len(stars)
    stars["star"] = cell * _PER_CELL + np.arange(n)
    # The projection of HEALPix keeps areas: uniform in a cell's own coordinates is uniform on the sky.
    lon, lat = _GRID.healpix_to_lonlat(np.full(n, cell), random.random(n), random.random(n))
    stars["ra_deg"], stars["dec_deg"] = vectors_to_sky(unit_vectors(lon.to_value("deg"), lat.to_value("deg")))
    # Euclidean counts: N(> S) falls with S^-1.5.
    low, high = config.snr_min**-1.5, config.snr_max**-1.5
    stars["flux_njy"] = config.flux_err_njy * (low + random.random(n) * (high - low)) ** (-1 / 1.5)
    stars["amplitude"] = config.amplitude * random.random(n)
    stars["period_s"] = np.exp(random.uniform(np.log(config.period_min_s), np.log(config.period_max_s), n))
    stars["phase_rad"] = random.uniform(0, 2 * np.pi, n)
    return stars


def density(path: Path | None, cell: int) -> float:
    """Return the density of a cell over the mean of the map; 1 without a map."""
    return 1.0 if path is None else float(_density_map(path)[cell])


@lru_cache(maxsize=2)
def _density_map(path: Path) -> Float:
    """Return a map in the cells of `NSIDE`, its mean 1."""
    try:
        values = np.load(path, allow_pickle=False)
        nside = math.isqrt(len(values) // 12)
        good = values.ndim == 1 and 12 * nside**2 == len(values) and nside & (nside - 1) == 0
        if not good or not np.isfinite(values).all() or (values < 0).any() or not values.any():
            raise SkyError(
                f"{path}: a density map has 12 N^2 finite values (N a power of 2), none below 0 and not all 0; "
                f"this has the shape {values.shape}"
            )
    except (OSError, ValueError, TypeError) as error:
        raise error if isinstance(error, SkyError) else SkyError(f"{path} is no .npy map: {error}") from None
    lon, lat = _GRID.healpix_to_lonlat(np.arange(_CELLS))
    here = values[HEALPix(nside, order="nested").lonlat_to_healpix(lon, lat)].astype(float)
    mean = here.mean()
    if not mean > 0:
        raise SkyError(f"{path}: finer than nside {NSIDE}, and zero wherever that is sampled; degrade it first")
    scaled: Float = here / mean
    return scaled


def save_stars(stars: Stars, path: Path) -> None:
    """Write a catalogue as the name's ending says: .fits, .ecsv or .csv; raise `SkyError` when it says none of them."""
    if path.suffix not in (".fits", ".ecsv", ".csv"):
        raise SkyError(f"{path.name} does not say what table it is: end it in .fits, .ecsv or .csv")
    Table(stars, units=UNITS).write(path, overwrite=True)


@lru_cache(maxsize=2)
def load_stars(path: Path) -> Stars:
    """Return a catalogue (`STAR`); raise `SkyError` when it cannot be read or lacks columns."""
    try:
        table = Table.read(path)
    except Exception as error:  # noqa: BLE001  each of astropy's readers raises what it likes
        raise SkyError(f"{path} is no table that astropy reads: {error}") from None
    missing = sorted(set(STAR.names or ()) - set(table.colnames))
    if missing:
        raise SkyError(f"{path} lacks the columns {', '.join(missing)}: `trapline survey gen-sources` writes them")
    stars = np.zeros(len(table), STAR)
    for name in STAR.names or ():
        stars[name] = np.asarray(table[name])
    return stars
