"""The tables `[plugins.NAME]` of `mesh.toml`: plug-ins that `trapline up` runs beside the services."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from trapline.common.config.section import Section

PluginName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,55}$")]


class PluginConfig(Section):
    """A plug-in of the operator's. Whatever it does, the mesh goes on, and whatever ends it, it is started again."""

    file: Path = Field(description="Python file with @subscribes functions; relative to where the mesh is started")
    replicas: int = Field(default=1, ge=0, description="processes of it; more than one if its functions are a group")
    start: str | None = Field(
        default=None,
        description="where it begins the first time: first, latest, or a UTC time; else what the file says",
    )
    environment: dict[str, str] = Field(default={}, description="variables for it, such as its own settings")
    niceness: int = Field(default=5, ge=0, le=19, description="by how much it steps back for services")
