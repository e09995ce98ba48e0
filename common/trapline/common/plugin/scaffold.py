"""A new plug-in: a working example and its test, to be changed by whoever asked for it."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from trapline.common.plugin.declare import PluginError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")

_PLUGIN = Template('''\
"""Announce objects that are much brighter than they were on average.

Try it on what is recorded:  trapline plugin $name.py --replay first..latest
Run it beside the mesh:      trapline plugin $name.py
See what it says:            trapline tail $name
"""

from typing import Annotated

import msgspec
import numpy as np

from trapline.plugin import Event, Id, count, doc, publishes, row_of, subscribes

TIMES_BRIGHTER = 3.0
LEAST_POINTS = 5


class Brightening(msgspec.Struct):
    """An object that is much brighter than its mean. Fields and their descriptions are the channel's schema."""

    object_id: Id
    ra_deg: Annotated[float, doc("right ascension, ICRS", "deg")]
    dec_deg: Annotated[float, doc("declination, ICRS", "deg")]
    ratio: Annotated[float, doc("flux over the weighted mean of all points")]
    times: Annotated[int, doc("how often this object was announced, this time included")]


class Seen(msgspec.Struct):
    """What the plug-in remembers, also after a restart."""

    times: dict[bytes, int] = {}


@subscribes("lightcurves", state=Seen)
@publishes("$name", Brightening)
def find(event: Event, seen: Seen):
    """Look at one image's points; columns are numpy arrays with one value per point."""
    flux, mean, known = event["flux_int"], event["flux_mean_weighted"], event["n"] >= LEAST_POINTS
    count("too_new", int((~known).sum()))
    for row in np.flatnonzero(known & (mean > 0) & (flux > TIMES_BRIGHTER * mean)):
        object_id = row_of(event["object_id"], row)
        seen.times[object_id] = seen.times.get(object_id, 0) + 1
        yield Brightening(
            object_id=object_id,
            ra_deg=row_of(event["object_ra_deg"], row),
            dec_deg=row_of(event["object_dec_deg"], row),
            ratio=flux[row] / mean[row],
            times=seen.times[object_id],
        )
''')

_TEST = Template('''\
"""The plug-in, tried without a mesh."""

from $name import Seen, find

from trapline.common.testing.plugin import fake_lightcurves, step


def test_an_object_far_above_its_mean_is_announced_and_counted():
    images = [fake_lightcurves(flux=[1.0, 9.0], mean=[1.0, 2.0], t_us=t) for t in (1_000_000, 2_000_000)]
    first, second = step(find, *images)
    assert first.place.channel == "$name"
    assert (first.ratio, first.times, second.times) == (4.5, 1, 2)
    assert first.object_id == images[0].arrays["object_id"][1].tobytes()


def test_a_new_object_and_a_steady_one_are_not():
    seen = Seen()
    assert step(find, fake_lightcurves(flux=[9.0], n=2), fake_lightcurves(flux=[1.1]), state=seen) == []
    assert seen.times == {}
''')


def write_example(directory: Path, name: str) -> tuple[Path, Path]:
    """Write ``NAME.py`` and ``test_NAME.py``, and return their paths.

    Raises
    ------
    PluginError
        When the name cannot be that of a module and a channel, or one of the files is there already.
    """
    if not _NAME.fullmatch(name):
        raise PluginError(f"{name!r} cannot be a plug-in's name: lower-case letters, digits and '_', as flare_finder")
    plugin, test = directory / f"{name}.py", directory / f"test_{name}.py"
    for path in (plugin, test):
        if path.exists():
            raise PluginError(f"{path} is there already; choose another name, or remove it")
    plugin.write_text(_PLUGIN.substitute(name=name))
    test.write_text(_TEST.substitute(name=name))
    return plugin, test
