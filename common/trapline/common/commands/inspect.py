"""Command that looks at images before they are sent: inspect."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Annotated, Any

import typer

from trapline.common.commands.options import EXPECTED, ConfigOption, JsonOption, fail
from trapline.common.config import ConfigError
from trapline.common.config.mesh import load_config

app = typer.Typer()


@app.command(epilog="Example: trapline inspect night/image.fits --json")
def inspect(
    paths: Annotated[list[str], typer.Argument(help="FITS files, directories or globs.", show_default=False)],
    instrument: Annotated[
        str | None, typer.Option(help="Name of the instrument's description; without it by the header.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is read of each image, from which header key, and why it would be rejected; exit code 1 if one is."""
    # Found by name, as the tables of the services are: nothing in common imports a service.
    inspection: Any = importlib.import_module("trapline.image_ingest.inspection")
    rejected = 0
    try:
        settings = load_config(config)
        section, dataset = settings.service("image_ingest"), settings.mesh.dataset
        for found in inspection.inspect_files(paths, section, dataset, instrument):
            rejected += found.image.quality.rejected
            sys.stdout.write(json.dumps(found.as_dict()) + "\n" if as_json else _text(found))
    except ConfigError as error:
        fail(error, 2)
    except EXPECTED as error:
        fail(error)
    if rejected:
        raise typer.Exit(1)


def _text(found: Any) -> str:
    lines = [found.origin]
    for name, value, key in found.facts:
        lines.append(f"  {name:10} {value:44} {key}".rstrip())
    quality = found.image.quality
    lines += [f"  {'flag':10} {flag}" for flag in quality.flags]
    for reason in quality.reasons:
        limit = f" (limit {reason.limit:g})" if reason.limit is not None else ""
        lines.append(f"  {'REJECTED':10} {reason.check}: {reason.text}{limit}")
    if not quality.rejected:
        lines.append(f"  {'accepted':10}")
    return "\n".join(lines) + "\n"
