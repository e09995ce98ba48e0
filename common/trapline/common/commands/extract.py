"""Command that measures one image outside of a mesh: extract."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from trapline.common.commands.options import EXPECTED, ConfigOption, fail
from trapline.common.config import ConfigError
from trapline.common.config.errors import explain
from trapline.common.config.mesh import load_config

app = typer.Typer()


@app.command(epilog="Example: trapline extract night/image.fits --png image.png --out sources.ecsv")
def extract(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A FITS file.", show_default=False)],
    png: Annotated[Path | None, typer.Option(help="Draw the image, its sources and its noise into this file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write all columns into this file, by its suffix.")] = None,
    table_format: Annotated[
        str | None, typer.Option("--format", help="Any format of astropy's tables, as ascii.ecsv, csv, votable, fits.")
    ] = None,
    detection_threshold: Annotated[float | None, typer.Option(help="In sigma, instead of the configured one.")] = None,
    free_axes: Annotated[bool, typer.Option("--free-axes", help="Fit axes too, not those of the beam.")] = False,
    method: Annotated[str | None, typer.Option(help="A plug-in, module:function.")] = None,
    detect_in: Annotated[Path | None, typer.Option(help="Find the sources in this image of the same pixels.")] = None,
    noise_map: Annotated[Path | None, typer.Option(help="Take the noise from this image of the same pixels.")] = None,
    weight_map: Annotated[
        Path | None, typer.Option(help="Take the noise from this map of inverse variances; 0: not used.")
    ] = None,
    plane: Annotated[int, typer.Option(min=0, help="Which image of the file, from 0.")] = 0,
    config: ConfigOption = None,
) -> None:
    """Measure the sources of one image, print them as a table and draw them; nothing is sent or stored.

    An image that a mesh would reject is measured as far as it can be, and the reasons are told.
    """
    try:
        loaded = load_config(config)
        chosen: dict[str, Any] = {"detection_threshold": detection_threshold, "method": method}
        chosen["force_beam"] = False if free_axes else None
        section: Any = loaded.service("source_extractor")
        settings = _changed(section, {key: value for key, value in chosen.items() if value is not None})
        images = _Images(loaded.service("image_ingest"), loaded.mesh.dataset)
        image, pixels, mask = images.read(path, plane)
        core: Any = importlib.import_module("trapline.source_extractor.core")
        given = {"rms": images.noise(noise_map, weight_map), "detection": images.pixels(detect_in)}
        found = core.measure(pixels, image, settings, mask=mask, **given)
        _tell(found, image, out, table_format)
        if png is not None:
            scenes: Any = importlib.import_module("trapline.source_extractor.scene")
            scene = scenes.prepare(pixels, image, settings, mask, given["rms"])
            importlib.import_module("trapline.source_extractor.picture").draw(scene, found, png)
    except ConfigError as error:
        fail(error, 2)
    except ModuleNotFoundError as error:
        fail(f"{error}: pip install 'trapline[science]'" if error.name == "matplotlib" else error)
    except EXPECTED as error:
        fail(error)


def _changed(section: Any, changes: dict[str, Any]) -> Any:
    try:
        return section.model_validate({**section.model_dump(), **changes})
    except ValidationError as error:
        raise ConfigError(explain(error, type(section), "options")) from None


class _Images:
    """Files as ingest reads them. Found by name: nothing in common imports a service."""

    def __init__(self, section: Any, dataset: str) -> None:
        self._core: Any = importlib.import_module("trapline.image_ingest.core")
        self._files: Any = importlib.import_module("trapline.image_ingest.fitsfile")
        self._settings = importlib.import_module("trapline.image_ingest.instruments").Settings.load(section, dataset)

    def read(self, path: Path, plane: int = 0) -> tuple[Any, Any, Any]:
        """Return the description, the pixels and the mask of one image of a file."""
        planes = list(self._files.read_fits(path, limit_bytes=self._settings.config.max_image_bytes))
        if plane >= len(planes):
            raise ValueError(f"{path}: there is no plane {plane}; it has {len(planes)}, counted from 0")
        if len(planes) > 1:
            sys.stderr.write(f"trapline: plane {plane} of 0 to {len(planes) - 1} in {path}; --plane for another\n")
        one = planes[plane]
        message = self._core.describe(one.header, one.pixels, origin=one.origin, settings=self._settings)
        image = message.header.image
        for reason in image.quality.reasons:
            sys.stderr.write(f"trapline: {path} would be rejected: {reason.check}: {reason.text}\n")
        if "pixels" not in message.arrays or image.shape is None:
            raise ValueError(f"{path}: there is nothing to measure in it")
        return image, message.arrays["pixels"], message.arrays.get("mask")

    def pixels(self, path: Path | None) -> Any:
        """Return the pixels of a file, in the unit of the image; None without one."""
        return None if path is None else self.read(path)[1]

    def noise(self, noise_map: Path | None, weight_map: Path | None) -> Any:
        """Return the noise that a map tells; None without one. Of a weight map only its numbers count."""
        if weight_map is None:
            return self.pixels(noise_map)
        if noise_map is not None:
            raise ConfigError("--noise-map and --weight-map both tell the noise: one of them is wanted")
        weights = next(iter(self._files.read_fits(weight_map, limit_bytes=self._settings.config.max_image_bytes)))
        if weights.pixels is None:
            raise ValueError(f"{weight_map}: there is no image in it")
        return importlib.import_module("trapline.source_extractor.noise").noise_of(weights.pixels)


def _tell(found: Any, image: Any, out: Path | None, table_format: str | None) -> None:
    tables: Any = importlib.import_module("trapline.source_extractor.table")
    if found.left_out:
        sys.stderr.write(f"trapline: {found.left_out} fainter sources were left out (most_sources)\n")
    if out is not None:
        tables.write(found, image, out, table_format)
    elif table_format is not None:
        tables.write(found, image, sys.stdout, table_format)
    if out is not None or table_format is None:
        sys.stdout.write(tables.short_table(found, image) + "\n")
