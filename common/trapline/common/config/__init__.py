"""Configuration: one `mesh.toml`, a table per service, checked when it is read."""

from trapline.common.config.errors import ConfigError
from trapline.common.config.section import Bytes, Deg, Hertz, Seconds, Section, ServiceSection

__all__ = ["Bytes", "ConfigError", "Deg", "Hertz", "Seconds", "Section", "ServiceSection"]
