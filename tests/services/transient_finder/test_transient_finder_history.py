from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgpack
import numpy as np
import pytest

from finder_records import STARS, record
from trapline.common.runtime.snapshot import SnapshotError
from trapline.schemas.columns import DTYPES
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, step
from trapline.transient_finder.snapshot import dump, load


def night(records: int) -> list[Message[Lightcurves]]:
    """Return lightcurves of 60 objects, each seen now and then, some of which flare, with new sources among them."""
    rng = np.random.default_rng(17)
    made = []
    for number in range(records):
        stars = np.nonzero(rng.random(60) < 0.5)[0]
        flux = rng.normal(5, 0.1, len(stars)) + 20 * (rng.random(len(stars)) < 0.05)
        links = (rng.random(len(stars)) < 0.05).astype(np.uint8)
        limits: dict[str, Any] = {"limit_low": 4.0, "limit_high": 4.9, "n_earlier": number, "link": links}
        made.append(record(number, stars, flux, band=("60 MHz", "70 MHz")[number % 2], **limits))
    return made


@pytest.mark.parametrize(("capacity", "recent"), [(1, 20), (7, 3), (64, 1000), (500, 5), (100_000, 20)])
def test_recent_points_are_the_newest_of_those_kept(capacity: int, recent: int) -> None:
    settings = FinderConfig(history_points=capacity, recent_points=recent)
    state, events = FinderState(), 0
    kept: list[tuple[bytes, str, bytes]] = []
    seen = defaultdict[tuple[bytes, str], list[bytes]](list)
    for r in night(80):
        assert r.header.image is not None
        assert r.header.image.band is not None
        band = r.header.image.band.name
        for star, point in zip(r.arrays["object_id"], r.arrays["point_id"], strict=True):
            kept.append((star.tobytes(), band, point.tobytes()))
            seen[star.tobytes(), band].append(point.tobytes())
        alive = {point for *_, point in kept[-capacity:]}
        for message in step(state, r, settings).messages:
            points = seen[message.header.object_id, band][-recent:]
            found = [p.tobytes() for p in message.arrays["recent.point_id"]]
            assert found == [p for p in points if p in alive]
            events += 1
    assert events > 50
    (sky,) = state.skies.values()
    assert len(sky.ring.table) == min(capacity, len(kept))


def revived(state: FinderState) -> FinderState:
    """Return the state as it comes back from bytes."""
    header, arrays = dump(state)
    assert {array.dtype.str[1:] for array in arrays.values()} <= DTYPES
    read = {name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for name, array in arrays.items()}
    return load(msgpack.unpackb(msgpack.packb(header)), read)


@pytest.mark.parametrize("capacity", [50, 10_000])
def test_a_fold_continues_from_a_snapshot_bit_by_bit(capacity: int) -> None:
    settings = FinderConfig(history_points=capacity)
    straight, broken, events = FinderState(), FinderState(), 0
    for r in night(60):
        expected, found = step(straight, r, settings), step(broken, r, settings)
        assert [m.header for m in expected.messages] == [m.header for m in found.messages]
        for a, b in zip(expected.messages, found.messages, strict=True):
            assert {k: v.tobytes() for k, v in a.arrays.items()} == {k: v.tobytes() for k, v in b.arrays.items()}
        events += len(found.messages)
        broken = revived(broken)
    assert events > 30
    (header, arrays), (again, arrays_again) = dump(straight), dump(broken)
    assert header == again
    assert {k: v.tobytes() for k, v in arrays.items()} == {k: v.tobytes() for k, v in arrays_again.items()}


def test_a_snapshot_is_not_changed_by_what_comes_after() -> None:
    state = FinderState()
    for r in night(10):
        step(state, r, FinderConfig())
    _, arrays = dump(state)
    before = {name: array.tobytes() for name, array in arrays.items()}
    for r in night(20)[10:]:
        step(state, r, FinderConfig())
    assert {name: array.tobytes() for name, array in arrays.items()} == before


def test_an_empty_state_comes_back_empty() -> None:
    assert revived(FinderState()) == FinderState()


def test_what_is_no_snapshot_is_refused() -> None:
    state = FinderState()
    step(state, record(0, [1, 2]), FinderConfig())
    header, arrays = dump(state)
    with pytest.raises(SnapshotError, match=r"snapshot/7.*remove it"):
        load(header | {"version": "trapline.transient_finder.snapshot/7"}, arrays)
    for name in ("sky0.ring.t_us", "sky0.band0.mean", "sky0.object.n_blind"):
        with pytest.raises(SnapshotError, match=name):
            load(header, {k: v for k, v in arrays.items() if k != name})


def test_objects_are_told_apart_by_all_of_their_id() -> None:
    state = FinderState()
    step(state, record(0, range(200)), FinderConfig())
    step(state, record(1, [7, 199, 7 + 64]), FinderConfig())
    (sky,) = state.skies.values()
    history = sky.bands["60 MHz", "I"]
    assert [sky.objects.row_of[STARS[k]] for k in (0, 7, 199)] == [0, 7, 199]
    assert history.table.rows["n"][[7, 71, 199]].tolist() == [2, 2, 2]
    assert history.table.rows["n"].sum() == 203
