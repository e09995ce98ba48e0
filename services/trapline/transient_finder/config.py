"""Settings of transient_finder."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from trapline.common.config import ServiceSection


class FinderConfig(ServiceSection):
    """Thresholds of the rules, and how much of a lightcurve goes with an event."""

    reads: ClassVar[tuple[str, ...]] = ("lightcurves",)
    writes: ClassVar[tuple[str, ...]] = ("transients",)
    stage: ClassVar[int] = 4

    warm_up: int = Field(
        default=10, ge=1, description="a new source is announced once this many earlier images covered its position"
    )
    flare_sigma: float = Field(
        default=6.5, gt=0, description="a flare is this far above the object's weighted mean, in sigma"
    )
    flux_sys_frac: float = Field(
        default=0.05,
        ge=0,
        description="uncertainty of the flux scale between images, as a fraction of the mean; it enters sigma",
    )
    min_points: int = Field(
        default=10, ge=1, description="points that the mean must be made of before a flare is announced"
    )
    recent_points: int = Field(default=20, ge=1, le=1000, description="points of the lightcurve that go with an event")
    history_points: int = Field(
        default=1 << 18,
        ge=1,
        le=1 << 30,
        description="newest points of all objects that are kept for this, at 65 bytes each; a new state takes it up",
    )


SECTION = FinderConfig
