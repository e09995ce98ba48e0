"""Forced points: values at objects that no blind source matched, at monitored positions, and back in time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from trapline.associator.config import AssociatorConfig
from trapline.associator.coverage import Band
from trapline.associator.intake import measurable
from trapline.associator.pairs import Pairs
from trapline.associator.rows import Outcome, point_columns, state_columns
from trapline.associator.state import Sky
from trapline.associator.statistics import BandStatistics
from trapline.common.ids import point_id
from trapline.common.table import Rows
from trapline.schemas.columns import Array, Kind, Link, array_to_ids, ids_to_array

RowNumbers = npt.NDArray[np.intp]


def forced_points(
    sky: Sky, band: Band, t_us: int, pairs: Pairs, measured: Mapping[str, Rows], settings: AssociatorConfig
) -> tuple[dict[str, Array], dict[str, Array], RowNumbers]:
    """Take in forced values; return the columns of their points, of the states that changed, and the rows of these.

    A value of an object that has forked since counts for all that it became. One that is NaN is a point, and enters no
    statistics.

    Parameters
    ----------
    sky
        Its statistics change.
    band, t_us
        Of the image.
    pairs
        What was asked for, each object once.
    measured
        Columns of `sources`, a row per pair.
    """
    statistics = sky.bands.setdefault(band, BandStatistics())
    objects = sky.catalogue.table.rows
    counts = measurable(measured["flux_int"], measured["flux_int_err"]) & settings.forced_statistics
    _see_monitored(objects, pairs, t_us)
    rows, of_pair = _inheritors(sky, pairs.rows[counts], np.nonzero(counts)[0])
    statistics.add(rows, measured["flux_int"][of_pair], measured["flux_int_err"][of_pair], blind=False, t_us=t_us)
    ids = zip(array_to_ids(pairs.object_id), array_to_ids(measured["source_id"]), strict=True)
    points = ids_to_array(point_id(t_us, object_, source) for object_, source in ids)
    if settings.features:
        fluxes = measured["flux_int"][of_pair], measured["flux_int_err"][of_pair]
        sky.keep(band, rows, t_us, points[of_pair], fluxes, settings.history_points)
    outcome = Outcome(
        measured=measured,
        kind=pairs.kind,
        link=np.where(pairs.kind == Kind.MONITORED, Link.MONITORED, Link.FORCED).astype(np.uint8),
        point_ids=points,
        objects=objects[pairs.rows],
        statistics=statistics.look(pairs.rows),
        deruiter=np.full(len(pairs), np.nan),
        misses=pairs.misses,
    )
    changed = np.unique(rows)
    return point_columns(outcome), state_columns(objects[changed], statistics.look(changed)), changed


def _inheritors(sky: Sky, rows: RowNumbers, of_pair: RowNumbers) -> tuple[RowNumbers, RowNumbers]:
    """Return the rows that values count for, and which value each."""
    retired = sky.catalogue.table.rows["retired"][rows] != 0
    heirs, values = [rows[~retired]], [of_pair[~retired]]
    for row, value in zip(rows[retired].tolist(), of_pair[retired].tolist(), strict=True):
        family = sky.catalogue.descendants(row)
        heirs.append(np.array(family, np.intp))
        values.append(np.full(len(family), value, np.intp))
    return np.concatenate(heirs), np.concatenate(values)


def _see_monitored(objects: npt.NDArray[np.void], pairs: Pairs, t_us: int) -> None:
    """Note the first image of a monitored position."""
    first = pairs.rows[(pairs.kind == Kind.MONITORED) & (objects["n_blind"][pairs.rows] == 0)]
    unseen = first[objects["first_seen_us"][first] == 0]
    objects["first_seen_us"][unseen] = t_us
