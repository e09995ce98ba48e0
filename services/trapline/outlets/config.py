"""Settings of outlets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, HttpUrl

from trapline.common.config import Deg, Seconds, Section, ServiceSection

AlertType = Literal["initial", "update", "retraction"]
Names = tuple[Annotated[str, Field(min_length=1)], ...]


class Cone(Section):
    """A circle on the sky."""

    ra_deg: Annotated[Deg, Field(ge=0, lt=360)]
    dec_deg: Annotated[Deg, Field(ge=-90, le=90)]
    radius_deg: Annotated[Deg, Field(gt=0, le=180)]


class Filters(Section):
    """Which events an outlet is given; what is absent asks for nothing."""

    kinds: Names | None = Field(default=None, description="new_source, flare, ...; absent: all")
    alert_types: tuple[AlertType, ...] | None = Field(default=None, description="initial, update, retraction")
    roles: Names = Field(default=("observation",), description="observation, test, injection")
    bands: Names | None = Field(default=None, description="names of bands")
    significance_min: float | None = Field(default=None, description="smallest significance, sigma")
    certain: bool = Field(default=False, description="of new sources only those that are certain")
    cone: Cone | None = Field(default=None, description="only events within it")


class Outlet(Section):
    """What all outlets have."""

    filters: Filters = Filters()
    start: Literal["latest", "first"] = Field(
        default="latest", description="where an outlet without a position begins: with the next event, or the oldest"
    )


class VoEventOutlet(Outlet):
    """VOEvent 2.0 files, one per record of an event."""

    type: Literal["voevent"]
    directory: Path = Field(description="where the files go; made when missing")
    stream: str = Field(
        pattern=r"^ivo://[^/#]+/[^#]+$", description="IVORN of the stream: ivo://AUTHORITY/STREAM; also the author's"
    )
    observatory: str = Field(default="", description="IVORN or name of the observatory")
    contact: str = Field(default="", description="name of who is to be asked")


class WebhookOutlet(Outlet):
    """An HTTP POST of JSON per record."""

    type: Literal["webhook"]
    url: HttpUrl
    headers: dict[str, str] = Field(default={}, description="sent along: a token, for example")
    timeout_s: Seconds = Field(default=10.0, gt=0)


class CommandOutlet(Outlet):
    """A program that gets JSON on its standard input, started for each record."""

    type: Literal["command"]
    command: Annotated[tuple[str, ...], Field(min_length=1)] = Field(description="program and arguments, no shell")
    timeout_s: Seconds = Field(default=60.0, gt=0)


class OutletsConfig(ServiceSection):
    """Outlets by name. None of them runs unless `replicas` is 1."""

    reads: ClassVar[tuple[str, ...]] = ("transients",)
    stage: ClassVar[int] = 6

    replicas: int = Field(default=0, ge=0, le=1, description="1 runs the outlets on this host")
    to: dict[str, Annotated[VoEventOutlet | WebhookOutlet | CommandOutlet, Field(discriminator="type")]] = Field(
        default={}, description="each with its type, its own filters and its own position"
    )


SECTION = OutletsConfig
