"""Configuration of the simulator: the instrument, the sky in front of it, and how its images leave."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from trapline.common.config import Deg, Hertz, Seconds, Section, ServiceSection

FIXED_START = datetime(2025, 1, 1, tzinfo=UTC)
"""Start of frame 0 when the configuration names none: the same files on every day."""

_BLOCK_FRAMES = 600
_MOST_TRANSIENTS = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SimulatedBand(Section):
    """A frequency interval in which the telescope takes images."""

    freq_hz: Hertz = Field(gt=0, description="centre of the interval")
    bandwidth_hz: Hertz = Field(default=195_312.5, gt=0, description="width of the interval")


class SimulatorConfig(ServiceSection):
    """What is simulated, and how it is handed over. The defaults resemble an all-sky imager at 60 MHz."""

    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    stage: ClassVar[int] = 0

    replicas: int = Field(default=0, ge=0, le=1, description="1 runs a simulated telescope on this host")

    telescope: str = Field(default="AARTFAAC", min_length=1, max_length=60, description="TELESCOP of the headers")
    bands: tuple[SimulatedBand, ...] = Field(
        default=(SimulatedBand(freq_hz=60.15625e6), SimulatedBand(freq_hz=61.9140625e6)),
        min_length=1,
        max_length=64,
        description="one image per band and frame, taken at the same time; flux densities refer to the first",
    )
    nx: int = Field(default=1024, ge=8, le=16384, description="width of an image in pixels")
    ny: int = Field(default=1024, ge=8, le=16384, description="height of an image in pixels")
    pixel_deg: Deg = Field(default=0.114, gt=0, le=10, description="size of a pixel at the zenith")
    ra_deg: Deg = Field(default=350.0, ge=0, lt=360, description="right ascension of the zenith in frame 0, ICRS")
    dec_deg: Deg = Field(default=52.9, ge=-90, le=90, description="declination of the zenith, ICRS")
    drift: bool = Field(default=False, description="the zenith advances with sidereal time; false tracks one position")
    horizon_deg: Deg | None = Field(default=90.0, gt=0, le=90, description="NaN further than this from the zenith")
    beam_major_deg: Deg = Field(default=0.50, gt=0, description="full width at half maximum, at the zenith")
    beam_minor_deg: Deg = Field(default=0.40, gt=0, description="full width at half maximum, at the zenith")
    beam_pa_deg: Deg = Field(default=30.0, ge=-180, le=180, description="major axis, north through east")
    rms_jy_per_beam: float = Field(default=10.0, gt=0, description="standard deviation of the noise")

    seed: int = Field(default=1, ge=0, lt=2**32, description="everything that is drawn follows from it")
    cadence_s: Seconds = Field(default=1.0, ge=0.001, le=86_400, description="from one image to the next; its exposure")
    frames: int | None = Field(default=None, ge=1, description="how many images per band; absent: until stopped")
    t_start: AwareDatetime | None = Field(default=None, description="start of frame 0, with its time zone")

    n_steady: int = Field(default=60, ge=0, le=1_000_000, description="steady sources in the field")
    n_variable: int = Field(default=6, ge=0, le=1_000_000, description="sinusoidally variable sources in the field")
    snr_min: float = Field(default=20.0, gt=0, description="faintest steady or variable source, mean over noise")
    snr_max: float = Field(default=400.0, gt=0, description="brightest steady or variable source, mean over noise")
    spectral_index: float = Field(default=-0.8, ge=-5, le=5, description="mean of the spectral indices")
    spectral_index_std: float = Field(default=0.2, ge=0, le=2, description="their standard deviation")
    variable_amplitude: float = Field(default=0.3, ge=0, le=1, description="of the sinusoid, as a part of the mean")
    variable_period_min_s: Seconds = Field(default=20.0, gt=0, description="shortest period of a variable source")
    variable_period_max_s: Seconds = Field(default=120.0, gt=0, description="longest period of a variable source")
    transient_interval_s: Seconds | None = Field(
        default=20.0, gt=0, description="mean time between new transients after the first; absent: none at all"
    )
    transient_first: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = Field(
        default=(12, 20), description="first and last frame in which the first transient may turn on"
    )
    transient_min_s: Seconds = Field(default=10.0, gt=0, description="shortest time that a transient stays on")
    transient_max_s: Seconds = Field(default=30.0, gt=0, description="longest time that a transient stays on")
    transient_snr_min: float = Field(default=15.0, gt=0, description="faintest transient, flux over noise")
    transient_snr_max: float = Field(default=60.0, gt=0, description="brightest transient, flux over noise")
    field_radius_deg: Deg = Field(default=60.0, gt=0, le=90, description="sources lie within this of the zenith")
    edge_px: int = Field(default=20, ge=0, description="sources keep this distance from the edge of the array")
    separation_beams: float = Field(default=8.0, ge=0, description="least distance of two sources, in major axes")
    crowded: bool = Field(default=False, description="place sources uniformly, however close they come")

    host: str = Field(default="127.0.0.1", min_length=1, description="address on which the ports listen")
    first_port: int = Field(default=5100, ge=0, le=65535, description="port of band 0, the others follow; 0: any free")
    framing: Literal["framed", "fits"] = Field(default="framed", description="512-byte header and pixels, or bare FITS")
    pixel_order: Literal["fits", "column-major"] = Field(default="fits", description="x fastest, or y fastest")
    wait_for_clients: bool = Field(default=True, description="frame 0 begins when every port has its first client")
    realtime: bool = Field(default=True, description="false: as fast as every client takes it, and none skips")
    queue_images: int = Field(default=8, ge=1, le=1000, description="images kept for a client before it skips one")
    drain_s: Seconds = Field(default=10.0, ge=0, description="time that clients have at the end to take what is queued")
    output: Path | None = Field(default=None, description="directory of the recorded truth; absent: not recorded")
    save_images: bool = Field(default=False, description="also write every served image to `output` as FITS")

    def __hash__(self) -> int:
        # What follows from a configuration alone is cached under it.
        return hash(tuple(self.__dict__.values()))

    @property
    def t_start_us(self) -> int:
        """Start of frame 0 in microseconds since 1970 UTC."""
        since = (self.t_start or FIXED_START) - _EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    @property
    def cadence_us(self) -> int:
        """Time between frames in whole microseconds, so that times do not drift however many frames there are."""
        return round(self.cadence_s * 1e6)

    @property
    def transient_block_frames(self) -> int:
        """Length of the stretches in which transients are drawn: none lasts longer than one."""
        return max(_BLOCK_FRAMES, self.transient_first[1] + 2, self.whole_frames(self.transient_max_s))

    def whole_frames(self, duration_s: float) -> int:
        """Return a duration as a number of frames, at least one."""
        return max(1, round(duration_s / self.cadence_s))

    @model_validator(mode="after")
    def _ranges_have_an_order(self) -> Self:
        pairs = [
            ("beam_minor_deg", self.beam_minor_deg, "beam_major_deg", self.beam_major_deg),
            ("snr_min", self.snr_min, "snr_max", self.snr_max),
            ("variable_period_min_s", self.variable_period_min_s, "variable_period_max_s", self.variable_period_max_s),
            ("transient_min_s", self.transient_min_s, "transient_max_s", self.transient_max_s),
            ("transient_snr_min", self.transient_snr_min, "transient_snr_max", self.transient_snr_max),
            ("transient_first[0]", self.transient_first[0], "transient_first[1]", self.transient_first[1]),
        ]
        for low_name, low, high_name, high in pairs:
            if low > high:
                raise ValueError(f"{low_name} = {low} must not be above {high_name} = {high}")
        return self

    @model_validator(mode="after")
    def _everything_fits(self) -> Self:
        if 2 * self.edge_px >= min(self.nx, self.ny):
            raise ValueError(f"edge_px = {self.edge_px} leaves no room for sources in {self.nx} x {self.ny} pixels")
        last_port = self.first_port + len(self.bands) - 1
        if self.first_port and last_port > 65535:
            raise ValueError(f"first_port = {self.first_port} puts the last band on port {last_port}, above 65535")
        if self.save_images and self.output is None:
            raise ValueError("save_images needs `output`, the directory to write to")
        expected = self.transient_block_frames * self.cadence_s / (self.transient_interval_s or math.inf)
        if expected > _MOST_TRANSIENTS:
            raise ValueError(
                f"transient_interval_s = {self.transient_interval_s} gives {expected:.0f} transients in "
                f"{self.transient_block_frames} frames; more than {_MOST_TRANSIENTS} are not supported"
            )
        if math.hypot(self.nx, self.ny) * self.pixel_deg < 3 * self.beam_major_deg:
            raise ValueError(
                f"beam_major_deg = {self.beam_major_deg} is wider than a third of the image: "
                f"{self.nx} x {self.ny} pixels of {self.pixel_deg} deg"
            )
        return self


SECTION = SimulatorConfig
