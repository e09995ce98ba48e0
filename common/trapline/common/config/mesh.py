"""The whole of `mesh.toml`: the tables that every process knows, and one per service that is found."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import re
import stat
import uuid
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import Field, ValidationError, create_model, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

import trapline
from trapline.common.config.errors import ConfigError, explain
from trapline.common.config.section import Seconds, Section, ServiceSection
from trapline.common.plugin.config import PluginConfig, PluginName
from trapline.common.postgres.config import DatabaseConfig
from trapline.common.relay.config import JournalConfig, RelayConfig
from trapline.common.security.config import SecurityConfig, is_loopback

DEFAULT_FILE = Path("mesh.toml")
ENVIRONMENT_PREFIX = "TRAPLINE__"
_MAX_SOCKET_PATH = 100  # the kernel's limit is 107 bytes
RELAY_ADDRESS = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):\d{1,5}")
_SHORT_PATH = Path("/tmp")  # noqa: S108  a directory of our own is made in it


class MeshSection(Section):
    """What all processes of a mesh on this host share."""

    data_directory: Path = Field(
        default=Path("trapline-data"), description="journals, snapshots, logs, and the embedded store"
    )
    dataset: str = Field(
        default="default", min_length=1, description="separates one processing of the sky from another"
    )
    host: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,31})?$",
        description="name of this host, which its partitions have; another one on each host of a mesh, never changed",
    )
    relays: list[str] = Field(
        default=[], description="relays of other hosts whose channels are read and shared here: tcp://HOST:PORT"
    )
    drain_s: Seconds = Field(default=30.0, gt=0, description="how long a process may finish its work when told to stop")


class LogSection(Section):
    """How processes log."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest level that is written"
    )


class RuntimeSection(Section):
    """How services handle records."""

    heartbeat_s: Seconds = Field(default=1.0, gt=0, description="how often a service reports on `status`")
    max_attempts: int = Field(default=3, ge=1, description="how often a record is tried before it is a dead letter")
    max_runtime_s: Seconds = Field(
        default=300.0, gt=0, description="how long one record may take; then the process ends, and is started again"
    )
    snapshot_s: Seconds = Field(default=30.0, gt=0, description="how often a fold writes its state")
    health_host: str = Field(default="127.0.0.1", description="address of /livez, /readyz and /metrics")


