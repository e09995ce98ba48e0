"""`injection`: transients put into images, and how many are announced in their first image; and noise without any.

Everything from the pixels to the events runs in this process: extractor, associator, finder. What a veto covers (edges,
side lobes of bright sources) and what has no peak of its own beside a brighter source is reported beside the others; by
what a transient is covered follows from where it stands and how bright it is, not from what was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from bench.harness import Comparison, Note, Size, Target, watched
from bench.injection_fields import PLACES, Field, noise_only, real, simulated
from bench.injection_report import Found, draw, table
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState
from trapline.associator.core import step as associate
from trapline.common.ids import fact_id, record_id
from trapline.common.wcs import parse_wcs
from trapline.schemas.header import Place
from trapline.schemas.images import SCHEMA, Images
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.transients import Transients
from trapline.simulator.core import render
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure_image
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, Judged, step

_OPEN, _BESIDE = PLACES[:2], PLACES[2:]
_WARM_UP = FinderConfig().warm_up
_RECOVERED = Target(">=", 0.99)
_QUIET = Target(">=", 1.0)
_REAL = ("ami-GRB120422A-120429.fits", "ami-SWIFT_554620-130504.fits", "lofar-GRB201006A-2min.fits")


@dataclass(frozen=True, slots=True)
class _Load:
    nights: int
    side_px: int
    frames: int
    per_frame: int
    real: tuple[str, ...]
    noise_images: int
    noise_px: int


_LOADS: dict[Size, _Load] = {
    "small": _Load(2, 256, 6, 4, _REAL[:1], 60, 128),
    "full": _Load(24, 512, 15, 10, _REAL, 10_000, 256),
}


def injection(size: Size) -> list[Comparison]:
    """Compare with what should be: all strong injections that no veto covers recovered at once, and noise silent."""
    load = _LOADS[size]
    nights = [_simulated_night(load, seed) for seed in watched(range(1, load.nights + 1))]
    stills = [_night(real(name), np.random.default_rng(7), load.frames, load.per_frame) for name in load.real]
    found = [one for night in nights for one in night.found]
    notes: dict[str, Note] = {"written": str(draw(found))}
    notes |= {f"{place:9}": text for place, text in table(found, PLACES).items()} | _false_alarms(nights)
    cases = [
        Comparison("simulated, open field", "fraction", *_fractions(nights, _OPEN), _RECOVERED, notes),
        Comparison("simulated, beside others", "fraction", *_fractions(nights, _BESIDE), _RECOVERED),
    ]
    found = [one for night in stills for one in night.found]
    notes = {f"{place:9}": text for place, text in table(found, PLACES).items()} | _false_alarms(stills)
    cases.append(Comparison("real, all places", "fraction", *_fractions(stills, PLACES), _RECOVERED, notes))
    return [*cases, _noise(load)]


def _fractions(nights: list[_Night], places: tuple[str, ...]) -> tuple[list[float], list[float]]:
    """Return the fraction of the strong injections that no veto covers, night by night, and what it should be."""
    wanted = [[f for f in night.found if f.injection.place in places and f.free] for night in nights]
    fractions = [sum(f.images == 0 for f in one) / len(one) for one in wanted if one]
    return fractions, [1.0] * len(fractions)


def _false_alarms(nights: list[_Night]) -> dict[str, Note]:
    points, alarms = sum(n.points for n in nights), sum((n.alarms for n in nights), Counter[str]())
    each = ", ".join(f"{count} {kind}" for kind, count in sorted(alarms.items())) or "none"
    return {
        "source measurements": float(points),
        "false alarms per million": 1e6 * alarms.total() / max(points, 1),
        "false alarms": each,
    }


@dataclass(slots=True)
class _Night:
    found: list[Found]
    points: int = 0
    alarms: Counter[str] = field(default_factory=Counter[str])


class _Chain:
    """Extractor, associator and finder, one image after the other."""

    def __init__(self) -> None:
        self._sky, self._finder, self._number = AssociatorState(), FinderState(), 0
        self.points = 0

    def take(self, message: Message[Images]) -> Judged:
        """Return what is said of an image."""
        assert message.header.image is not None
        place = Place("images", "0", 0, self._number)
        self._number += 1
        sources = measure_image(message, ExtractorConfig(), place)
        folded = associate(self._sky, message.header.image, sources, AssociatorConfig())
        (lightcurves,) = [m for m in folded.messages if isinstance(m.header, Lightcurves)]
        self.points += len(lightcurves.arrays["kind"])
        return step(self._finder, cast("Message[Lightcurves]", lightcurves), FinderConfig())


def _simulated_night(load: _Load, seed: int) -> _Night:
    return _night(simulated(load.side_px, seed), np.random.default_rng(seed), load.frames, load.per_frame)


def _night(sky: Field, rng: np.random.Generator, frames: int, per_frame: int) -> _Night:
    """Show a field until it is known, then inject; return what was found of it, and what was announced besides."""
    chain = _Chain()
    injections = sky.injections(rng, _WARM_UP, frames, per_frame)
    night = _Night([Found(i) for i in injections])
    ranked = _Ranked(sky, night.found)
    for frame in range(_WARM_UP + frames + 1):
        for band in range(len(sky.images)):
            judged = chain.take(sky.message(band, frame, injections))
            for event, veto in _opened(judged):
                found = ranked.of(event)
                if found is None:
                    night.alarms[event.kind] += veto is None
                elif event.kind == "new_source":
                    found.note(frame, veto)
    night.points = chain.points
    return night


def _opened(judged: Judged) -> Iterator[tuple[Transients, str | None]]:
    for message in (*judged.messages, *judged.suppressed):
        if message.header.alert_type == "initial":
            yield message.header, message.header.veto


class _Ranked:
    """Finds the injection that an event is about: one within a beam of it."""

    def __init__(self, sky: Field, found: list[Found]) -> None:
        self._wcs, self._found = parse_wcs(sky.image.wcs or ""), found
        self._reach = sky.fwhm_px
        self._at = np.array([(f.injection.x, f.injection.y) for f in found]).reshape(-1, 2)

    def of(self, event: Transients) -> Found | None:
        """Return it; None when there is none."""
        x, y = self._wcs.to_pixel(event.ra_deg, event.dec_deg)
        distance = np.hypot(self._at[:, 0] - x, self._at[:, 1] - y)
        near = int(distance.argmin()) if len(distance) else -1
        return self._found[near] if near >= 0 and distance[near] < self._reach else None


def _noise(load: _Load) -> Comparison:
    """Announce nothing of images in which there is nothing."""
    config, image = noise_only(load.noise_px, 99)
    chain, alarms, quiet = _Chain(), Counter[str](), 0
    for frame in watched(range(load.noise_images)):
        t_us = (image.t_start_us or 0) + frame * 1_000_000
        of = type(image)(**{n: getattr(image, n) for n in image.__struct_fields__} | {
            "id": fact_id(t_us, "noise", frame), "t_start_us": t_us,
        })  # fmt: skip
        header = Images(schema=SCHEMA, id=record_id(t_us, SCHEMA, of.id), image=of)
        judged = chain.take(Message(header, {"pixels": render(config, 0, frame).pixels}))
        kinds = [event.kind for event, veto in _opened(judged) if veto is None]
        alarms.update(kinds)
        quiet += not kinds
    expected = expected_peaks(load.noise_images * load.noise_px**2, 0.1 * 0.08 / 0.02**2)
    notes: dict[str, Note] = {
        "images": float(load.noise_images),
        "sources measured": float(chain.points),
        "false alarms": float(alarms.total()),
        "expected of Gaussian noise": expected,
    }
    return Comparison(
        f"noise alone, {load.noise_px} px", "fraction quiet", [quiet / load.noise_images], [1.0], _QUIET, notes
    )


def expected_peaks(pixels: int, beam_px2: float, sigma: float | None = None) -> float:
    """Return how many maxima above a level Gaussian noise of the beam's correlation has, for high levels.

    Adler 1981 (The Geometry of Random Fields), theorem 6.3.1: per area |L|^(1/2) (2 pi)^(-3/2) u exp(-u^2 / 2), where L
    is the covariance of the gradient of the field, which for noise of the autocorrelation of a Gaussian beam of full
    widths a and b at half maximum is 4 ln 2 diag(1/a^2, 1/b^2).

    Parameters
    ----------
    pixels
        Area in pixels.
    beam_px2
        a b, in pixels.
    sigma
        The level u; by default that of detection.
    """
    u = ExtractorConfig().detection_threshold if sigma is None else sigma
    density = 4 * np.log(2) / beam_px2 * (2 * np.pi) ** -1.5 * u * np.exp(-(u**2) / 2)
    return float(pixels * density)
