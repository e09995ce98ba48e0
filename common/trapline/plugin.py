"""What the file of a plug-in imports; `trapline plugin FILE` runs it, `trapline plugin new NAME` writes one.

>>> import msgspec
>>> from trapline.plugin import Event, publishes, subscribes
>>> class Bright(msgspec.Struct):
...     "An event above ten sigma."
...     significance: float
>>> @subscribes("transients")
... @publishes("bright", Bright)
... def find(event: Event):
...     if event.significance > 10:
...         yield Bright(event.significance)
"""

from trapline.common.channel.event import Event
from trapline.common.plugin.declare import PluginError, publishes, subscribes
from trapline.common.plugin.messages import own_message, row_of
from trapline.common.plugin.stepping import count
from trapline.common.plugin.transients import transient
from trapline.schemas.columns import Column, Flag, Kind, Link, id_column
from trapline.schemas.header import Id, doc
from trapline.schemas.transients import Transients

__all__ = [
    "Column",
    "Event",
    "Flag",
    "Id",
    "Kind",
    "Link",
    "PluginError",
    "Transients",
    "count",
    "doc",
    "id_column",
    "own_message",
    "publishes",
    "row_of",
    "subscribes",
    "transient",
]
