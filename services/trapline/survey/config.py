"""Settings of survey: telescope, schedule and sky. The defaults are those of LSST's l1dbproto prototype."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AwareDatetime, Field, model_validator

from trapline.common.config import Deg, Seconds, Section, ServiceSection

_DAY_S = 86_400.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START = datetime(2026, 1, 1, 3, tzinfo=UTC)


class Pointing(Section):
    """Where the telescope looks."""

    ra_deg: Deg = Field(ge=0, lt=360, description="right ascension of the centre of the field, ICRS")
    dec_deg: Deg = Field(ge=-90, le=90, description="declination of the centre of the field, ICRS")


class SurveyConfig(ServiceSection):
    """What is observed, and what is found in it."""

    reads: ClassVar[tuple[str, ...]] = ("remeasure",)
    writes: ClassVar[tuple[str, ...]] = ("images", "sources")
    stage: ClassVar[int] = 0

    replicas: int = Field(default=0, ge=0, le=1, description="1 runs a simulated survey in place of a telescope")

    seed: int = Field(default=1, ge=0, lt=2**32, description="everything that is drawn follows from it")
    visits: int | None = Field(default=200, ge=1, description="how many visits; absent: until stopped")
    t_start: AwareDatetime = Field(default=_START, description="begin of the first night, with its time zone")
    cadence_s: Seconds = Field(default=45.0, gt=0, le=86_400, description="from one visit to the next of a night")
    exposure_s: Seconds = Field(default=30.0, gt=0, description="length of an exposure")
    night_s: Seconds = Field(default=36_000.0, gt=0, le=86_400, description="length of a night; one begins each day")
    realtime: bool = Field(default=False, description="keep the cadence; else a visit begins when the last is stored")
    patience_s: Seconds = Field(default=300.0, gt=0, description="after this a visit that is not stored counts as lost")

    pointings: tuple[Pointing, ...] = Field(
        default=(Pointing(ra_deg=30.0, dec_deg=-20.0),), description="visited in turn; none: drawn over the sky"
    )
    dec_min_deg: Deg = Field(default=-75.0, ge=-90, le=90, description="southern end of drawn pointings")
    dec_max_deg: Deg = Field(default=15.0, ge=-90, le=90, description="northern end of drawn pointings")
    filters: tuple[Annotated[str, Field(min_length=1, max_length=20)], ...] = Field(
        default=("r",), min_length=1, description="one per night, in turn"
    )

    field_deg: Deg = Field(default=3.5, gt=0, le=20, description="side of the square field")
    tiles: int = Field(default=1, ge=1, le=32, description="detectors along a side of the field; each gives an image")
    tile_px: int = Field(default=4096, ge=64, le=65536, description="pixels along a side of a detector")
    seeing_deg: Deg = Field(default=0.8 / 3600, gt=0, description="width of the point-spread function, FWHM")
    jitter_deg: Deg = Field(default=0.05 / 3600, ge=0, description="astrometric error of any position, 1 sigma a axis")
    flux_err_njy: float = Field(default=100.0, gt=0, description="1 sigma of any flux")
    detection_threshold: float = Field(default=5.0, gt=0, description="SNR below which nothing is detected")

    variables: float = Field(default=10_000.0, ge=0, description="variable sources per field, on average")
    density_map: Path | None = Field(
        default=None,
        description="relative density of variables: a nested HEALPix map as .npy; absent: uniform",
    )
    catalogue: Path | None = Field(
        default=None, description="variable sources as `trapline survey gen-sources` wrote them; absent: drawn"
    )
    noise_detections: float = Field(default=5_050.0, ge=0, description="false detections per visit, on average")
    transients: float = Field(default=100.0, ge=0, description="transients that shine in a visit, on average")
    moving: float = Field(default=0.0, ge=0, description="solar-system objects per field, on average")
    detection_fraction: float = Field(default=0.9, ge=0, le=1, description="of what is above the threshold")
    snr_min: float = Field(default=10.0, gt=0, description="mean of the faintest variable, over the error")
    snr_max: float = Field(default=1000.0, gt=0, description="mean of the brightest variable, over the error")
    amplitude: float = Field(default=0.3, ge=0, le=1, description="largest amplitude, as a part of the mean")
    period_min_s: Seconds = Field(default=600.0, gt=0, description="shortest period")
    period_max_s: Seconds = Field(default=8_640_000.0, gt=0, description="longest period")
    rise_visits: int = Field(default=3, ge=1, le=1000, description="visits from the onset of a transient to its peak")
    decline_visits: int = Field(default=17, ge=1, le=1000, description="visits from there until it is gone")
    history_s: Seconds = Field(default=365 * 86_400.0, gt=0, description="how far back the history of an object goes")
    history_from_store: bool = Field(
        default=False,
        description="also read objects and history from the store before each visit, to compare the times",
    )
    forced_s: Seconds = Field(
        default=30 * 86_400.0,
        ge=0,
        description="how long an object is measured after its last detection; sets associator.expiration",
    )
    parallel: int = Field(
        default=1,
        ge=1,
        le=64,
        description="detectors whose forced fluxes are measured at the same time, by a process each",
    )

    def __hash__(self) -> int:
        # What follows from a configuration alone is cached under it.
        return hash(tuple(self.__dict__.values()))

    @property
    def t_start_us(self) -> int:
        """Begin of the first night in microseconds since 1970 UTC."""
        since = self.t_start - _EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    @property
    def visits_per_night(self) -> int:
        """How many visits fit into a night, at least one."""
        return max(1, int(self.night_s // self.cadence_s))

    @property
    def forced_steps(self) -> int:
        """How many visits of an object's place fit into `forced_s`: its time steps until it is measured no more."""
        if self.pointings:
            share = 1 / len(self.pointings)
        else:
            low, high = (math.sin(math.radians(dec)) for dec in (self.dec_min_deg, self.dec_max_deg))
            share = min(1.0, math.radians(self.field_deg) ** 2 / max(2 * math.pi * (high - low), 1e-12))
        return max(1, round(self.forced_s / _DAY_S * self.visits_per_night * share))

    @model_validator(mode="after")
    def _ranges_have_an_order(self) -> Self:
        for low, high in (("dec_min_deg", "dec_max_deg"), ("snr_min", "snr_max"), ("period_min_s", "period_max_s")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} = {getattr(self, low)} must not be above {high} = {getattr(self, high)}")
        if self.exposure_s > self.cadence_s:
            raise ValueError(f"exposure_s = {self.exposure_s} must not be above cadence_s = {self.cadence_s}")
        return self


SECTION = SurveyConfig
