"""What a plug-in says of itself: which channels its functions read, and what they publish."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from trapline.common.channel.filters import Cone, Filter, Names, make_filter
from trapline.common.channel.reader import Start, parse_time_us
from trapline.common.plugin.messages import Output, make_output
from trapline.schemas.columns import Column

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__trapline__"
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class PluginError(ValueError):
    """A plug-in that cannot be run. The text says what is wrong, where, and what would be right."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the decorators of one function say.

    Attributes
    ----------
    state
        Class of the second argument; None for a function that keeps nothing.
    group
        Whether workers share the records, each taken by one, instead of one process that takes all in order.
    """

    reads: tuple[str, ...] = ()
    start: Start = "latest"
    only: Filter = field(default_factory=Filter)
    state: type[msgspec.Struct] | None = None
    group: bool = False
    outputs: tuple[Output, ...] = field(default=())


def declaration_of(function: Any) -> Declaration | None:
    """Return what the decorators of a function say; None when it has none."""
    found = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, Declaration) else None


def subscribes(
    *channels: str,
    start: Start = "latest",
    state: type[msgspec.Struct] | None = None,
    group: bool = False,
    band: Names = None,
    kind: Names = None,
    region: Cone | None = None,
) -> Callable[[F], F]:
    """Let a function be called with each record of some channels, as an `Event`.

    What it returns or yields is published: structs of the classes that `publishes` names, or ``(struct, columns)``.

    Parameters
    ----------
    channels
        Their names, also of other plug-ins.
    start
        Where to begin the first time: ``"first"``, ``"latest"``, a seq or a UTC time. Later it goes on where it was.
    state
        A `msgspec.Struct` whose fields all have defaults. One object of it is the second argument of each call; it
        survives a restart, and is what it would be had there been none.
    group
        Share the records among all workers of this plug-in: each is taken by one, in no order, and there is no state.
    band, kind, region
        Take only these; see `make_filter`.

    Raises
    ------
    PluginError
        When this cannot be.
    """
    only = _checked(channels, start, state, group=group, only=(band, kind, region))

    def decorate(function: F) -> F:
        said = declaration_of(function) or Declaration()
        if said.reads:
            raise PluginError(f"{function.__name__}: has @subscribes twice; give it all channels at once")
        _say(function, replace(said, reads=channels, start=start, only=only, state=state, group=group))
        return function

    return decorate


def publishes(
    channel: str, message: type[msgspec.Struct], *, columns: tuple[Column, ...] = (), version: str = "1.0"
) -> Callable[[F], F]:
    """Let a function publish structs of a class on a channel.

    Parameters
    ----------
    channel
        Its name. The records get a partition with the plug-in's name.
    message
        The author's own struct, whose fields and docstring become the channel's schema, or a built-in message such as
        `Transients`.
    columns
        Arrays that go with it: yield ``(struct, {"name": array})``.
    version
        ``major.minor`` of the own schema: a new optional field is a minor, anything else a new major.

    Raises
    ------
    PluginError
        When no schema can be made of it.
    """
    if not _CHANNEL.fullmatch(channel):
        raise PluginError(f"{channel!r} cannot be the name of a channel: letters, digits, '_', '.' and '-'")
    try:
        output = make_output(channel, message, columns, version)
    except (TypeError, ValueError) as error:
        raise PluginError(f"@publishes({channel!r}): {error}") from None

    def decorate(function: F) -> F:
        said = declaration_of(function) or Declaration()
        if any(other.struct is message for other in said.outputs):
            raise PluginError(f"{function.__name__}: publishes {message.__name__} twice: a struct has one channel")
        _say(function, replace(said, outputs=(output, *said.outputs)))
        return function

    return decorate


def _say(function: Any, said: Declaration) -> None:
    setattr(function, _ATTRIBUTE, said)


def _checked(
    channels: tuple[str, ...],
    start: Start,
    state: type[msgspec.Struct] | None,
    *,
    group: bool,
    only: tuple[Names, Names, Cone | None],
) -> Filter:
    wrong = [c for c in channels if not isinstance(c, str) or not _CHANNEL.fullmatch(c)]
    if wrong or not channels:
        raise PluginError(f'@subscribes{channels}: name the channels, as @subscribes("transients")')
    if state is not None and group:
        raise PluginError(
            "a group keeps no state: the next record may be taken by another worker; leave out group=True"
        )
    try:
        if isinstance(start, str) and start not in ("first", "latest"):
            parse_time_us(start)
        if state is not None:
            state()
        return make_filter(*only)
    except (TypeError, ValueError) as error:
        hint = "; every field of a state needs a default" if isinstance(error, TypeError) else ""
        raise PluginError(f"@subscribes: {error}{hint}") from None
