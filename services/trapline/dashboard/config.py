"""Settings of dashboard."""

from __future__ import annotations

from ipaddress import ip_network
from typing import ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from trapline.common.config import Seconds, ServiceSection


class DashboardConfig(ServiceSection):
    """Where the pages are served, to whom, and what may be done there."""

    writes: ClassVar[tuple[str, ...]] = ("triage",)
    stage: ClassVar[int] = 6
    essential: ClassVar[bool] = False

    replicas: int = Field(default=1, ge=0, le=1, description="1 serves the pages from this host; 0 leaves them out")
    host: str = Field(
        default="127.0.0.1", description="address to listen on; others than loopback need a token or a proxy's header"
    )
    port: int = Field(
        default=7480, ge=0, le=65535, description="TCP port; when it is taken the next free one; 0 takes any"
    )
    token: SecretStr | None = Field(
        default=None, min_length=16, description="who does not show it sees nothing; asked for on loopback too"
    )
    proxy_user_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]+$",
        description="header in which a reverse proxy names the person; believed only when it comes from `proxies`",
    )
    proxies: list[str] = Field(
        default=["127.0.0.1", "::1"], description="addresses or networks of reverse proxies: 10.0.0.7, 10.0.0.0/24"
    )
    allow_triage: bool = Field(default=False, description="whether verdicts on transients may be given here")
    allow_replay: bool = Field(default=False, description="whether dead letters may be given to their group again here")
    tick_s: Seconds = Field(
        default=0.5, gt=0, le=60, description="shortest time between two pulls of a page that is open"
    )
    limit_sigma: float = Field(
        default=3.0,
        ge=0,
        description="a forced flux below so many sigma is drawn as an upper limit; 0 draws each as it is",
    )
    page_rows: int = Field(default=50, ge=1, le=1000, description="rows of a page of a list")
    niceness: int = Field(default=10, ge=0, le=19, description="how far it steps back for services that need the cores")

    @property
    def is_open(self) -> bool:
        """Whether anyone who reaches the port is let in: loopback only."""
        return self.token is None and self.proxy_user_header is None

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this host can reach it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @field_validator("proxies")
    @classmethod
    def _networks(cls, proxies: list[str]) -> list[str]:
        for one in proxies:
            ip_network(one)  # says itself what is wrong
        return proxies

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.is_open and not self.is_loopback:
            raise ValueError(
                f"host = {self.host!r} is not loopback (127.0.0.1): set token (16 characters or more), "
                "or proxy_user_header when a reverse proxy says who is there"
            )
        return self


SECTION = DashboardConfig
