"""Fields into which transients are injected: simulated ones in two bands, and real images shown again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from bench.bench_extract import beam_of
from trapline.common.ids import fact_id, record_id
from trapline.image_ingest.config import IngestConfig
from trapline.image_ingest.core import describe
from trapline.image_ingest.fitsfile import read_fits
from trapline.image_ingest.instruments import Settings
from trapline.schemas.image import Image
from trapline.schemas.images import SCHEMA, Images
from trapline.schemas.message import Message
from trapline.simulator.beam import PixelBeam, Pixels, add_point_sources
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.core import render, truth_of
from trapline.simulator.telescope import header_of
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure
from trapline.source_extractor.noise import flatten
from trapline.source_extractor.scene import prepare
from trapline.transient_finder.config import FinderConfig

Float = npt.NDArray[np.float64]

REAL = Path(__file__).parents[1] / "data" / "real"
PLACES = ("field", "one band", "crowded", "side lobe", "edge")
_WEIGHTS = (0.5, 0.15, 0.15, 0.1, 0.1)
_DURATIONS = (1, 2, 5)
_SNR = (5.0, 100.0)
_STEP_US = 10_000_000
BLENDED = "blended"
_RISE_SIGMA = 3.0  # by which a peak exceeds what detection asks of it, so that the noise seldom hides it


@dataclass(frozen=True, slots=True)
class Injection:
    """A transient that is not in the sky: pixels 0-based, flux in the unit of the image, images counted from 0."""

    place: str
    x: float
    y: float
    flux: float
    snr: float
    """flux over the noise where it stands"""
    strong: bool
    """whether that is at least 12 times the largest noise of the image"""
    bands: tuple[int, ...]
    first: int
    duration: int
    covered: str | None = None
    """the veto that covers it, by where it stands and how bright it is, or `BLENDED`"""


@dataclass
class Field:
    """Images of one field without transients, in some bands at the same times."""

    name: str
    image: Image
    """of band 0"""
    images: list[Image]
    """one per band"""
    pixels: Callable[[int, int], Pixels]
    """of (band, frame)"""

    def __post_init__(self) -> None:
        base, settings = self.pixels(0, 0), ExtractorConfig()
        noise = flatten(base, None, settings.mesh_radio_px).rms
        self.noise: Float = np.asarray(noise, float)
        found = measure(base, self.image, settings)
        self.rms_max = found.rms_max or 0.0
        self.steady_px: Float = np.stack([found.columns["x"], found.columns["y"]], axis=-1)
        self.peak: Float = np.asarray(found.columns["flux_peak"], float)
        (xx, xy), (_, yy) = beam_of(self.image).covariance_px
        self.beam = PixelBeam(float(xx), float(xy), float(yy))
        self._scene = prepare(base, self.image, settings)
        self.fwhm_px = 2.355 * float(max(xx, yy)) ** 0.5

    def message(self, band: int, frame: int, injections: list[Injection]) -> Message[Images]:
        """Return the image of a band and frame, with what shines in it."""
        pixels = self.pixels(band, frame).copy()
        now = [i for i in injections if band in i.bands and i.first <= frame < i.first + i.duration]
        if now:
            x, y, flux = (np.array([getattr(i, name) for i in now]) for name in ("x", "y", "flux"))
            add_point_sources(pixels, x, y, flux, self.beam)
        t_us = (self.image.t_start_us or 0) + frame * _STEP_US
        of = self.images[band]
        image = msgspec.structs.replace(of, id=fact_id(t_us, "bench", self.name, band, frame), t_start_us=t_us)
        return Message(Images(schema=SCHEMA, id=record_id(t_us, SCHEMA, image.id), image=image), {"pixels": pixels})

    def injections(self, rng: np.random.Generator, first: int, frames: int, per_frame: int) -> list[Injection]:
        """Return transients that begin in the frames from `first` on, none near another of this field."""
        made: list[Injection] = []
        taken = np.zeros((0, 2))
        for frame in range(first, first + frames):
            for _ in range(per_frame):
                place = str(rng.choice(PLACES, p=_WEIGHTS))
                at = self._free(rng, place, taken)
                if at is None:
                    continue
                taken = np.concatenate([taken, at[None]])
                made.append(self._injection(rng, place, at, frame))
        return made

    def _injection(self, rng: np.random.Generator, place: str, at: Float, frame: int) -> Injection:
        snr = float(np.exp(rng.uniform(*np.log(_SNR))))
        flux = snr * float(self.noise[round(at[1]), round(at[0])])
        bands = (0,) if place == "one band" else tuple(range(len(self.images)))
        strong, duration = flux >= 12 * self.rms_max, int(rng.choice(_DURATIONS))
        return Injection(place, *map(float, at), flux, snr, strong, bands, frame, duration, self.covered(at, flux))

    def covered(self, at: Float, flux: float) -> str | None:
        """Return what covers a transient by the truth alone: a veto of the finder, or the light of a neighbour."""
        if self._scene.near_edge(*at[:, None])[0]:
            return "near_edge"
        finder, beam_px = FinderConfig(), self.fwhm_px
        distance = np.hypot(*(self.steady_px - at).T)
        beside = self.peak[(distance > beam_px / 2) & (distance < finder.side_lobe_beams * beam_px)]
        if (beside > finder.side_lobe_ratio * flux).any():
            return "near_bright"
        noise = float(self.noise[round(at[1]), round(at[0])])
        asked = (ExtractorConfig().deblend_sigma + _RISE_SIGMA) * noise
        near = np.flatnonzero(distance < 3 * beam_px)
        return BLENDED if any(self._rise(at, flux, row) < asked for row in near) else None

    def _rise(self, at: Float, flux: float, row: int) -> float:
        """Return by how much its brightest pixel exceeds the saddle to a steady source, were there no noise."""
        x, y = (axis.ravel() + centre for axis, centre in zip(np.mgrid[-1:2, -1:2], np.rint(at), strict=True))
        part = np.linspace(0, 1, 200)
        line = at + part[:, None] * (self.steady_px[row] - at)
        return float(self._light(x, y, at, flux).max() - self._light(*line.T, at, flux).min())

    def _light(self, x: Float, y: Float, at: Float, flux: float) -> Float:
        """Return the surface brightness of a transient and all that is steady, without noise."""
        places, peaks = np.vstack([self.steady_px, at]), np.append(self.peak, flux)
        dx, dy = (np.subtract.outer(axis, place) for axis, place in zip((x, y), places.T, strict=True))
        xx, xy, yy = self.beam.inverse()
        squared = xx * dx**2 + 2 * xy * dx * dy + yy * dy**2
        return np.asarray((peaks * np.exp(-squared / 2)).sum(axis=-1))

    def _free(self, rng: np.random.Generator, place: str, taken: Float) -> Float | None:
        """Return a place of a sort that is free; None when none is found soon."""
        ny, nx = self.image.shape or (0, 0)
        reach, fwhm = self.image.margin_px, self.fwhm_px
        bright = self.steady_px[np.argsort(-self.peak)[:3]]
        for _ in range(200):
            low, high = reach + 2 * fwhm, np.array([nx, ny]) - 1 - reach - 2 * fwhm
            at = rng.uniform(low, high)
            if place == "edge":
                at[rng.integers(2)] = reach + rng.uniform(0, 0.4 * fwhm)
            elif place in ("side lobe", "crowded") and len(self.steady_px):
                centres, distance = (bright, (1.5, 4.5)) if place == "side lobe" else (self.steady_px, (1.2, 2.0))
                angle = rng.uniform(0, 2 * np.pi)
                step = rng.uniform(*distance) * fwhm * np.array([np.cos(angle), np.sin(angle)])
                at = centres[rng.integers(len(centres))] + step
            inside = (at > reach).all() and (at < np.array([nx, ny]) - 1 - reach).all()
            near = 1.1 if place in ("side lobe", "crowded") else 3.0
            if inside and _away(at, self.steady_px, near * fwhm) and _away(at, taken, 5.0 * fwhm):
                return at
        return None


def simulated(side_px: int, seed: int, bands: int = 2, n_steady: int = 20) -> Field:
    """Return a simulated field, with three sources 1,000 to 4,000 times the noise."""
    config = _config(side_px, seed, n_steady)
    beam_px = truth_of(config, 0, 0).sources
    bright = np.argsort(-beam_px["flux_jy"])[:3]
    boosted = np.array([4000.0, 2000.0, 1000.0])[: len(bright)] * config.rms_jy_per_beam
    first = _described(config, 0)
    (xx, xy), (_, yy) = beam_of(first).covariance_px
    beam = PixelBeam(float(xx), float(xy), float(yy))

    def pixels(band: int, frame: int) -> Pixels:
        image = render(config, band, frame).pixels
        add_point_sources(image, beam_px["x"][bright], beam_px["y"][bright], boosted, beam)
        return image

    images = [_described(config, band) for band in range(bands)]
    return Field(f"simulated {seed}", images[0], images, pixels)


def noise_only(side_px: int, seed: int) -> tuple[SimulatorConfig, Image]:
    """Return a field without a source."""
    config = _config(side_px, seed, 0)
    return config, _described(config, 0)


def real(name: str) -> Field:
    """Return a real image, which is shown again and again: what is in it is steady, its noise too."""
    (plane,) = list(read_fits(REAL / name))
    message = describe(plane.header, plane.pixels, origin=name, settings=Settings.load(IngestConfig(), "default"))
    image, pixels = message.header.image, np.asarray(message.arrays["pixels"])
    assert image is not None
    # What is unusual of it (an elongated beam) does not matter here.
    image = msgspec.structs.replace(image, quality=type(image.quality)())
    return Field(name, image, [image], lambda _band, _frame: pixels)


def _config(side_px: int, seed: int, n_steady: int) -> SimulatorConfig:
    return SimulatorConfig(
        nx=side_px, ny=side_px, pixel_deg=0.02, beam_major_deg=0.1, beam_minor_deg=0.08, horizon_deg=None,
        n_steady=n_steady, n_variable=0, transient_interval_s=None, separation_beams=6.0, seed=seed,
    )  # fmt: skip


def _described(config: SimulatorConfig, band: int) -> Image:
    settings = Settings.load(IngestConfig(), "default")
    rendered = render(config, band, 0)
    header = header_of(config, band, 0)
    image = describe(header, rendered.pixels, origin="bench", settings=settings, instrument="aartfaac").header.image
    assert image is not None
    return image


def _away(at: Float, others: Float, distance: float) -> bool:
    return not len(others) or bool(cKDTree(others).query(at)[0] > distance)
