"""Configuration errors as a person wants them: a line for each, with the key's path and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError


class ConfigError(ValueError):
    """A configuration that cannot be used. The text has one line for each thing that is wrong."""


def explain(error: ValidationError, model: type[BaseModel], source: str) -> str:
    """Return one line for each error of a validation: where, what, and what would be right."""
    lines = []
    for detail in error.errors(include_url=False):
        where = ".".join(map(str, detail["loc"]))
        if detail["type"] == "extra_forbidden":
            allowed = ", ".join(sorted(_keys_at(model, detail["loc"][:-1])))
            lines.append(f"{source}: unknown key {where}; allowed here are {allowed}")
        else:
            text = detail["msg"].removeprefix("Value error, ")
            # What concerns several tables has no place of its own.
            lines.append(f"{source}: {where} = {detail['input']!r}: {text}" if where else f"{source}: {text}")
    return "\n".join(lines)


def _keys_at(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """Return the keys of the table at a path of a model."""
    for key in path:
        field = model.model_fields.get(str(key))
        inner = field.annotation if field else None
        candidates = [inner, *getattr(inner, "__args__", ())]
        found = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if found:
            model = found[0]
    return list(model.model_fields)
