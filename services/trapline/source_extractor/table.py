"""The sources of an image as an astropy table: for a person, or for any program that reads one of its formats."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from astropy import units
from astropy.io.registry import IORegistryError
from astropy.table import Table

from trapline.common.ids import text_id
from trapline.schemas.columns import Flag, array_to_ids
from trapline.schemas.image import Image
from trapline.schemas.sources import COLUMNS
from trapline.source_extractor.core import Measurement

_NOT_BLIND = ("kind", "object_id", "watch_ra_deg", "watch_dec_deg")
_SHORT = {
    "x": "%.2f",
    "y": "%.2f",
    "ra_deg": "%.5f",
    "dec_deg": "%.5f",
    "flux_peak": "%.4g",
    "flux_peak_err": "%.2g",
    "flux_int": "%.4g",
    "flux_int_err": "%.2g",
    "snr": "%.1f",
}
_ARCSEC = ("ra_err", "dec_err", "major", "minor")


def source_table(found: Measurement, image: Image) -> Any:
    """Return every column of blind sources, with units and descriptions; ids as text."""
    table: Any = Table(meta=_about(found, image))
    for column in COLUMNS.columns:
        if column.name in _NOT_BLIND:
            continue
        values: Any = found.columns[column.name]
        if column.name == "source_id":
            values = np.array([text_id(one) for one in array_to_ids(values)], "U36")
        elif column.dtype == "u4":
            values = values.astype(np.int64)  # VOTable has no unsigned numbers
        table[column.name] = values
        table[column.name].description = column.description
        table[column.name].unit = _unit(column.unit, image)
    return table


def short_table(found: Measurement, image: Image) -> str:
    """Return what a person looks at first, as text: sizes and position errors in arcsec, flags as words."""
    table = source_table(found, image)
    short: Any = Table({name: table[name] for name in _SHORT})
    for name in _ARCSEC:
        short[f"{name}_arcsec"] = 3600.0 * np.asarray(table[f"{name}_deg"], float)
        short[f"{name}_arcsec"].format = "%.3g"
    short["pa_deg"] = table["pa_deg"]
    short["flags"] = [flag_words(int(flags)) for flags in table["flags"]]
    for name, text in {**_SHORT, "pa_deg": "%.0f"}.items():
        short[name].format = text
    return "\n".join(short.pformat(max_lines=-1, max_width=-1, show_unit=False))


def write(found: Measurement, image: Image, target: Path | TextIO, table_format: str | None = None) -> None:
    """Write the whole table into a file, which is replaced, or as text to a stream.

    Raises
    ------
    ValueError
        When astropy has no such format, or it is none of text and a stream is given.
    """
    table = source_table(found, image)
    try:
        if isinstance(target, Path):
            table.write(target, format=table_format, overwrite=True)
        else:
            text = StringIO()
            table.write(text, format=table_format)
            target.write(text.getvalue())
    except (IORegistryError, TypeError, AttributeError) as error:
        first = str(error).strip().split("\n", maxsplit=1)[0]
        where = f"into {target}" if isinstance(target, Path) else "as text; with --out it may go into a file"
        raise ValueError(f"cannot write the table {where} (format {table_format}): {first}") from None


def flag_words(flags: int) -> str:
    """Return the names of flags, "-" for none."""
    return " ".join(flag.name.lower().replace("_", "-") for flag in Flag if flag & flags and flag.name) or "-"


def _unit(text: str, image: Image) -> Any:
    """Return a unit of astropy; one that it does not know is kept as text."""
    own = {"count": "ct"}.get(image.unit or "", image.unit or "")
    named = text.replace("unit", own).replace("px", "pix") if image.unit or "unit" not in text else ""
    parse: Any = units.Unit
    return parse(named.strip(" /"), parse_strict="silent") if named else None


def _about(found: Measurement, image: Image) -> dict[str, Any]:
    # Names that FITS takes.
    return {
        "ORIGIN": image.origin,
        "IMAGE_ID": text_id(image.id),
        "INSTRUME": image.instrument or "",
        "BAND": image.band.name if image.band else "",
        "STOKES": image.stokes or "",
        "BUNIT": image.unit or "",
        "RMS_MIN": found.rms_min,
        "RMS_MAX": found.rms_max,
        "LEFT_OUT": found.left_out,
        **({} if found.psf is None else {"PSF_MAJ": 3600 * found.psf.major_deg, "PSF_MIN": 3600 * found.psf.minor_deg}),
    }
