"""Functions that a configuration names: registered ones, or a user's own as ``package.module:function``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def function_named(what: str, name: str, known: Mapping[str, F]) -> F:
    """Return a function by the name it was registered under, or imported as ``package.module:function``.

    Parameters
    ----------
    what
        What such a function is, for people: ``"method"``.
    name
        What the configuration says.
    known
        Those that are registered.

    Raises
    ------
    ValueError
        When there is none. The text says which there are.
    """
    if name in known:
        return known[name]
    module, _, function = name.partition(":")
    if not function:
        raise ValueError(f"there is no {what} {name!r}: use {', '.join(sorted(known))}, or package.module:function")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"the {what} {name!r} cannot be imported: {error}") from None
    if not callable(found):
        raise ValueError(f"the {what} {name!r} is not a function but {type(found).__name__}")  # noqa: TRY004  a wrong value of a setting
    return found  # type: ignore[no-any-return]
