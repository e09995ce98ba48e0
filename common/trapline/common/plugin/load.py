"""A plug-in from its file."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from trapline.common.channel.reader import Start
from trapline.common.config.mesh import MeshConfig, service_names
from trapline.common.plugin.declare import Declaration, PluginError, declaration_of
from trapline.common.plugin.messages import Output

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,55}")


@dataclass(frozen=True, slots=True)
class Function:
    """A decorated function and what its decorators say."""

    name: str
    call: Any
    said: Declaration


@dataclass(frozen=True, slots=True)
class Plugin:
    """The decorated functions of a file, run together by one name: that of the file."""

    name: str
    functions: tuple[Function, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Channels that it reads, in the order in which they are named."""
        return tuple(dict.fromkeys(channel for f in self.functions for channel in f.said.reads))

    @property
    def outputs(self) -> dict[str, Output]:
        """What it publishes, by channel."""
        return {output.channel: output for f in self.functions for output in f.said.outputs}

    @property
    def group(self) -> bool:
        """Whether its workers share the records."""
        return self.functions[0].said.group

    def start(self, channel: str) -> Start:
        """Return where the first function that reads a channel begins."""
        return next(f.said.start for f in self.functions if channel in f.said.reads)

    def reading(self, channel: str) -> list[Function]:
        """Return the functions that read a channel."""
        return [f for f in self.functions if channel in f.said.reads]


def load_plugin(path: Path, name: str | None = None) -> Plugin:
    """Return the plug-in in a file; its code runs. Without a name it has that of the file.

    Raises
    ------
    PluginError
        When the file is no plug-in, with the line where it is wrong.
    """
    if not path.is_file():
        raise PluginError(f"there is no file {path}; `trapline plugin new NAME` writes one")
    name = path.stem if name is None else name
    if not _NAME.fullmatch(name) or name in (*service_names(), *MeshConfig.model_fields):
        raise PluginError(
            f"{path}: {name!r} is a service's name or has odd characters: a plug-in has its file's name, or that of "
            "--name"
        )
    return plugin_in(_module(path), name, str(path))


def plugin_in(module: ModuleType, name: str, where: str) -> Plugin:
    """Return the plug-in that the decorated functions of a module are.

    Raises
    ------
    PluginError
        When there is none, or when they cannot run together.
    """
    found = [(key, value, declaration_of(value)) for key, value in vars(module).items() if callable(value)]
    functions = tuple(Function(key, value, said) for key, value, said in found if said)
    if not functions:
        raise PluginError(f'{where}: no function is decorated with @subscribes("CHANNEL")')
    if deaf := [f.name for f in functions if not f.said.reads]:
        raise PluginError(f'{where}: {deaf[0]} has @publishes, but no @subscribes("CHANNEL"): nothing would call it')
    if len({f.said.group for f in functions}) > 1:
        raise PluginError(f"{where}: some functions have group=True, some not: put them in files of their own")
    return Plugin(name, functions)


def _module(path: Path) -> ModuleType:
    """Import a file as Python would run it: what stands beside it can be imported too."""
    directory = str(path.absolute().parent)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    name = f"trapline_plugin_{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except PluginError as error:
        raise PluginError(f"{path}:{_line(error, path)}: {error}") from None
    except Exception as error:
        raise PluginError(f"{path}:{_line(error, path)}: {type(error).__name__}: {error}") from error
    return module


def _line(error: Exception, path: Path) -> int:
    if isinstance(error, SyntaxError):
        return error.lineno or 1
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno or 1 for f in reversed(frames) if Path(f.filename) == path), 1)
