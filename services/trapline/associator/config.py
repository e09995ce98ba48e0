"""Settings of associator."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from trapline.associator.cells_text import common_cell, ranges_of
from trapline.common.config import Deg, Seconds, Section, ServiceSection

SearchDeg = Annotated[Deg, Field(gt=0, le=45)]


class Region(Section):
    """Part of the sky that one associator owns."""

    owner: str = Field(
        min_length=1,
        description='replica that owns it: "0"; in a mesh of several hosts with the host\'s name, "north.0"',
    )
    cells: str = Field(description='HEALPix cells, nested, ICRS, as ORDER/CELLS: "1/0-23", "1/24-40 2/164-191"')

    @field_validator("cells")
    @classmethod
    def _are_cells(cls, text: str) -> str:
        ranges_of(text)
        return text


class AssociatorConfig(ServiceSection):
    """How sources are joined to objects, and what earlier images say about a position."""

    reads: ClassVar[tuple[str, ...]] = ("images", "sources")
    writes: ClassVar[tuple[str, ...]] = ("lightcurves", "watchlist", "remeasure")
    stage: ClassVar[int] = 3

    max_hold_s: Seconds | None = Field(
        default=10.0,
        gt=0,
        description="longest wait for the sources of an image once those of later ones came; absent: for ever",
    )
    idle_after_s: Seconds | None = Field(
        default=30.0, gt=0, description="silence after which a partition of images is not waited for; absent: for ever"
    )
    extractors: tuple[str, ...] = Field(
        default=("source_extractor",),
        min_length=1,
        description="services that measure images and answer requests: their dead letters end the wait, and what was "
        "asked for is NaN. A plug-in that only reads along is none",
    )

    regions: tuple[Region, ...] = Field(
        default=(),
        description="parts of the sky and who owns each: an associator, as many as `replicas`; absent: one owns all. "
        "The same on every host",
    )
    margin_deg: SearchDeg = Field(
        default=2.0,
        description="how far around its cells an owner folds along what others own: further than chains of candidates "
        "and side lobes reach, several times the search radius; images that are searched further are counted",
    )

    method: str = Field(
        default="deruiter",
        validate_default=False,
        description="how sources are joined to objects: deruiter (forks and shared sources), optimal (one to one, the "
        "likeliest as a whole), nearest (one to one, the closest first), or package.module:function",
    )
    beamwidths_limit: float = Field(
        default=3.0, gt=0, le=1000, description="an object is a candidate within this many semi-major axes of the beam"
    )
    deruiter_radius: float = Field(default=5.68, gt=0, description="and below this de Ruiter radius (dimensionless)")
    no_beam_limit_deg: SearchDeg = Field(default=1 / 3600, description="distance limit in images without a beam")
    expiration: int = Field(
        default=10, ge=1, le=1 << 31, description="time steps without a match after which an object is measured no more"
    )
    backfill: int = Field(
        default=20, ge=0, le=10_000, description="newest images of each band in which a new object is measured"
    )
    ask_after_s: float = Field(
        default=0.1,
        ge=0,
        le=10,
        description="how long what must be measured again is not asked for: until whoever judges the image is done",
    )
    forced_statistics: bool = Field(
        default=True, description="whether forced points enter the statistics of an object, as blind ones do"
    )
    features: tuple[str, ...] = Field(
        default=(),
        validate_default=False,
        description="further statistics of each object whose points changed, published with them: moments, ranks, "
        "scatter, slopes, two_epoch, times, or package.module:function",
    )
    history_points: int = Field(
        default=64, ge=2, le=4096, description="newest points per object and band that features are made of"
    )
    limit_margin_sigma: float = Field(
        default=1.0,
        ge=0,
        description="a new source may hide this far above the detection threshold of an earlier image",
    )
    coverage_cells: int = Field(
        default=1 << 18,
        ge=48,
        le=1 << 24,
        description="cells of an image in which its coverage is decided; they are smaller than half a beam unless "
        "that takes more cells than this",
    )
    remember_images: int = Field(
        default=100_000, ge=1, description="images whose ids are kept, so that one that comes again is folded once"
    )
    open_pointings: int = Field(
        default=8,
        ge=1,
        le=256,
        description="pointings per band whose coverage is kept as a footprint; of a field that drifts, the oldest is "
        "written into cells",
    )

    @field_validator("method")
    @classmethod
    def _exists(cls, name: str) -> str:
        # Every process reads this section: only the associator, and whoever names another method, needs the methods.
        from trapline.associator.methods import method_named

        method_named(name)
        return name

    @field_validator("features")
    @classmethod
    def _all_exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from trapline.associator.features import feature_named

        for name in names:
            feature_named(name)
        return names

    @model_validator(mode="after")
    def _each_cell_has_one_owner(self) -> Self:
        for one, other in combinations(self.regions, 2):
            if one.owner == other.owner:
                raise ValueError(f"associator.regions: {one.owner!r} owns two: name all of its cells in one")
            if (cell := common_cell(ranges_of(one.cells), ranges_of(other.cells))) is not None:
                owners = f"{one.owner!r} and {other.owner!r}"
                raise ValueError(f"associator.regions: both {owners} own cell {cell}: it should be in one")
        return self

    @model_validator(mode="after")
    def _the_margin_holds_candidates(self) -> Self:
        if self.regions and self.margin_deg < self.no_beam_limit_deg:
            raise ValueError(
                f"associator.margin_deg = {self.margin_deg:g} degrees is less than no_beam_limit_deg = "
                f"{self.no_beam_limit_deg:g}, in which candidates are searched for: it should be several times that"
            )
        return self

    @model_validator(mode="after")
    def _each_owner_runs(self) -> Self:
        owners = [region.owner for region in self.regions if "." not in region.owner]
        running = [str(number) for number in range(self.replicas)]
        if not self.regions and self.replicas > 1:
            raise ValueError(
                f"associator.replicas = {self.replicas}: several associators need [[associator.regions]], a part of "
                f"the sky for each of {', '.join(running)}"
            )
        if owners and self.replicas and sorted(owners) != sorted(running):
            raise ValueError(
                f"associator.regions: owners are {', '.join(owners)}, replicas = {self.replicas} runs "
                f"{', '.join(running)}; each owner should run"
            )
        return self


SECTION = AssociatorConfig
