"""The rules that see every point of an object in turn, and the memory of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.table import Rows
from trapline.schemas.columns import Link
from trapline.transient_finder import rules
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.episodes import Announced, Judgement, follow
from trapline.transient_finder.history import after_point, before_point, with_point
from trapline.transient_finder.population import Population, bins_of
from trapline.transient_finder.rules import Columns, Rule

_DEVIATION = ("flux_int", "flux_int_err", "mean", "mean_err", "n_before")
_VARIATION = ("n_now", "v_now", "eta_now", "v_threshold", "eta_threshold")


def point_rules(settings: FinderConfig) -> tuple[Rule, ...]:
    """Return the rules of the tree that see every point, with their thresholds."""
    deviation = {
        "sigma": settings.flare_sigma,
        "flux_sys_frac": settings.flux_sys_frac,
        "min_points": float(settings.min_points),
        "hysteresis": settings.flare_hysteresis,
    }
    variation = {"min_points": float(settings.variable_min_points), "hysteresis": settings.variable_hysteresis}
    return (
        Rule("flare", rules.flare, deviation, _DEVIATION),
        Rule("fade", rules.fade, deviation, _DEVIATION),
        Rule("variable", rules.variable, variation, _VARIATION, retracts=True),
    )


def judge(announced: Announced, plugins: Sequence[Rule]) -> None:
    """Judge points of one image, of which no two are of one object, and take them into the memory."""
    sky, points, settings = announced.sky, announced.points, announced.settings
    history = sky.band(points.context.key)
    columns, at = points.columns, history.rows(announced.rows)
    before = history.table.rows[at]
    in_tree = point_rules(settings)
    seen: dict[str, npt.NDArray[Any]] = {**columns, **before_point(before)}
    reach = rules.reach(seen, in_tree[0].thresholds)
    after = with_point(before, columns["flux_int"], columns["flux_int_err"], reach)
    seen |= after_point(after)
    _count(after, seen, settings)
    after["newest"] = sky.ring.write(columns, points.context.t_us, before["newest"]) + 1
    history.write(at, after)
    # The population as it is with these points: objects that come of age together are judged by one another.
    seen |= thresholds_of(history.population, settings, len(at))
    amplitude = np.abs(columns["flux_int"] - seen["mean"])
    for rule in (*in_tree, *plugins):
        verdict = rule.judge(seen, rule.thresholds)
        # Children of forks are not judged: whose flux is whose is not known yet.
        follow(announced, Judgement(rule, _only(verdict, columns["link"] != Link.FORKED), seen, amplitude))


def thresholds_of(population: Population, settings: FinderConfig, count: int) -> dict[str, npt.NDArray[Any]]:
    """Return what V and eta must exceed, as columns of `count` rows: fitted if the population is large enough."""
    v, eta = settings.v_min, settings.eta_min
    if settings.variable_thresholds == "fitted" and len(population) >= settings.population_min:
        fits = population.fits()
        v, eta = (max(low, fit.threshold(settings.variable_sigma)) for low, fit in zip((v, eta), fits, strict=True))
    return {"v_threshold": np.full(count, v), "eta_threshold": np.full(count, eta)}


def _count(after: Rows, seen: Columns, settings: FinderConfig) -> None:
    """Put objects into the bins of the population."""
    counted = (seen["n_now"] >= settings.variable_min_points) & (seen["v_now"] > 0)
    after["v_bin"], after["eta_bin"] = bins_of(seen["v_now"], counted), bins_of(seen["eta_now"], counted)


def _only(verdict: rules.Verdict, which: npt.NDArray[np.bool_]) -> rules.Verdict:
    judged = which if verdict.judged is None else which & verdict.judged
    return rules.Verdict(np.asarray(verdict.holds) & which, np.asarray(verdict.significance, float), judged)
