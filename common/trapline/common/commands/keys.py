"""Commands for the keys between hosts: keys new, list, trust, revoke."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from trapline.common.commands.options import ConfigOption, JsonOption, fail
from trapline.common.config import ConfigError
from trapline.common.config.mesh import MeshConfig, load_config, service_names
from trapline.common.security.keys import find_public, load_key_pair, new_key_pair
from trapline.common.security.trust import Rights, load_rights, trust_files
from trapline.common.security.trust import revoke as revoke_key
from trapline.common.security.trust import trust as trust_key

app = typer.Typer()
keys = typer.Typer(help="Keys between hosts: make them, and say whom this host's relay trusts.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command(epilog="Example: trapline keys new host-a")
def new(name: Annotated[str, typer.Argument(help="What the key is called.")], config: ConfigOption = None) -> None:
    """Make a key pair; the secret stays here, the public key is a small file to give away."""
    try:
        loaded = _load(config)
        pair, public = new_key_pair(loaded.keys_directory, name)
    except (ConfigError, OSError) as error:
        fail(error)
    sys.stdout.write(f"{pair.public}\n")
    sys.stderr.write(
        f"give {public} to those who shall trust {name}; the secret stays in {public.with_suffix('.key')}\n"
    )
    if loaded.security.identity != name:
        sys.stderr.write(f'this host uses it with [security] identity = "{name}"\n')


@keys.command(name="list", epilog="Example: trapline keys list --json")
def list_keys(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show this host's own keys, and whom its relay trusts with what; the exit code is 1 when a file is wrong."""
    wrong = []
    for kind, path in _files(_load(config)):
        try:
            row = _row(kind, path)
        except ConfigError as error:
            wrong.append(str(error))
            continue
        if as_json:
            sys.stdout.write(json.dumps({"kind": kind, **row}) + "\n")
        else:
            rights = "  ".join(f"{key} {', '.join(row[key]) or 'nothing'}" for key in row.keys() - {"name", "public"})
            sys.stdout.write(f"{kind:8} {row['name']:20} {row['public']}  {rights}".rstrip() + "\n")
    if wrong:
        fail("; ".join(wrong))


def _files(config: MeshConfig) -> Iterator[tuple[str, Path]]:
    for path in sorted(config.keys_directory.glob("*.key")):
        yield "own", path
    for path in trust_files(config.keys_directory / "trusted"):
        yield "trusted", path


def _row(kind: str, path: Path) -> dict[str, Any]:
    if kind == "own":
        pair = load_key_pair(path)
        return {"name": pair.name, "public": pair.public}
    return {key: sorted(v) if isinstance(v, frozenset) else v for key, v in load_rights(path)._asdict().items()}


@keys.command(epilog="Example: trapline keys trust laptop.pub --read transients,lightcurves --publish follow_up")
def trust(
    key: Annotated[str, typer.Argument(help="A public key, a file with one, or a name that is trusted already.")],
    name: Annotated[str | None, typer.Option(help="What to call it here; without it the name in the file.")] = None,
    read: Annotated[str | None, typer.Option(help="Channels that it may read; without it all.")] = None,
    publish: Annotated[str | None, typer.Option(help="Channels that it may publish on; without it none.")] = None,
    groups: Annotated[
        str | None, typer.Option(help="Groups and readers that it may be, besides those called like the key.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Let a key connect to this host's relay, or change what it may do. Lists are separated by commas; '*' is all."""
    try:
        directory = _load(config).keys_directory
        rights = _known(directory, key, name)
        rights = rights._replace(
            read=_names(read, rights.read),
            publish=_names(publish, rights.publish),
            groups=_names(groups, rights.groups),
        )
        trust_key(directory / "trusted", rights)
    except (ConfigError, OSError) as error:
        fail(error)
    shown = {key: ", ".join(sorted(getattr(rights, key))) or "nothing" for key in ("read", "publish")}
    sys.stdout.write(f"{rights.name} may read {shown['read']}, and publish {shown['publish']}\n")


def _names(text: str | None, known: frozenset[str]) -> frozenset[str]:
    return known if text is None else frozenset(filter(None, text.split(",")))


def _known(directory: Path, key: str, name: str | None) -> Rights:
    """Return the rights of a key that is trusted, else those that a new one begins with."""
    if Path(key).name == key and (path := directory / "trusted" / f"{key}.toml").is_file() and name in (None, key):
        return load_rights(path)
    found = find_public(key, directory)
    chosen = name or found.name
    if not chosen:
        raise ConfigError("a public key alone has no name: say --name")
    if any(chosen == service or chosen.startswith(f"{service}-") for service in service_names()):
        raise ConfigError(f"{chosen} is the name of a service, whose records it could acknowledge: say another --name")
    return Rights(chosen, found.public)


@keys.command(epilog="Example: trapline keys revoke laptop")
def revoke(name: Annotated[str, typer.Argument(help="As `list` shows it.")], config: ConfigOption = None) -> None:
    """Trust a key no more: within a second it is refused, connected or not."""
    try:
        revoke_key(_load(config).keys_directory / "trusted", name)
    except (ConfigError, OSError) as error:
        fail(error)
    sys.stdout.write(f"{name} is not trusted any more\n")


def _load(config: Path | None) -> MeshConfig:
    try:
        return load_config(config)
    except ConfigError as error:
        fail(error, 2)
