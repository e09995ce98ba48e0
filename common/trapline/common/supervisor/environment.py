"""How a supervisor tells its children their configuration: a file, and variables that win over it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trapline.common.config.mesh import ENVIRONMENT_PREFIX
from trapline.common.runtime.threads import ONE_THREAD

Tables = Mapping[str, Mapping[str, Any]]


def child_environment(overrides: Tables) -> dict[str, str]:
    """Return variables that give a child these tables, over its configuration file."""
    variables = {
        f"{ENVIRONMENT_PREFIX}{table}__{key}".upper(): value if isinstance(value, str) else json.dumps(value)
        for table, values in overrides.items()
        for key, value in values.items()
    }
    return {**ONE_THREAD, **variables}


def merged(*overrides: Tables) -> dict[str, dict[str, Any]]:
    """Return tables in which later values win."""
    result: dict[str, dict[str, Any]] = {}
    for tables in overrides:
        for table, values in tables.items():
            result[table] = {**result.get(table, {}), **values}
    return result
