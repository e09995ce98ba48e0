"""A picture of a lightcurve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_MISSING = "plots need matplotlib: pip install 'trapline[science]'"


def plot_lightcurve(series: Any, path: Path | None = None) -> Any:
    """Draw the integrated flux of a `TimeSeries` of `open_store` over time, and return matplotlib's figure.

    Detections are filled and joined where there is no gap, forced measurements open, upper limits arrows; what was
    inherited from an ancestor is pale.

    Parameters
    ----------
    series
        Of `lightcurve`.
    path
        File to write: .png, .pdf, .svg; None writes none.

    Raises
    ------
    ValueError
        When matplotlib is not installed, or does not know the file's ending.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError(_MISSING) from None
    # Without pyplot: no window, no state that other figures share.
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for number, band in enumerate(np.unique(np.asarray(series["band"]))):
        _draw_band(axes, series[np.asarray(series["band"]) == band], str(band), f"C{number % 10}")
    _label(axes, series)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _draw_band(axes: Any, rows: Any, band: str, colour: str) -> None:
    times, flux, error = rows.time.datetime64, _plain(rows["flux_int"]), _plain(rows["flux_int_err"])
    limit, limits, forced = np.asarray(rows["is_limit"]), _plain(rows["upper_limit"]), np.asarray(rows["forced"])
    inherited = np.asarray(rows["inherited"])
    bars: dict[str, Any] = {"linestyle": "none", "color": colour, "elinewidth": 0.8, "markersize": 4}
    shown = ~limit & np.isfinite(flux)
    breaks = np.flatnonzero(np.asarray(rows["gap"])[shown])
    axes.plot(np.insert(times[shown], breaks, np.datetime64("NaT")), np.insert(flux[shown], breaks, np.nan),
              color=colour, linewidth=0.7, alpha=0.5)  # fmt: skip
    label = band
    for chosen, face in ((shown & ~forced, colour), (shown & forced, "white")):
        for part, alpha in ((chosen & ~inherited, 1.0), (chosen & inherited, 0.4)):
            if part.any():
                axes.errorbar(times[part], flux[part], error[part], fmt="o", markerfacecolor=face, alpha=alpha,
                              label=label, **bars)  # fmt: skip
                label = "_nolegend_"
    if limit.any():
        axes.plot(times[limit], limits[limit], "v", color=colour, markersize=4, alpha=0.6, markerfacecolor="none",
                  label="_nolegend_" if shown.any() else band)  # fmt: skip


def _label(axes: Any, series: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    unit = getattr(series["flux_int"], "unit", None)
    axes.set_ylabel(f"integrated flux ({unit})" if unit else "integrated flux")
    axes.set_xlabel("start of the image (UTC)")
    axes.grid(alpha=0.2)
    axes.set_title(f"{series.meta.get('object', '')}   filled: detected, open: forced, v: upper limit", fontsize=9)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False)
    times = series.time.datetime64
    if len(times) and times[0] == times[-1]:
        minute = np.timedelta64(1, "m")  # without a range of their own, dates are drawn over years
        axes.set_xlim(times[0] - minute, times[0] + minute)
    locator = AutoDateLocator()
    axes.xaxis.set(major_locator=locator, major_formatter=ConciseDateFormatter(locator))


def _plain(column: Any) -> Any:
    return np.asarray(getattr(column, "value", column), float)