class MeshConfig(BaseSettings):
    """The effective configuration of a process. Tables of services are read with `service`."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="null",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    mesh: MeshSection = MeshSection()
    log: LogSection = LogSection()
    runtime: RuntimeSection = RuntimeSection()
    relay: RelayConfig = RelayConfig()
    journal: JournalConfig = JournalConfig()
    database: DatabaseConfig = DatabaseConfig()
    security: SecurityConfig = SecurityConfig()
    plugins: dict[PluginName, PluginConfig] = {}

    @model_validator(mode="after")
    def _needs_keys(self) -> Self:
        if self.relay_needs_keys and not self.security.identity:
            why = f"relay.host = {self.relay.host!r} is not loopback (127.0.0.1)"
            if self.security.loopback_needs_keys:
                why = "security.loopback_needs_keys is set"
            raise ValueError(
                f'{why}: the relay needs keys; set [security] identity = "NAME", '
                "and make it with `trapline keys new NAME`"
            )
        return self

    @model_validator(mode="after")
    def _plugins_have_names_of_their_own(self) -> Self:
        if taken := sorted(self.plugins.keys() & {*service_names(), *MeshConfig.model_fields}):
            raise ValueError(f"plugins.{taken[0]}: {taken[0]} is the name of a service or a table: choose another")
        return self

    @model_validator(mode="after")
    def _can_join(self) -> Self:
        relays = self.mesh.relays
        if relays and not self.mesh.host:
            raise ValueError('mesh.relays names other hosts: give this one a name of its own too, [mesh] host = "NAME"')
        for address in relays:
            found = RELAY_ADDRESS.fullmatch(address)
            if not found:
                raise ValueError(f"mesh.relays: {address!r} is not an address such as tcp://host-b:7400")
            if address not in self.security.relays and not is_loopback(found[1]):
                raise ValueError(
                    f"mesh.relays: {address} is not on this host, and wants keys: name its public key in "
                    f'[security] relays = {{ "{address}" = "NAME" }} (NAME.pub beside its own)'
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, which wins over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    def service(self, name: str) -> Section:
        """Return the table of a service."""
        return cast("Section", getattr(self, name))

    def services(self) -> dict[str, ServiceSection]:
        """Return the tables of all services, by name."""
        return {name: cast("ServiceSection", getattr(self, name)) for name in service_names()}

    def replica(self, number: str) -> str:
        """Return the name of a replica, by which the mesh knows it: with the name of its host when there is one."""
        return f"{self.mesh.host}.{number}" if self.mesh.host else number

    def fingerprint(self, name: str) -> str:
        """Return a short hash of what a service computes with, for the `config` field of its messages."""
        return hashlib.sha256(self.service(name).model_dump_json(exclude={"replicas"}).encode()).hexdigest()[:16]

    @property
    def data_directory(self) -> Path:
        """Where everything of this mesh on this host is, absolute."""
        return self.mesh.data_directory.expanduser().absolute()

    @property
    def journal_directory(self) -> Path:
        """Partitions are ``CHANNEL/PARTITION`` below it."""
        return self.data_directory / "journal"

    @property
    def keys_directory(self) -> Path:
        """Key files of this host: ``NAME.key``, ``NAME.pub``, and whom its relay trusts as ``trusted/NAME.toml``."""
        directory = self.security.keys_directory
        return directory.expanduser().absolute() if directory else self.data_directory / "keys"

    @property
    def relay_needs_keys(self) -> bool:
        """Whether the relay of this host asks those who connect through TCP for a key."""
        return self.security.loopback_needs_keys or not is_loopback(self.relay.host)

    @property
    def identity(self) -> str:
        """Random name of the journals under `data_directory`: positions kept elsewhere belong to it."""
        path = self.data_directory / "identity"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            own = path.with_name(f"identity.{os.getpid()}")
            own.write_text(f"{uuid.uuid4()}\n")
            # Of several processes that start together one wins, with the whole file.
            with contextlib.suppress(FileExistsError):
                os.link(own, path)
            own.unlink()
        return path.read_text().strip()

    @property
    def ipc_path(self) -> str:
        """Socket of the relay for processes of this host.

        Raises
        ------
        ConfigError
            When the data directory's path is too long for a socket, and there is no other place that is ours alone.
        """
        path = str(self.data_directory / "relay.ipc")
        if len(path.encode()) <= _MAX_SOCKET_PATH:
            return path
        return str(_private_directory() / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.ipc")


def _private_directory() -> Path:
    """Return a directory with a short path that is open to this account alone, whoever else can write beside it."""
    directory = _SHORT_PATH / f"trapline-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigError(
            f"{directory} is not a directory of this account alone (mode 700): remove it, "
            "or choose a data directory with a shorter path"
        )
    return directory


@cache
def service_names() -> tuple[str, ...]:
    """Return the packages under `trapline` that are services: those with a `service` module beside a `config`."""
    names = [m.name for m in pkgutil.iter_modules(trapline.__path__) if m.ispkg]
    return tuple(sorted(name for name in names if _is_service(name)))


def _is_service(name: str) -> bool:
    # Nothing is imported: `trapline.client` alone would bring astropy into every process.
    spec = importlib.util.find_spec(f"trapline.{name}")
    places = spec.submodule_search_locations if spec and spec.submodule_search_locations else ()
    return any((Path(place) / "config.py").exists() and (Path(place) / "service.py").exists() for place in places)


@cache
def _mesh_model() -> type[MeshConfig]:
    tables: dict[str, Any] = {}
    for name in service_names():
        section: type[Section] = importlib.import_module(f"trapline.{name}.config").SECTION
        tables[name] = (section, Field(default_factory=section))
    return cast("type[MeshConfig]", create_model("Mesh", __base__=MeshConfig, **tables))


def load_config(path: Path | None = None, **overrides: Any) -> MeshConfig:
    """Return the configuration of a file, the environment and the defaults.

    Parameters
    ----------
    path
        A `mesh.toml`. Without one, ``mesh.toml`` in the working directory if it is there, else the defaults.
    overrides
        Tables that win over everything, as nested dictionaries.

    Raises
    ------
    ConfigError
        With a line for each thing that is wrong: its file, the key's path, and what is allowed.
    """
    if path is not None and not path.is_file():
        raise ConfigError(f"there is no configuration file {path}")
    file = path or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    base = _mesh_model()
    model = type("Mesh", (base,), {"model_config": SettingsConfigDict(toml_file=file), "__module__": __name__})
    try:
        return cast("MeshConfig", model(**overrides))
    except ValidationError as error:
        raise ConfigError(explain(error, model, str(file or "configuration"))) from None
    except ValueError as error:  # not TOML at all
        raise ConfigError(f"{file}: {error}") from None
