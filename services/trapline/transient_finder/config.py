"""Settings of transient_finder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trapline.common.config import Deg, Section, ServiceSection

Positive = Annotated[float, Field(gt=0)]


class BadRegion(Section):
    """A circle on the sky in which nothing is announced."""

    ra_deg: Annotated[Deg, Field(ge=0, lt=360)]
    dec_deg: Annotated[Deg, Field(ge=-90, le=90)]
    radius_deg: Annotated[Deg, Field(gt=0, le=180)]


class FinderConfig(ServiceSection):
    """Thresholds of the rules and vetoes, and how much of a lightcurve goes with an event."""

    reads: ClassVar[tuple[str, ...]] = ("lightcurves",)
    writes: ClassVar[tuple[str, ...]] = ("transients", "suppressed")
    stage: ClassVar[int] = 4

    warm_up: int = Field(
        default=10, ge=1, description="a new source is announced once this many earlier images covered its position"
    )
    flare_sigma: Positive = Field(
        default=6.5, description="a flare is this far above the object's weighted mean, in sigma; a fade below"
    )
    flux_sys_frac: float = Field(
        default=0.05,
        ge=0,
        description="uncertainty of the flux scale between images, as a fraction of the mean; it enters sigma",
    )
    flare_hysteresis: float = Field(
        default=0.8, gt=0, le=1, description="a flare or fade has ended below this part of flare_sigma"
    )
    min_points: int = Field(
        default=10, ge=1, description="points that the mean must be made of before a flare or fade is announced"
    )
    disappeared_misses: int = Field(
        default=5, ge=1, description="finished time steps without a blind match after which a bright object disappeared"
    )
    variable_thresholds: Literal["fitted", "fixed"] = Field(
        default="fitted", description="V and eta of a variable: fitted to the population of the band, or v_min, eta_min"
    )
    variable_sigma: Positive = Field(default=3.0, description="fitted: this far above the mean of the logarithm")
    v_min: Positive = Field(default=0.1, description="coefficient of variation below which nothing is variable")
    eta_min: Positive = Field(default=3.0, description="reduced chi^2 below which nothing is variable")
    variable_min_points: int = Field(default=20, ge=2, description="points before V and eta are judged")
    variable_hysteresis: float = Field(
        default=0.8, gt=0, le=1, description="V or eta below this part of its threshold make an object steady again"
    )
    population_min: int = Field(
        default=50, ge=2, description="objects of the band that a fit takes; v_min, eta_min till"
    )
    update_growth: float = Field(
        default=1.5, gt=1, description="an event is updated when its significance has grown by this factor"
    )
    bad_image_new_sources: int = Field(
        default=50,
        ge=1,
        description="an image that would announce more new sources than this is bad: none is announced",
    )
    side_lobe_beams: float = Field(
        default=5.0, ge=0, description="side lobes reach this far about a source, in major axes of the beam; 0: no veto"
    )
    side_lobe_ratio: Positive = Field(
        default=20.0, description="a change fainter than a source this near by this factor may be its side lobe"
    )
    elongated_ratio: float = Field(
        default=2.0, gt=1, description="integrated over peak flux that no point source has, significantly"
    )
    bad_regions: tuple[BadRegion, ...] = Field(default=(), description="circles in which nothing is announced")
    plugins: tuple[Path, ...] = Field(default=(), description="Python files with rules of your own")
    plugin_thresholds: dict[str, dict[str, float]] = Field(
        default={}, description="thresholds of those rules that differ from their defaults, by kind and name"
    )
    recent_points: int = Field(default=20, ge=1, le=1000, description="points of the lightcurve that go with an event")
    cutout_px: int = Field(
        default=32, ge=0, le=1024, description="side of the cut-out of an event, while its image is there; 0: none"
    )
    history_points: int = Field(
        default=1 << 18,
        ge=1,
        le=1 << 30,
        description="newest points of all objects that are kept for this, at 65 bytes each; a new state takes it up",
    )
    waiting_points: int = Field(
        default=1000, ge=1, description="points of one object that may wait for a value that was asked for"
    )


SECTION = FinderConfig
