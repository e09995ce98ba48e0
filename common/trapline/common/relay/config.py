"""The tables `[relay]` and `[journal]` of `mesh.toml`."""

from __future__ import annotations

from typing import Literal, Self, TypedDict

from pydantic import Field, model_validator

from trapline.common.config.section import Bytes, Seconds, Section


class Retention(Section):
    """How long a channel is kept. 0 means without bound.

    Up to `limit_bytes` and `age_s` is kept what nobody needs any more, up to `hard_limit_bytes` what a group has not
    acknowledged or a named reader still needs. At the hard limit, or when the disk has less than ``min_free_bytes``
    left, the oldest records go although they are needed (``drop_oldest``: readers get a gap, and an alarm is raised),
    or the writers wait (``stop``).
    """

    limit_bytes: Bytes = Field(default=0, ge=0, description="sum of the segments of one partition")
    age_s: Seconds = Field(default=0.0, ge=0, description="age of the newest record of a segment")
    hard_limit_bytes: Bytes = Field(default=0, ge=0, description="sum of the segments of one partition, needed or not")
    at_limit: Literal["drop_oldest", "stop"] = Field(
        default="drop_oldest", description="at the hard limit: drop what is needed, or let writers wait"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if 0 < self.hard_limit_bytes < self.limit_bytes:
            raise ValueError(
                f"hard_limit_bytes ({self.hard_limit_bytes}) must not be below limit_bytes ({self.limit_bytes})"
            )
        return self


class ChannelFiles(Section):
    """How the partitions of a channel lie on disk."""

    segment_bytes: Bytes = Field(default=16 << 20, ge=4096, description="size of a segment file")
    retention: Retention = Field(default=Retention(age_s=7 * 86400.0), description="when segments are given up")
    sync_s: Seconds | None = Field(default=None, ge=0, description="as [journal] sync_s, for this channel alone")


class WriterOptions(TypedDict):
    """What `JournalWriter` takes of the configuration."""

    segment_bytes: int
    limit_bytes: int
    min_free_bytes: int


class JournalConfig(Section):
    """Where journals are, and how each channel is kept."""

    sync_s: Seconds = Field(
        default=0.1, ge=0, description="longest time until a record is synced; 0 never waits for the disk"
    )
    images_disk_fraction: float = Field(default=0.1, gt=0, le=1, description="share of the disk that `images` may fill")
    min_free_bytes: Bytes = Field(
        default=512 << 20, ge=0, description="of the disk: with less left every channel is at its hard limit"
    )
    channels: dict[str, ChannelFiles] = Field(default={}, description="settings by channel; '*' for all others")

    def writer_options(self, channel: str) -> WriterOptions:
        """Return what a writer of a channel must know: sizes, and where it must wait for space (``stop``)."""
        files = self.of(channel)
        stops = files.retention.at_limit == "stop"
        return {
            "segment_bytes": files.segment_bytes,
            "limit_bytes": files.retention.hard_limit_bytes if stops else 0,
            "min_free_bytes": self.min_free_bytes if stops else 0,
        }

    def sync_s_of(self, channel: str) -> float:
        """Return the longest time until a record of a channel is synced; 0 never waits for the disk."""
        own = self.of(channel).sync_s
        return self.sync_s if own is None else own

    def of(self, channel: str) -> ChannelFiles:
        """Return the settings of a channel: its own, those of ``*``, or the defaults."""
        return self.channels.get(channel) or self.channels.get("*") or _DEFAULTS.get(channel) or ChannelFiles()


_DEFAULTS = {
    "images": ChannelFiles(segment_bytes=128 << 20, retention=Retention()),
    "status": ChannelFiles(segment_bytes=1 << 20, retention=Retention(limit_bytes=8 << 20)),
    "dead_letters": ChannelFiles(segment_bytes=1 << 20, retention=Retention()),
    "schemas": ChannelFiles(segment_bytes=1 << 20, retention=Retention()),
}


class RelayConfig(Section):
    """The process that serves a host's journals."""

    host: str = Field(default="127.0.0.1", description="address to listen on; others than loopback need keys")
    port: int = Field(default=7400, ge=0, le=65535, description="TCP port; 0 takes a free one")
    lease_s: Seconds = Field(default=3.0, gt=0, description="how long a lease lasts without being extended")
    poll_s: Seconds = Field(default=0.05, gt=0, description="how often to look for records that no tick announced")
    max_request_bytes: Bytes = Field(default=256 << 20, ge=1 << 16, description="larger messages are refused")
    retention_s: Seconds = Field(default=5.0, gt=0, description="how often retention is applied")
