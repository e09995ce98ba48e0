"""Settings of database_dumper."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from trapline.common.config import Seconds, ServiceSection


class DumperConfig(ServiceSection):
    """How often the store is written: larger batches cost less, smaller ones are seen sooner."""

    reads: ClassVar[tuple[str, ...]] = ("images", "lightcurves", "transients", "triage")
    stage: ClassVar[int] = 5

    flush_s: Seconds = Field(
        default=0.5, gt=0, le=60, description="a batch is stored when its first record is that old"
    )
    flush_records: int = Field(default=200, ge=1, le=10_000, description="and when it has that many records")


SECTION = DumperConfig
