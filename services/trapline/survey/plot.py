"""Pictures of a survey: is a visit as fast at the end as at the begin, and what was in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from trapline.survey.report import STEPS
from trapline.survey.visitlog import VisitRow

_MISSING = "plots need matplotlib: pip install 'trapline[science]'"


def draw(runs: Mapping[str, Sequence[VisitRow]], path: Path | BinaryIO) -> None:
    """Draw the seconds of each step, and the rows of each visit, against the visits before it; one colour a step.

    Parameters
    ----------
    runs
        Visits by the name of their run: the first with solid lines, others dashed.
    path
        The picture; its ending says the format. Or an open file, which gets an SVG.

    Raises
    ------
    ValueError
        When matplotlib is not installed, or does not know the ending.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError(_MISSING) from None
    figure = Figure(figsize=(9, 8), layout="constrained")
    seconds, rows = figure.subplots(2, 1, sharex=True)
    for number, (name, visits) in enumerate(runs.items()):
        style = {"linestyle": "-" if number == 0 else "--", "linewidth": 1.2}
        suffix = f" ({name})" if len(runs) > 1 else ""
        _lines(seconds, visits, STEPS, suffix, style)
        _lines(rows, visits, ("detections", "objects", "history", "forced", "alerts"), suffix, style)
    seconds.set_ylabel("seconds per visit")
    rows.set_ylabel("rows per visit")
    rows.set_xlabel("visits stored before")
    for axes in (seconds, rows):
        axes.set_yscale("log")
        axes.grid(visible=True, alpha=0.3)
        if axes.lines:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small", frameon=False)
    if isinstance(path, Path):
        figure.savefig(path, dpi=120)
    else:
        figure.savefig(path, format="svg")


def _lines(axes: Any, visits: Sequence[VisitRow], names: Sequence[str], suffix: str, style: Mapping[str, Any]) -> None:
    for k, name in enumerate(names):
        # Zero and NaN have no place on a logarithmic axis.
        points = [(row.visit, value) for row in visits if (value := getattr(row, name)) > 0]
        if points:
            axes.plot(*zip(*points, strict=True), color=f"C{k}", label=name.removesuffix("_s") + suffix, **style)
