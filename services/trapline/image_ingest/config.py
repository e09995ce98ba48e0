"""Configuration of image_ingest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trapline.common.config import Bytes, Deg, Hertz, Seconds, Section, ServiceSection

PixelOrder = Literal["fits", "column-major"]

_ADDRESS = re.compile(r"tcp://(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:\[\]/]+)):(?P<port>\d{1,5})")
_POSITIVE = Field(gt=0)


class StreamConfig(Section):
    """One telescope socket: the imager listens, we connect and send nothing."""

    address: str = Field(description="where the imager listens: tcp://host:port, or tcp://[v6]:port")
    pixel_order: PixelOrder = Field(
        default="fits", description="order of framed pixels: fits (x fastest) or column-major"
    )
    instrument: str | None = Field(
        default=None, description="name of the instrument's description; absent: by the header"
    )

    reconnect: bool = Field(
        default=True, description="connect again when the imager closes; false: the stream has then ended"
    )

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        match = _ADDRESS.fullmatch(self.address)
        if match is None or not 0 < int(match["port"]) < 65536:
            raise ValueError(f"address is {self.address!r}; expected tcp://host:port, as tcp://imager-1:6666")
        return self

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of `address`."""
        match = _ADDRESS.fullmatch(self.address)
        assert match is not None
        return match["v6"] or match["name"], int(match["port"])


class BandConfig(Section):
    """A band that images are grouped by: a frequency interval, or an optical filter."""

    name: str = Field(min_length=1, description="name of the band")
    freq_hz: Hertz | None = Field(default=None, gt=0, description="centre of the interval")
    bandwidth_hz: Hertz | None = Field(default=None, ge=0, description="width of the interval")
    filter: str | None = Field(default=None, description="optical filter, instead of an interval")

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.freq_hz is None) == (self.filter is None) or (self.freq_hz is None) != (self.bandwidth_hz is None):
            raise ValueError(f"band {self.name!r} needs either freq_hz and bandwidth_hz, or filter")
        return self


class QualityLimits(Section):
    """What an image must keep to. An instrument sets some, the configuration overrides them."""

    beam_minor_min_px: float = Field(
        default=1.0, ge=0, description="at or below this minor axis the beam is undersampled"
    )
    beam_major_max_px: float = Field(default=30.0, gt=0, description="above this major axis the beam is oversampled")
    beam_ratio_max: float = Field(default=2.0, ge=1, description="largest major / minor axis of the beam")
    rms_min: float = Field(
        default=0.0, ge=0, description="smallest noise, in the image's unit; 0 noise is always refused"
    )
    rms_max: float | None = Field(
        default=None, gt=0, description="largest noise, in the image's unit; absent: no limit"
    )
    rms_clip_sigma: float = Field(default=4.0, gt=1, description="clipping of the region that the noise is taken from")
    rms_region: float = Field(
        default=0.25, gt=0, le=1, description="central part of each axis that the noise is taken from"
    )
    rms_history: int = Field(
        default=100, ge=2, description="accepted images of the band that the noise is compared with"
    )
    rms_history_min: int = Field(default=10, ge=2, description="fewer than these make no comparison")
    rms_history_sigma: float = Field(default=3.0, gt=0, description="largest distance from the history's mean")
    rms_history_tolerance: float = Field(
        default=0.05, ge=0, description="a distance below this fraction of the mean is never too large"
    )
    noise_theory_min: float = Field(
        default=1.0, ge=0, description="smallest noise, in units of what the stations of the instrument can reach"
    )
    noise_theory_max: float = Field(default=80.0, gt=0, description="largest noise in these units")
    avoid: list[Literal["CasA", "CygA", "TauA", "HerA", "VirA", "Sun", "Jupiter"]] = Field(
        default=[], description="bright sources that spoil an image whose centre is near them"
    )
    avoid_deg: Deg = Field(default=10.0, ge=0, description="how near is near")
    exposure_required: bool = Field(default=False, description="an image without an exposure time is refused")

    @model_validator(mode="after")
    def _check_rms(self) -> Self:
        if self.rms_max is not None and self.rms_max < self.rms_min:
            raise ValueError(f"rms_max ({self.rms_max}) must not be below rms_min ({self.rms_min})")
        return self

    def overridden_by(self, other: QualityLimits) -> QualityLimits:
        """Return these limits, with those that were set explicitly in `other` in their place."""
        return self.model_copy(update={name: getattr(other, name) for name in other.model_fields_set})


