"""Settings of database_dumper."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from trapline.common.config import Seconds, ServiceSection


class DumperConfig(ServiceSection):
    """How often the store is written: larger batches cost less, smaller ones are seen sooner."""

    reads: ClassVar[tuple[str, ...]] = ("images", "lightcurves", "transients", "triage")
    stage: ClassVar[int] = 5

    flush_s: Seconds = Field(
        default=0.5, gt=0, le=60, description="a batch is stored when its first record is that old"
    )
    keep_points_s: Seconds = Field(
        default=30 * 86_400,
        ge=0,
        description="how long points stay as measured, by the time of the images; 0: for ever",
    )
    keep_monitored_points_s: Seconds | None = Field(
        default=None,
        ge=0,
        description="the same for positions that an operator watches; 0: for ever. Unset: as keep_points_s",
    )
    segment_after_s: Seconds = Field(
        default=3600,
        ge=0,
        description="points of a partition become arrays this long after its end, by the time of the images; 0: never",
    )
    keep_minutes_s: Seconds = Field(default=365 * 86_400, ge=0, description="how long bins of minutes stay")
    keep_hours_s: Seconds = Field(default=0, ge=0, description="how long bins of hours stay; those of days always do")
    point_partition_s: Seconds = Field(
        default=86_400,
        ge=60,
        description="length of a partition of points; choose it so that one holds some million points",
    )
    bin_grace_s: Seconds = Field(
        default=30.0, ge=0, description="a minute is binned this long after its end, by the time of the images"
    )
    flush_records: int = Field(default=200, ge=1, le=10_000, description="and when it has that many records")

    @model_validator(mode="after")
    def _kept_points_are_arrays(self) -> Self:
        if self.keep_monitored_points_s is not None and not self.segment_after_s:
            raise ValueError("keep_monitored_points_s needs segment_after_s above 0: only arrays are kept apart")
        return self


SECTION = DumperConfig
