"""Ask for an observation when a transient is up and the sky is dark at a telescope.

FOLLOW_UP_DIRECTORY=requests FOLLOW_UP_SITE="-17.8792,28.7606,2332" trapline plugin deploy/plugins/follow_up.py
trapline tail observing_requests

Each transient gets a file REQUESTS/EVENT.json with the first window of the coming day in which it is higher than 30
degrees and the Sun lower than -12. A retraction withdraws it. The files are named by the event and written whole: a
plug-in that is killed writes the same file again. The site is longitude and latitude (degrees, east and north positive)
and height (m); the default is the Roque de los Muchachos.
"""

import json
import os
from pathlib import Path
from typing import Annotated

import astropy.units as u
import msgspec
import numpy as np
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_body, get_sun
from astropy.time import Time
from astropy.utils import iers

from trapline.plugin import Event, Id, count, doc, publishes, subscribes

# No telescope should wait for a download; old predictions of the Earth's rotation are off by less than a minute of arc.
iers.conf.auto_download = False
iers.conf.auto_max_age = None
iers.conf.iers_degraded_accuracy = "ignore"

DIRECTORY = Path(os.environ.get("FOLLOW_UP_DIRECTORY", "requests"))
LON, LAT, HEIGHT = (float(v) for v in os.environ.get("FOLLOW_UP_SITE", "-17.8792,28.7606,2332").split(","))
LEAST_ALTITUDE_DEG = 30.0
SUN_BELOW_DEG = -12.0
LEAST_WINDOW_MIN = 20
LOOK_AHEAD_H = 24
SITE = EarthLocation(lon=LON * u.deg, lat=LAT * u.deg, height=HEIGHT * u.m)


class Request(msgspec.Struct):
    """A window in which a transient can be observed, or none."""

    event_id: Id
    action: Annotated[str, doc("`observe`, `withdraw`, or `never_up` when there is no window within a day")]
    begin: Annotated[str | None, doc("begin of the window, UTC")] = None
    end: Annotated[str | None, doc("end of the window, UTC")] = None
    altitude_deg: Annotated[float | None, doc("highest altitude in the window", "deg")] = None
    moon_deg: Annotated[float | None, doc("distance from the Moon in the middle of the window", "deg")] = None


@subscribes("transients", "flares", kind=["new_source", "flare"])
@publishes("observing_requests", Request)
def ask(event: Event):
    """Write, or withdraw, the request for one event."""
    path = DIRECTORY / f"{event.event_id.hex()}.json"
    if event.alert_type == "retraction":
        path.unlink(missing_ok=True)
        return Request(event.event_id, "withdraw")
    if event.alert_type == "update" or event.role != "observation":
        count("not_asked_for")
        return None
    request = window(event)
    if request.action == "observe":
        write(path, event, request)
    return request


def window(event):
    """Return the first window after the event in which it is up and the sky is dark, in steps of five minutes."""
    target = SkyCoord(event.ra_deg * u.deg, event.dec_deg * u.deg)
    times = event.time + np.arange(0, LOOK_AHEAD_H * 60, 5) * u.min
    frame = AltAz(obstime=times, location=SITE)
    altitude = target.transform_to(frame).alt.deg
    good = (altitude > LEAST_ALTITUDE_DEG) & (get_sun(times).transform_to(frame).alt.deg < SUN_BELOW_DEG)
    first, last = longest_enough(good, LEAST_WINDOW_MIN // 5)
    if first is None:
        return Request(event.event_id, "never_up")
    middle = (first + last) // 2
    moon = get_body("moon", times[middle], SITE)
    apart = target.separation(SkyCoord(moon.ra, moon.dec)).deg
    begin, end = (Time(times[i], precision=0).isot for i in (first, last))
    return Request(event.event_id, "observe", begin, end, altitude[first : last + 1].max(), apart)


def longest_enough(good, least):
    """Return (first, last) of the first run of at least so many steps that are good; (None, None) without one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(int), [0]])))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin >= least:
            return int(begin), int(end) - 1
    return None, None


def write(path, event, request):
    """Write a request whole, or not at all."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    content = {
        "event": event.event_id.hex(),
        "kind": event.kind,
        "ra_deg": event.ra_deg,
        "dec_deg": event.dec_deg,
        "begin": request.begin,
        "end": request.end,
        "altitude_deg": round(request.altitude_deg, 1),
        "moon_deg": round(request.moon_deg, 1),
        "reason": f"{event.significance:.1f} sigma in {event.band.name} at {event.time.isot}",
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=2) + "\n")
    new.replace(path)
