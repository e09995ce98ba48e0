"""Reading the lightcurve store: plain functions that take a connection and only read."""

from trapline.common.store.export import EXPORTS, Export, export
from trapline.common.store.lightcurve import Point, lightcurve
from trapline.common.store.objects import NearObject, cone
from trapline.common.store.summary import ImageCounts, Summary, summary

__all__ = [
    "EXPORTS",
    "Export",
    "ImageCounts",
    "NearObject",
    "Point",
    "Summary",
    "cone",
    "export",
    "lightcurve",
    "summary",
]
