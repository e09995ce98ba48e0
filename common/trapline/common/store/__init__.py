"""Reading the lightcurve store: plain functions that take a connection and only read.

`opening.open_store` is what notebooks and scripts use of it; the astropy modules are imported when they are needed.
"""

from trapline.common.store.events import find_images, find_transients
from trapline.common.store.export import EXPORTS, Export, export
from trapline.common.store.lightcurve import RESOLUTIONS, Resolution, lightcurve
from trapline.common.store.objects import FoundObject, ObjectFilter, cone, find_objects
from trapline.common.store.series import Lightcurve, Window
from trapline.common.store.summary import ImageCounts, Summary, summary

__all__ = [
    "EXPORTS",
    "RESOLUTIONS",
    "Export",
    "FoundObject",
    "ImageCounts",
    "Lightcurve",
    "ObjectFilter",
    "Resolution",
    "Summary",
    "Window",
    "cone",
    "export",
    "find_images",
    "find_objects",
    "find_transients",
    "lightcurve",
    "summary",
]
