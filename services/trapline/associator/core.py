"""One input after another: an image with its sources, an answer to a request, or a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from trapline.associator.config import AssociatorConfig
from trapline.associator.folding import Taken, feature_columns, fold
from trapline.associator.forced import forced_points
from trapline.associator.measured import Measured, described, inspect
from trapline.associator.pairs import brought_along
from trapline.associator.requests import Request, pending_columns
from trapline.associator.state import AssociatorState, Sky
from trapline.associator.watching import changes, watchlist, whole
from trapline.common.ids import record_id
from trapline.schemas.columns import Array
from trapline.schemas.header import Header, Place
from trapline.schemas.image import Image
from trapline.schemas.images import Command
from trapline.schemas.lightcurves import POINTS, SCHEMA, Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.sources import COLUMNS, Sources

__all__ = ["AssociatorState", "Folded", "answer", "command", "give_up", "step", "whole_watchlist"]


class Folded(NamedTuple):
    """What came of one input."""

    messages: tuple[Message[Header], ...]
    """of `lightcurves` first, then of `watchlist` and `remeasure`"""
    dropped: dict[str, int]
    """sources that were not used, and inputs that came before, by reason"""


def step(
    state: AssociatorState,
    image: Image,
    sources: Message[Sources] | None,
    settings: AssociatorConfig,
    *,
    dataset: str = "default",
    passed_over: bool = False,
    sources_place: Place | None = None,
) -> Folded:
    """Fold one image into the state and return its record, what changed on the watchlist, and requests.

    Parameters
    ----------
    state
        Changed in place; when an error is raised it is as it was.
    image
        The image as `images` announced it. What `sources` says of it goes first.
    sources
        What was measured in it. None when there will be nothing: the image counts as folded, its record has no rows.
    dataset
        Of the image; that of `sources` goes first.
    passed_over
        Whether later images were folded because these sources were late: the record is marked late.
    sources_place
        Where the sources stand: requests name it.

    Raises
    ------
    ValueError
        When the image was measured and lacks what measuring takes, or `sources` is about another image.
    SchemaError
        When a column of `sources` is missing or of the wrong type.
    """
    if image.id in state.folded:
        return Folded((), {"repeated_image": 1})
    if sources is not None:
        image, dataset = described(image, sources), sources.header.dataset
    known = state.skies.get(dataset)
    late = passed_over or _is_older(image, known)
    measured = inspect(known, image, sources, settings, late=late, sources_place=sources_place, domain=state.domain)
    sky = known or Sky()
    taken = Taken.nothing() if measured is None else fold(sky, measured, settings)
    state.skies.setdefault(dataset, sky)
    state.remember(image.id, settings.remember_images)
    state.requests |= {request.id: request for request in taken.requests}
    header = _header(state, image, sources, measured, taken)
    header = msgspec.structs.replace(header, dataset=dataset, late=late)
    messages = _told(state, header, taken.arrays | pending_columns(taken.requests), taken.watchlist, image.id)
    asked = tuple(request.message() for request in taken.requests)
    return Folded((*messages, *asked), {} if measured is None else measured.dropped)


def _header(
    state: AssociatorState, image: Image, sources: Message[Sources] | None, measured: Measured | None, taken: Taken
) -> Lightcurves:
    """Return the header of the record of an image."""
    return Lightcurves(
        schema=SCHEMA,
        id=record_id(image.t_start_us or 0, SCHEMA, image.id, state.domain.salt),
        parents=[] if sources is None else [sources.header.id],
        trace=None if sources is None else sources.header.trace,
        image=msgspec.structs.replace(image, wcs=None),
        forks=taken.forks,
        inherited_bands=taken.inherited_bands,
        retired=[fork.parent for fork in taken.forks],
        limit_low=None if measured is None else measured.limit_flux("low"),
        limit_high=None if measured is None else measured.limit_flux("high"),
    )


def answer(state: AssociatorState, sources: Message[Sources], settings: AssociatorConfig) -> Folded:
    """Take the answer to a request, and return the record with its points.

    Raises
    ------
    SchemaError
        When a column is missing or of the wrong type; the state is as it was.
    """
    COLUMNS.check(sources.arrays)
    request = state.requests.get(sources.header.request or b"")
    if request is None:
        return _not_asked(state)
    found = brought_along(request.pairs, sources.arrays)
    columns = {name: array.copy() for name, array in request.not_measured().items()}
    for name, array in columns.items():
        array[found >= 0] = sources.arrays[name][found[found >= 0]]
    return _answered(state, request, columns, settings, parents=[sources.header.id])


def give_up(state: AssociatorState, request_id: bytes, settings: AssociatorConfig) -> Folded:
    """Take notice that a request will not be answered: its points are NaN."""
    request = state.requests.get(request_id)
    if request is None:
        return _not_asked(state)
    return _answered(state, request, request.not_measured(), settings, parents=[request_id])


def command(state: AssociatorState, record: bytes, asked: Command, settings: AssociatorConfig, dataset: str) -> Folded:
    """Take a command from `images`, and return the record that says so.

    Raises
    ------
    ValueError
        When it is unknown, or lacks a position; the state is as it was.
    """
    sky = state.skies.get(dataset) or Sky()
    if asked.name == "monitor_add":
        if asked.ra_deg is None or asked.dec_deg is None:
            raise ValueError("monitor_add names no position: ra_deg and dec_deg should be set")
        mine = state.domain.owns(np.array([asked.ra_deg]), np.array([asked.dec_deg])).all()
        rows = sky.monitor(asked.object_id, asked.ra_deg, asked.dec_deg) if mine else np.zeros(0, np.intp)
    elif asked.name == "monitor_remove":
        rows = sky.leave(asked.object_id)
    else:
        raise ValueError(f"unknown command {asked.name!r}: known are monitor_add and monitor_remove")
    state.skies.setdefault(dataset, sky)
    changed = changes(sky.catalogue.table.rows, rows, rows[:0], settings.expiration)
    id_ = record_id(0, SCHEMA, record, state.domain.salt)
    header = Lightcurves(schema=SCHEMA, id=id_, dataset=dataset, parents=[record], command=asked.name)
    return Folded(_told(state, header, POINTS.empty(), changed, record), {})


def whole_watchlist(state: AssociatorState, image: bytes) -> Message[Header]:
    """Return everything that is to be measured, as a record that follows the newest on `lightcurves`."""
    parts = [whole(sky.catalogue.table.rows) for sky in state.skies.values()] or [whole(Sky().catalogue.table.rows)]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return watchlist(max(state.told - 1, 0), image, "default", arrays, full=True, salt=state.domain.salt)


def _not_asked(state: AssociatorState) -> Folded:
    """Return what comes of an answer that is not waited for: nothing. Of several associators each gets all answers."""
    return Folded((), {"repeated_answer": 1} if state.domain.is_whole else {})


def _answered(
    state: AssociatorState,
    request: Request,
    columns: Mapping[str, Array],
    settings: AssociatorConfig,
    parents: list[bytes],
) -> Folded:
    of, sky = request.of, state.skies[request.dataset]
    t_us, band = of.image.t_start_us or 0, (of.image.band.name if of.image.band else "", of.image.stokes or "")
    points, states, changed = forced_points(sky, band, t_us, request.pairs, columns, settings)
    del state.requests[request.id]
    header = Lightcurves(
        schema=SCHEMA,
        id=record_id(t_us, SCHEMA, of.image.id, request.id),
        dataset=request.dataset,
        parents=parents,
        image=of.image,
        request=request.id,
    )
    arrays = points | states | feature_columns(sky, band, changed, settings)
    return Folded(_told(state, header, arrays, {}, of.image.id), {})


def _told(
    state: AssociatorState, header: Lightcurves, arrays: Mapping[str, Array], changed: dict[str, Array], cause: bytes
) -> tuple[Message[Header], ...]:
    """Return a record of `lightcurves`, and what changed on the watchlist with it."""
    version, state.told = state.told, state.told + 1
    record: Message[Header] = Message(header, arrays)
    if not len(changed.get("kind", ())):
        return (record,)
    return record, watchlist(version, cause, header.dataset, changed, full=False, salt=state.domain.salt)


def _is_older(image: Image, sky: Sky | None) -> bool:
    known = sky is not None and image.t_start_us is not None and sky.watermark_us is not None
    return known and image.t_start_us < sky.watermark_us  # type: ignore[operator, union-attr]
