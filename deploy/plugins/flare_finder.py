"""Find flares: points far above the recent median of their object, whatever its slow changes.

trapline plugin deploy/plugins/flare_finder.py
trapline plugin deploy/plugins/flare_finder.py --replay 2026-01-31T20:00..latest      # what it would have found
trapline tail flares

The transient finder compares with the mean since the beginning. This one compares with the last points of the band, by
median and median absolute deviation, so that a source that rises for hours is no flare and one outlier hides no other.
A flare is announced when it opens, again when its peak rises by a quarter, and when it is over.
"""

import msgspec
import numpy as np

from trapline.plugin import Event, Transients, count, publishes, row_of, subscribes, transient

OPENS_SIGMA = 6.0  # above the median, of the point's error and the scatter together
CLOSES_SIGMA = 3.0
HISTORY = 30  # points that are remembered of an object and band
LEAST_POINTS = 8
PEAK_RISES = 1.25
FORGET_AFTER_S = 86400.0


class Track(msgspec.Struct):
    """What is remembered of an object in a band."""

    fluxes: list[float] = []
    last_us: int = 0
    opened_us: int | None = None
    opening_image: bytes = b""
    peak: float = 0.0


class Tracks(msgspec.Struct):
    """What survives a restart."""

    by_object: dict[str, Track] = {}
    pruned_us: int = 0


@subscribes("lightcurves", state=Tracks)
@publishes("flares", Transients)
def find(event: Event, tracks: Tracks):
    """Judge the points of one image, then remember them."""
    if event.image is None:
        return
    for row in np.flatnonzero(np.isfinite(event["flux_int"]) & (event["flux_int_err"] > 0)):
        key = f"{row_of(event['object_id'], row).hex()} {event.image.band.name}"
        track = tracks.by_object.setdefault(key, Track())
        if event.t_us <= track.last_us:
            count("late_points")
            continue
        yield from judge(event, row, track)
    prune(tracks, event.t_us)


def judge(event, row, track):
    """Yield what there is to say of a point. Points of a flare are not remembered: they are what is looked for."""
    flux, error = row_of(event["flux_int"], row), row_of(event["flux_int_err"], row)
    track.last_us = event.t_us
    sigma, median = excess(flux, error, track.fluxes)
    rule = {"sigma": sigma, "opens": OPENS_SIGMA, "median": median}
    if track.opened_us is None and sigma >= OPENS_SIGMA:
        track.opened_us, track.opening_image, track.peak = event.t_us, event.image.id, flux
        yield transient(event, row, kind="flare", significance=sigma, rule=rule)
    elif track.opened_us is not None and sigma < CLOSES_SIGMA:
        duration_s = (event.t_us - track.opened_us) / 1e6
        ended = {**rule, "ended": 1.0, "peak": track.peak, "duration_s": duration_s}
        yield update(event, row, track, sigma, ended)
        track.opened_us = None
    elif track.opened_us is not None and flux > PEAK_RISES * track.peak:
        track.peak = flux
        yield update(event, row, track, sigma, rule)
    if track.opened_us is None:
        track.fluxes = [*track.fluxes[1 - HISTORY :], flux]


def update(event, row, track, sigma, rule):
    """Return a further record of a flare that was announced."""
    more = {"alert_type": "update", "opening_image": track.opening_image, "rule": rule}
    return transient(event, row, kind="flare", significance=sigma, **more)


def excess(flux, error, fluxes):
    """Return by how many sigma a flux is above the median of the others, and that median; 0 while those are few."""
    if len(fluxes) < LEAST_POINTS:
        return 0.0, float("nan")
    median = float(np.median(fluxes))
    scatter = 1.4826 * float(np.median(np.abs(np.array(fluxes) - median)))
    return float((flux - median) / np.hypot(error, scatter)), median


def prune(tracks, now_us):
    """Forget, once an hour, what was not measured for a day."""
    if now_us - tracks.pruned_us > 3_600_000_000:
        tracks.pruned_us = now_us
        old = [key for key, track in tracks.by_object.items() if now_us - track.last_us > FORGET_AFTER_S * 1e6]
        for key in old:
            del tracks.by_object[key]
        count("objects_forgotten", len(old))
