"""Rules of users: Python files whose functions are decorated with `rules.rule`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

from trapline.common.config import ConfigError
from trapline.transient_finder.rules import Rule

_RESERVED = frozenset({"new_source", "flare", "fade", "variable", "disappeared", "returned"})


def load_rules(paths: Iterable[Path], thresholds: Mapping[str, Mapping[str, float]]) -> tuple[Rule, ...]:
    """Return the rules of some files, in their order, with the thresholds of the configuration.

    Raises
    ------
    ConfigError
        When a file cannot be run or has no rule, or a kind or a threshold is not one; with what would be right.
    """
    rules: dict[str, Rule] = {}
    for path in paths:
        for found in _rules_in(path):
            if found.kind in rules or found.kind in _RESERVED:
                raise ConfigError(f"{path}: the kind {found.kind!r} is taken: choose another")
            rules[found.kind] = _with(found, thresholds.get(found.kind, {}))
    if unknown := sorted(set(thresholds) - set(rules)):
        known = ", ".join(rules) or "no plugins"
        raise ConfigError(f"transient_finder.plugin_thresholds: no rule {unknown[0]!r}; there are {known}")
    return tuple(rules.values())


def _rules_in(path: Path) -> list[Rule]:
    module = _run(path)
    rules = [value for value in vars(module).values() if isinstance(value, Rule)]
    if not rules:
        raise ConfigError(f"{path}: no rule in it: decorate a function with trapline.transient_finder.rules.rule")
    return rules


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"transient_finder.plugins: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"trapline_rules_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file: its name should end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    return module


def _with(rule: Rule, thresholds: Mapping[str, float]) -> Rule:
    if unknown := sorted(set(thresholds) - set(rule.thresholds)):
        known = ", ".join(rule.thresholds) or "none"
        raise ConfigError(
            f"transient_finder.plugin_thresholds.{rule.kind}: no threshold {unknown[0]!r}; there are {known}"
        )
    return rule._replace(thresholds={**rule.thresholds, **thresholds})