class InjectionConfig(Section):
    """Fake transients that are added to the images, whose role then is `injection`."""

    seed: int = Field(default=0, ge=0, description="another seed gives other places and times")
    per_square_deg: float = Field(
        default=0.1, gt=0, le=20, description="how many begin per square degree and `every_s`, anywhere on the sky"
    )
    every_s: Annotated[Seconds, _POSITIVE] = Field(default=600.0, description="interval of that count")
    duration_s: Annotated[Seconds, _POSITIVE] = Field(default=60.0, description="how long each of them shines")
    snr_min: float = Field(default=3.0, gt=0, description="faintest peak, in units of the image's noise")
    snr_max: float = Field(default=100.0, gt=0, description="brightest peak; between them uniform in the logarithm")

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        if self.duration_s > self.every_s:
            raise ValueError(f"duration_s ({self.duration_s}) must not be above every_s ({self.every_s})")
        if self.snr_max < self.snr_min:
            raise ValueError(f"snr_max ({self.snr_max}) must not be below snr_min ({self.snr_min})")
        return self


class WatchConfig(Section):
    """A directory in which files appear, and which is looked at again and again."""

    path: str = Field(min_length=1, description="a directory, or a glob of directories or files; need not exist yet")
    instrument: str | None = Field(
        default=None, description="name of the instrument's description; absent: by the header"
    )


def _as_watch(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class IngestConfig(ServiceSection):
    """Table `image_ingest` of the configuration."""

    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ("images",)
    stage: ClassVar[int] = 1

    streams: list[StreamConfig] = Field(default=[], description="telescope sockets, one task each")
    paths: list[str] = Field(default=[], description="FITS files, directories and globs, read once in order of time")
    watch: list[Annotated[WatchConfig, BeforeValidator(_as_watch)]] = Field(
        default=[], description="directories and globs in which new FITS files appear, read as they are complete"
    )
    watch_interval_s: Annotated[Seconds, _POSITIVE] = Field(
        default=1.0, description="how often watched directories are looked at"
    )
    watch_settle_s: Annotated[Seconds, Field(ge=0)] = Field(
        default=2.0, description="a file whose size and time have not changed for so long is complete"
    )
    reorder_window_s: Annotated[Seconds, Field(ge=0)] = Field(
        default=0.0, description="images are held so long, to append them in the order of their observation"
    )
    reorder_max_bytes: Annotated[Bytes, _POSITIVE] = Field(
        default=1 << 30, description="pixels that are held at most: beyond it the earliest images go on early"
    )
    injection: InjectionConfig | None = Field(
        default=None, description="fake transients in every image; absent: none. Use a dataset of its own"
    )
    bands: list[BandConfig] = Field(default=[], description="bands that images are grouped by; others make their own")
    instruments: Path | None = Field(default=None, description="directory of your own instrument descriptions (*.toml)")
    quality: QualityLimits = Field(
        default=QualityLimits(), description="limits that override those of every instrument"
    )
    extraction_radius_deg: Annotated[Deg, _POSITIVE] | None = Field(
        default=None, description="circle about the centre that is measured; absent: the whole image"
    )
    margin_px: int = Field(default=10, ge=0, description="edge of the array that is not measured")
    max_image_bytes: Annotated[Bytes, _POSITIVE] = Field(
        default=512 << 20, description="largest image (one plane of a file, one announcement of a stream) that is read"
    )
    mid_image_timeout_s: Annotated[Seconds, _POSITIVE] = Field(
        default=10.0, description="silence in the middle of an image that ends the connection; between images none does"
    )
    connect_timeout_s: Annotated[Seconds, _POSITIVE] = Field(
        default=10.0, description="time that a connection may take"
    )
    reconnect_min_s: Annotated[Seconds, _POSITIVE] = Field(
        default=0.5, description="first pause before connecting again"
    )
    reconnect_max_s: Annotated[Seconds, _POSITIVE] = Field(
        default=5.0, description="longest pause before connecting again"
    )

    @model_validator(mode="after")
    def _check_pauses(self) -> Self:
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ValueError(
                f"reconnect_max_s ({self.reconnect_max_s}) must not be below reconnect_min_s ({self.reconnect_min_s})"
            )
        return self


SECTION = IngestConfig
