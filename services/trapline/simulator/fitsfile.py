"""Images and their truth as files."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from astropy.io import fits

from trapline.simulator.beam import Pixels
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.core import render
from trapline.simulator.truth import Truth, catalogue_table

TRUTH_FILE = "truth.jsonl"
CATALOGUE_FILE = "catalogue.ecsv"


class TruthRecorder:
    """Writes the truth beside the images: a line per image as it is made, and the catalogue of sources.

    The catalogue is there from the start and is written again at the end, with the transients that turned on meanwhile.
    """

    def __init__(self, config: SimulatorConfig, directory: Path) -> None:
        self._config = config
        self._directory = directory
        self._frames = 0
        directory.mkdir(parents=True, exist_ok=True)
        self._write_catalogue()
        self._lines = (directory / TRUTH_FILE).open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, truth: Truth) -> None:
        """Append the truth of one image; it is in the file when this returns."""
        self._lines.write(truth.to_json() + "\n")
        self._lines.flush()
        self._frames = max(self._frames, truth.frame + 1)

    def close(self) -> None:
        """Write the final catalogue."""
        self._lines.close()
        self._write_catalogue()

    def _write_catalogue(self) -> None:
        path = self._directory / CATALOGUE_FILE
        partial = path.with_name(path.name + ".part")
        catalogue_table(self._config, self._frames).write(partial, format="ascii.ecsv", overwrite=True)
        partial.replace(path)


def image_path(directory: Path, band: int, frame: int) -> Path:
    """Return where an image goes: names sort by frame, then by band."""
    return directory / f"frame{frame:06d}-band{band:02d}.fits"


def write_image(path: Path, header: fits.Header, pixels: Pixels) -> None:
    """Write one image (ny, nx) as FITS; a reader sees all of it or nothing."""
    partial = path.with_name(path.name + ".part")
    fits.PrimaryHDU(pixels, header).writeto(partial, overwrite=True)
    partial.replace(path)


def write_files(config: SimulatorConfig, directory: Path) -> list[Path]:
    """Write all images of a finite configuration, with their truth, and return their paths by frame and band.

    Raises
    ------
    ValueError
        When the configuration does not say how many frames there are.
    """
    if config.frames is None:
        raise ValueError("frames is not set: say how many images per band to write")
    paths: list[Path] = []
    with TruthRecorder(config, directory) as recorder:
        for frame in range(config.frames):
            for band in range(len(config.bands)):
                header, pixels, truth = render(config, band, frame)
                paths.append(image_path(directory, band, frame))
                write_image(paths[-1], header, pixels)
                recorder.add(truth)
    return paths
