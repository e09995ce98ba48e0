"""Images for benchmarks: rendered once, so that nothing is drawn while the clock runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.image_ingest.config import IngestConfig
from trapline.image_ingest.core import describe
from trapline.image_ingest.instruments import Settings
from trapline.schemas.images import Images
from trapline.schemas.message import Message
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.core import render
from trapline.simulator.framing import Parts, framed
from trapline.simulator.telescope import header_of

Pixels = npt.NDArray[np.float32]

N_BANDS = 2


@dataclass(frozen=True, slots=True)
class Sky:
    """A field of steady sources, and some images of it that differ in their noise."""

    config: SimulatorConfig
    pixels: Sequence[Pixels]

    @classmethod
    def of(cls, side_px: int, n_sources: int, n_images: int) -> Sky:
        """Render a square field without a horizon: every pixel is measured."""
        config = SimulatorConfig(
            nx=side_px,
            ny=side_px,
            pixel_deg=0.02,
            beam_major_deg=0.1,
            beam_minor_deg=0.08,
            horizon_deg=None,
            n_steady=n_sources,
            n_variable=0,
            transient_interval_s=None,
            separation_beams=2.5,
        )
        return cls(config, [render(config, n % N_BANDS, n // N_BANDS).pixels for n in range(n_images)])

    def pixels_of(self, band: int, frame: int) -> Pixels:
        """Return the pixels of an image; those of other images come again."""
        return self.pixels[(N_BANDS * frame + band) % len(self.pixels)]

    def parts(self, band: int, frame: int) -> Parts:
        """Return an image as an imager sends it: its time is its own, so its id is too. Pixels are not copied."""
        return framed(header_of(self.config, band, frame), self.pixels_of(band, frame))

    def message(self, band: int = 0, frame: int = 0) -> Message[Images]:
        """Return what ingest makes of an image."""
        settings = Settings.load(IngestConfig(), "default")
        header = header_of(self.config, band, frame)
        return describe(header, self.pixels_of(band, frame), origin="bench", settings=settings, instrument="aartfaac")
