"""What keeps a point from alarming anyone, whatever the rules say: small functions on columns, as the rules are.

They see, besides the columns of `lightcurves`:

- `amplitude`: by how much the flux changed: from the object's mean, or from nothing for a new source
- `neighbour_peak`: peak of the brightest blind source within `side_lobe_beams` of the object in the image
- `n_new`: new sources that the image would announce
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trapline.common.sky import separation_deg
from trapline.schemas.columns import Flag, Kind
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.points import Columns, Context

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]

UNCONFIRMED = "unconfirmed"
"""no blind match in another band of the step: known only when the step is finished"""


class Veto(NamedTuple):
    """A function on columns, and which kinds of events it concerns: some, or all but some."""

    name: str
    holds: Callable[[Columns, FinderConfig], Bool]
    kinds: frozenset[str] = frozenset()
    """empty: all"""
    but: frozenset[str] = frozenset()

    def concerns(self, kind: str) -> bool:
        """Return whether it is asked about events of a kind."""
        return kind not in self.but and (not self.kinds or kind in self.kinds)


def near_edge(points: Columns, settings: FinderConfig) -> Bool:  # noqa: ARG001  every veto has this form
    """Return points measured with pixels beyond the edge of the image or its region."""
    return np.asarray((points["flags"] & Flag.NEAR_EDGE) != 0)


def negative(points: Columns, settings: FinderConfig) -> Bool:  # noqa: ARG001
    """Return points that are holes in the image."""
    return np.asarray((points["flags"] & Flag.NEGATIVE) != 0)


def near_bright(points: Columns, settings: FinderConfig) -> Bool:
    """Return points that the side lobes of a bright source explain: flagged so, or too faint a change beside one."""
    lobe = points["neighbour_peak"] > settings.side_lobe_ratio * points["amplitude"]
    return np.asarray(((points["flags"] & Flag.NEAR_BRIGHT) != 0) | lobe)


def bad_region(points: Columns, settings: FinderConfig) -> Bool:
    """Return points in regions that are known to be bad."""
    held = np.zeros(len(points["flags"]), bool)
    for region in settings.bad_regions:
        separation = separation_deg(points["object_ra_deg"], points["object_dec_deg"], region.ra_deg, region.dec_deg)
        held |= separation <= region.radius_deg
    return held


def elongated(points: Columns, settings: FinderConfig) -> Bool:
    """Return blind points that are wider than a point source can be: a plane, an extended source, a bad image."""
    ratio, excess_err = settings.elongated_ratio, np.hypot(points["flux_int_err"], points["flux_peak_err"])
    with np.errstate(invalid="ignore"):
        wide = points["flux_int"] - ratio * points["flux_peak"] > 3.0 * excess_err
    flagged = (points["flags"] & Flag.EXTENDED) != 0
    return np.asarray((points["kind"] == Kind.BLIND) & (flagged | wide))


def bad_image(points: Columns, settings: FinderConfig) -> Bool:
    """Return new sources of images that would announce too many."""
    return np.asarray(points["n_new"] > settings.bad_image_new_sources)


_APPEARING = frozenset({"new_source", "returned"})
_LASTING = frozenset({"variable", "disappeared"})
VETOES = (
    Veto("bad_image", bad_image, kinds=frozenset({"new_source"})),
    Veto("near_edge", near_edge),
    Veto("negative", negative),
    Veto("bad_region", bad_region),
    Veto("near_bright", near_bright, but=_LASTING),
    Veto("elongated", elongated, kinds=_APPEARING),
)
"""in this order: the first that holds is the reason"""


def first_vetoes(
    kind: str, candidates: Columns, context: Context, settings: FinderConfig, n_new: int = 0
) -> list[str | None]:
    """Return the veto that keeps back each of some events of a kind, None where none does.

    Parameters
    ----------
    candidates
        Columns of `lightcurves` of the points that caused them, and `amplitude`.
    context
        Their image.
    n_new
        New sources that it would announce.
    """
    count = len(candidates["flags"])
    columns: dict[str, npt.NDArray[Any]] = {
        **candidates,
        "neighbour_peak": neighbour_peaks(candidates, context, settings.side_lobe_beams),
        "n_new": np.full(count, n_new),
    }
    names: list[str | None] = [None] * count
    for veto in VETOES:
        if veto.concerns(kind):
            for row in np.nonzero(veto.holds(columns, settings))[0].tolist():
                names[row] = names[row] or veto.name
    return names


def neighbour_peaks(points: Columns, context: Context, beams: float) -> Float:
    """Return the peak of the brightest other blind source about each point; 0 without a beam or a neighbour."""
    beam = context.image.beam
    found = np.zeros(len(points["flags"]))
    if beam is None or not context.bright or not len(found):
        return found
    ra, dec, peak = np.array(context.bright).T
    separation = separation_deg(points["object_ra_deg"][:, None], points["object_dec_deg"][:, None], ra, dec)
    near = (separation > beam.major_deg / 2) & (separation < beams * beam.major_deg)
    return np.asarray(np.where(near, peak, 0.0).max(axis=1))
