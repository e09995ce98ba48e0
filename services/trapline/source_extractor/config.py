"""Settings of source_extractor."""

from __future__ import annotations

import os
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trapline.common.config import Deg, ServiceSection

ErrorDeg = Annotated[Deg, Field(ge=0)]


class ExtractorConfig(ServiceSection):
    """How sources are found and measured. Thresholds are in units of the local noise."""

    reads: ClassVar[tuple[str, ...]] = ("images", "remeasure")
    writes: ClassVar[tuple[str, ...]] = ("sources",)
    stage: ClassVar[int] = 2

    replicas: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=0, description="processes that share the images"
    )

    method: str = Field(
        default="trapline", description='how sources are found and measured: "trapline", or a plug-in "module:function"'
    )
    detection_threshold: float = Field(default=8.0, gt=0, description="a source has a peak above this, in sigma")
    analysis_threshold: float = Field(default=3.0, gt=0, description="its island is the pixels above this, in sigma")
    force_beam: bool = Field(
        default=True, description="fit radio sources with the axes of the beam; false: with axes of their own"
    )
    mesh_radio_px: int = Field(default=50, ge=4, le=65536, description="mesh of background and noise with a beam")
    mesh_optical_px: int = Field(default=64, ge=4, le=65536, description="mesh of background and noise without")
    min_area_beams: float = Field(
        default=0.1, ge=0, description="smallest island, in beam areas, at least one pixel: a spike is no source"
    )
    min_area_px: int = Field(default=5, ge=1, description="smallest island of an optical image")
    most_sources: int = Field(
        default=100_000,
        ge=1,
        description="sources of one image that are measured, the highest; more are counted and left out: no image may "
        "keep a replica for minutes",
    )
    ew_sys_err_deg: ErrorDeg | None = Field(
        default=None,
        description="systematic position error, east-west on the sky; when absent 10 arcsec or a tenth of the beam's "
        "minor axis, whichever is less, and 0.1 arcsec without a beam",
    )
    ns_sys_err_deg: ErrorDeg | None = Field(
        default=None, description="systematic position error, north-south; when absent as east-west"
    )
    negative: bool = Field(default=False, description="also find negative sources (Stokes Q, U, V)")
    deblend: bool = Field(default=True, description="split islands that have several peaks")
    deblend_sigma: float = Field(
        default=5.0,
        ge=0,
        description="with a beam: a peak rises this far above the saddle to a higher one, in sigma of the noise",
    )
    deblend_levels: int = Field(
        default=32, ge=2, le=64, description="without a beam: levels between threshold and peak to split at"
    )
    deblend_contrast: float = Field(
        default=0.005,
        gt=0,
        lt=1,
        description="without a beam: fraction of an island's flux that makes a part of it a source",
    )
    optical_flux: Literal["circle", "kron"] = Field(
        default="circle", description="aperture of optical fluxes: a circle, as forced fluxes have, or Kron's ellipse"
    )
    gain_per_unit: float | None = Field(
        default=None, gt=0, description="electrons per unit of an optical image: their noise enters its errors"
    )
    aperture_radius_px: float = Field(default=5.0, gt=0, le=1000, description="aperture of optical fluxes")
    pixel_stack_px: int = Field(
        default=20_000, ge=1000, description="pixels of unfinished islands to take memory for; grows when too small"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.analysis_threshold > self.detection_threshold:
            raise ValueError(
                f"analysis_threshold ({self.analysis_threshold}) must not exceed "
                f"detection_threshold ({self.detection_threshold})"
            )
        return self


SECTION = ExtractorConfig
