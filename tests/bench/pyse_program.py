"""Measures images with PySE, as its own command does: a program for an environment of its own.

It takes a line of JSON an image: a FITS file, PySE's settings of images, and where to put the table (.npz). It answers
with the seconds of the extraction, without reading the file and writing the table, and with its processor time.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
import warnings
from typing import Any

import numpy as np

_COLUMNS = ("x", "x_err", "y", "y_err", "ra", "dec", "peak", "peak_err", "flux", "flux_err", "sig")


def measure(path: str, settings: dict[str, Any], out: str) -> dict[str, float]:
    """Extract an image, and save the columns."""
    accessors: Any = importlib.import_module("sourcefinder.accessors")
    config: Any = importlib.import_module("sourcefinder.config")
    export = config.ExportSettings(pandas_df=True, source_params=list(_COLUMNS))
    conf = config.Conf(config.ImgConf(**settings), export)
    image = accessors.sourcefinder_image_from_accessor(accessors.open(path), conf=conf)
    begin, processor = time.perf_counter(), time.process_time()
    table = image.extract()
    seconds, processor_s = time.perf_counter() - begin, time.process_time() - processor
    np.savez(out, **{name: np.asarray(table[name], float) for name in _COLUMNS})
    return {"seconds": seconds, "processor_s": processor_s, "rows": len(table)}


def main() -> None:
    """Measure what is told on standard input, until that ends."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    answers, sys.stdout = sys.stdout, sys.stderr  # what they print is no answer
    for answer in _answers():
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answers() -> Any:
    importlib.import_module("sourcefinder.image")
    yield {"ready": True}
    for line in sys.stdin:
        yield measure(**json.loads(line))


if __name__ == "__main__":
    main()
