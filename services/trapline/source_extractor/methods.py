"""How sources are found and measured: ours, or a function of somebody else's.

A method is one function, ``method(scene, settings) -> PixelRows``. The service runs the one that ``[source_extractor]
method`` names: one that was registered, or ``"module:function"``, which is imported. Everything else stays as it is:
region, sky positions, ids, forced photometry and messages. ``deploy/plugins/photutils_method.py`` is an example.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trapline.common.named import function_named
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.optical import measure_optical
from trapline.source_extractor.radio import measure_radio
from trapline.source_extractor.rows import PixelRows
from trapline.source_extractor.scene import Scene

Method = Callable[[Scene, ExtractorConfig], PixelRows]
"""Returns the sources of a scene in any order, also those outside of its region: what is not in it is dropped."""

_methods: dict[str, Method] = {}


class MethodError(ValueError):
    """A method that does not exist, or does not return what it should. The text says what would be right."""


def register(name: str, method: Method) -> None:
    """Make a method known under a name, in place of any that had it."""
    _methods[name] = method


def method_named(name: str) -> Method:
    """Return a method: one that is registered, or that of ``"module:function"``.

    Raises
    ------
    MethodError
        When there is none.
    """
    try:
        return function_named("method", name, _methods)
    except ValueError as error:
        raise MethodError(str(error)) from None


def extract(scene: Scene, settings: ExtractorConfig) -> PixelRows:
    """Return the sources of a scene by the configured method, checked.

    Raises
    ------
    MethodError
        When there is no such method, or it returns something else.
    """
    rows = method_named(settings.method)(scene, settings)
    if not isinstance(rows, PixelRows):
        raise MethodError(f"method {settings.method!r} returned {type(rows).__name__}, not PixelRows")
    n, shapes = len(rows), {name: np.shape(array) for name, array in rows.arrays().items()}
    wrong = [name for name, shape in shapes.items() if shape[:1] != (n,)]
    if wrong:
        raise MethodError(f"method {settings.method!r}: {wrong[0]} has the shape {shapes[wrong[0]]} for {n} sources")
    numbers = np.isfinite(rows.position_px).all(axis=-1) & np.isfinite(rows.flux_peak + rows.flux_int)
    return (rows if numbers.all() else rows.take(numbers)).highest(settings.most_sources)


def ours(scene: Scene, settings: ExtractorConfig) -> PixelRows:
    """Fit Gaussians where there is a beam, else measure in apertures."""
    if scene.beam is None:
        return measure_optical(scene.noise, settings)
    return measure_radio(scene.noise, scene.beam, settings)


register("trapline", ours)
