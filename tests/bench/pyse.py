"""PySE as an opponent: it measures FITS files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from bench import opponents
from extractor_skies import Field
from extractor_truth import Found

PACKAGES = ("radio-pyse==0.7.1",)

_PROGRAM = Path(__file__).with_name("pyse_program.py")


class Pyse:
    """Their program; the first image takes longer, since it compiles what it needs."""

    def __init__(self, program: opponents.Opponent, directory: Path) -> None:
        self._program, self._directory = program, directory

    def measure(self, image: Path, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the columns of the sources of a file, as PySE names them, and ``seconds`` and ``processor_s``."""
        table = self._directory / "table.npz"
        told = self._program.ask(path=str(image), settings=settings, out=str(table))
        with np.load(table) as columns:
            return {name: columns[name] for name in columns.files}, told


@contextmanager
def pyse(python: Path, directory: Path) -> Iterator[Pyse]:
    """Run PySE while the block lasts."""
    with opponents.opponent(python, _PROGRAM, [], directory) as program:
        yield Pyse(program, directory)


def found_of(columns: dict[str, Any]) -> Found:
    """Return what PySE found: its positions count from 0, along the axes of FITS."""
    names = ("x", "y", "x_err", "y_err", "peak", "peak_err", "flux", "flux_err", "sig")
    return Found(*(columns[name] for name in names))


def write_fits(path: Path, sky: Field) -> Path:
    """Write a field as a file that PySE reads, and return where."""
    assert sky.image.wcs is not None
    assert sky.image.beam is not None
    header = fits.Header.fromstring(sky.image.wcs)
    beam = sky.image.beam
    header.update({"BMAJ": beam.major_deg, "BMIN": beam.minor_deg, "BPA": beam.pa_deg, "BUNIT": "JY/BEAM"})
    header.update({"RESTFRQ": 1.4e9, "RESTBW": 1e6, "DATE-OBS": "2020-01-01T00:00:00", "EXPTIME": 10.0})
    header.update({"TELESCOP": "test"})
    fits.writeto(path, sky.pixels, header, overwrite=True)
    return path
