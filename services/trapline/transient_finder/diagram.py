"""The diagnostic plot of variability: V against eta of all objects, with the fits and what is unusual by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trapline.common.config import ConfigError
from trapline.schemas.columns import array_to_ids
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.history import BandHistory, after_point
from trapline.transient_finder.judging import thresholds_of
from trapline.transient_finder.state import BandKey, FinderState

Float = npt.NDArray[np.float64]


class BandVariability(NamedTuple):
    """Objects of a band with enough points, and what is unusual among them."""

    band: str
    object_ids: list[bytes]
    v: Float
    eta: Float
    flux_mean: Float
    v_threshold: float
    eta_threshold: float
    fits: tuple[tuple[float, float], tuple[float, float]]
    """(mean, sigma) of log10 V and of log10 eta"""

    def as_dict(self) -> dict[str, Any]:
        """Return the thresholds and fits as plain values, without the objects."""
        (v_mean, v_sigma), (eta_mean, eta_sigma) = self.fits
        unusual = int(((self.v > self.v_threshold) & (self.eta > self.eta_threshold)).sum())
        return {
            "band": self.band, "objects": len(self.v), "variable": unusual,
            "v_threshold": self.v_threshold, "eta_threshold": self.eta_threshold,
            "log_v_mean": _number(v_mean), "log_v_sigma": _number(v_sigma),
            "log_eta_mean": _number(eta_mean), "log_eta_sigma": _number(eta_sigma),
        }  # fmt: skip


def variability_of(state: FinderState, settings: FinderConfig) -> list[BandVariability]:
    """Return the variability in each band of each sky, as the finder knows it."""
    return [
        _band(key, history, sky.objects.table.rows["object_id"], settings)
        for sky in state.skies.values()
        for key, history in sky.bands.items()
    ]


def _band(key: BandKey, history: BandHistory, ids: npt.NDArray[Any], settings: FinderConfig) -> BandVariability:
    rows = history.table.rows[history.table.rows["v_bin"] > 0]
    known = after_point(rows)
    limits = {name: float(column[0]) for name, column in thresholds_of(history.population, settings, 1).items()}
    v_fit, eta_fit = history.population.fits()
    name = " ".join(filter(None, key))
    objects = array_to_ids(ids[rows["object"]])
    return BandVariability(
        name, objects, known["v_now"], known["eta_now"], rows["mean"].copy(), **limits, fits=(v_fit, eta_fit)
    )


def draw(bands: list[BandVariability], path: Path) -> None:
    """Draw V against eta with the histograms of both, one row of panels per band, into a PNG file.

    Raises
    ------
    ConfigError
        When matplotlib is not installed, or there is nothing to draw.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("drawing takes matplotlib: pip install 'trapline[science]'") from None
    bands = [band for band in bands if len(band.v)]
    if not bands:
        raise ConfigError("no object has enough points (variable_min_points) to be drawn")
    figure = Figure(figsize=(12, 4 * len(bands)), layout="constrained")
    for number, band in enumerate(bands):
        scatter, v_axes, eta_axes = (figure.add_subplot(len(bands), 3, 3 * number + k) for k in (1, 2, 3))
        _scatter(scatter, band)
        _histogram(v_axes, band.v, band.fits[0], band.v_threshold, "V")
        _histogram(eta_axes, band.eta, band.fits[1], band.eta_threshold, "eta")
    figure.savefig(path, dpi=100)


def _scatter(axes: Any, band: BandVariability) -> None:
    unusual = (band.v > band.v_threshold) & (band.eta > band.eta_threshold)
    for which, colour, name in ((~unusual, "tab:gray", "steady"), (unusual, "tab:red", "variable")):
        axes.plot(band.v[which], band.eta[which], ".", color=colour, label=f"{which.sum()} {name}")
    axes.axvline(band.v_threshold, color="k", lw=0.8, ls="--")
    axes.axhline(band.eta_threshold, color="k", lw=0.8, ls="--")
    axes.set(xscale="log", yscale="log", xlabel="V", ylabel="eta", title=f"{band.band}: {len(band.v)} objects")
    axes.legend(loc="upper left", fontsize="small")


def _histogram(axes: Any, values: Float, fit: tuple[float, float], threshold: float, name: str) -> None:
    x = np.log10(values[values > 0])
    mean, sigma = fit
    axes.hist(x, bins=40, color="tab:gray")
    if np.isfinite(sigma) and len(x):
        at = np.linspace(min(x.min(), mean - 4 * sigma), max(x.max(), mean + 4 * sigma), 300)
        width = max(float(np.ptp(x)) / 40, 1e-9)
        curve = len(x) * width / (sigma * np.sqrt(2 * np.pi)) * np.exp(-((at - mean) ** 2) / (2 * sigma**2))
        axes.plot(at, curve, color="tab:blue", lw=1, label=f"mean {mean:.2f}, sigma {sigma:.2f}")
    axes.axvline(np.log10(threshold), color="k", lw=0.8, ls="--", label=f"{name} > {threshold:.3g}")
    axes.set(xlabel=f"log10 {name}", ylabel="objects")
    axes.legend(fontsize="small")


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
