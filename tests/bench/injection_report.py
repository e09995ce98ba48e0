"""What was found of injected transients, as a table and a plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bench.injection_fields import PLACES, Injection
from bench.report import RESULTS

_EDGES = np.array([5, 7, 8, 9, 10, 11, 12, 15, 20, 30, 50, 100.0])


@dataclass(slots=True)
class Found:
    """What was said of an injection: after how many images, and what kept it back in the first."""

    injection: Injection
    images: int | None = None
    """0 when it was announced in the first; None: never"""
    veto: str | None = None

    @property
    def bare(self) -> bool:
        """Whether neither a veto nor the light of a neighbour covers it."""
        return self.injection.covered is None and self.veto is None

    @property
    def free(self) -> bool:
        """Whether it must be found at once: it is strong, and nothing covers it."""
        return self.injection.strong and self.bare

    def note(self, frame: int, veto: str | None) -> None:
        """Take notice of an event about it."""
        late = frame - self.injection.first
        if veto is None:
            self.images = late if self.images is None else min(late, self.images)
        elif late == 0:
            self.veto = veto


def table(found: Sequence[Found], places: Sequence[str]) -> dict[str, str]:
    """Return a line per place: how many were strong, covered and by what, recovered at once, later, or never."""
    return {place: _line([f for f in found if f.injection.place == place]) for place in places}


def _line(found: list[Found]) -> str:
    strong, free = [f for f in found if f.injection.strong], [f for f in found if f.free]
    at_once, later = (sum(f.images == 0 for f in free), sum((f.images or 0) > 0 for f in free))
    fraction = f"{at_once / len(free):.4f}" if free else "-"
    return (
        f"{len(found)} injected, {len(strong)} strong, covered: {_covered(strong)}; of the other {len(free)} "
        f"at once {at_once} ({fraction}), later {later}, never {len(free) - at_once - later}"
    )


def _covered(strong: list[Found]) -> str:
    """Return by what strong ones are covered, how many of these were announced all the same, and which vetoes err."""
    reasons = Counter(f.injection.covered for f in strong if f.injection.covered)
    announced = Counter(f.injection.covered for f in strong if f.injection.covered and f.images == 0)
    texts = [f"{count} {why} ({announced[why]} announced)" for why, count in sorted(reasons.items())]
    texts += [f"{count} {why} by the finder alone" for why, count in sorted(_by_finder_alone(strong).items())]
    return ", ".join(texts) or "none"


def _by_finder_alone(strong: list[Found]) -> Counter[str]:
    return Counter(f.veto for f in strong if f.veto and not f.injection.covered)


def draw(found: Sequence[Found], directory: Path = RESULTS) -> Path:
    """Draw the recovered fraction of what nothing covers against the true SNR, by place and by duration; say where."""
    directory.mkdir(exist_ok=True)
    found = [f for f in found if f.bare]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place in PLACES:
        _curve(left, [f for f in found if f.injection.place == place], place)
    left.set(title="announced in the first image, by place", ylabel="recovered fraction")
    for duration in sorted({f.injection.duration for f in found}):
        chosen = [f for f in found if f.injection.duration == duration and f.injection.place == "field"]
        _curve(right, chosen, f"{duration} images", at_once=False)
    right.set(title="announced at all, in the open field, by duration")
    for axes in (left, right):
        axes.axvline(12, color="k", lw=0.8, ls=":")
        axes.set(xscale="log", xlabel="true peak over local noise", ylim=(-0.03, 1.05))
        axes.set_xticks([5, 8, 12, 20, 50, 100], ["5", "8", "12", "20", "50", "100"])
        axes.minorticks_off()
        axes.legend(fontsize="small", loc="lower right")
    path = directory / "injection.png"
    figure.savefig(path, dpi=80)
    return path


def _curve(axes: object, found: list[Found], label: str, *, at_once: bool = True) -> None:
    snr = np.array([f.injection.snr for f in found])
    good = np.array([f.images == 0 if at_once else f.images is not None for f in found], float)
    which = np.digitize(snr, _EDGES) - 1
    bins = [b for b in range(len(_EDGES) - 1) if (which == b).any()]
    centre = [float(np.sqrt(_EDGES[b] * _EDGES[b + 1])) for b in bins]
    fraction = [good[which == b].mean() for b in bins]
    error = [np.sqrt(max(p * (1 - p), 0.25 / 9) / (which == b).sum()) for p, b in zip(fraction, bins, strict=True)]
    axes.errorbar(centre, fraction, error, marker="o", ms=3, lw=1, capsize=2, label=f"{label} ({len(found)})")  # type: ignore[attr-defined]
