from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from associator_images import brought_along, image, record_of, sources
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, answer, command, step
from trapline.associator.snapshot import dump, load
from trapline.common.runtime.snapshot import SnapshotError
from trapline.schemas.columns import DTYPES, Arrays, Kind
from trapline.schemas.header import Place
from trapline.schemas.images import Command
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources
from trapline.schemas.watchlist import Remeasure

SETTINGS = AssociatorConfig(open_pointings=2)


def night(images: int) -> list[Message[Sources]]:
    """Return a drifting field in two bands and two datasets, crossing RA 0, with noise that founds objects."""
    rng = np.random.default_rng(14)
    stars = rng.uniform(-0.6, 0.6, (2, 30))
    records = []
    for number in range(images):
        of = image(number, ra_deg=359.9 + 0.05 * (number % 7), dec_deg=20.0, band=("60 MHz", "70 MHz")[number % 2])
        ra = np.concatenate([stars[0] + rng.normal(0, 0.01, 30), rng.uniform(-0.6, 0.6, 3)])
        dec = np.concatenate([stars[1] + rng.normal(0, 0.01, 30), rng.uniform(-0.6, 0.6, 3)])
        dataset = "default" if number % 5 else "other"
        records.append(sources(of, ra % 360, 20 + dec, rng.normal(5, 1, 33), dataset=dataset))
    return records


def fold(state: AssociatorState, records: list[Message[Sources]]) -> list[Arrays]:
    return [messages(state, record)[0].arrays for record in records]


def messages(state: AssociatorState, record: Message[Sources]) -> tuple[Message[Any], ...]:
    place = Place("sources", "1", 0, state.told)
    return step(state, record.header.image, record, SETTINGS, sources_place=place).messages


def revived(state: AssociatorState) -> AssociatorState:
    """Return the state as it comes back from bytes."""
    header, arrays = dump(state)
    frames = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}
    read = {name: np.frombuffer(data, dtype).reshape(shape) for name, (dtype, shape, data) in frames.items()}
    return load(msgpack.unpackb(msgpack.packb(header)), read)


def test_a_fold_continues_from_a_snapshot_bit_by_bit() -> None:
    records = night(40)
    straight, broken = AssociatorState(), AssociatorState()
    for number, (a, b) in enumerate(zip(records, records, strict=True)):
        expected, found = fold(straight, [a])[0], fold(broken, [b])[0]
        assert {k: v.tobytes() for k, v in expected.items()} == {k: v.tobytes() for k, v in found.items()}, number
        broken = revived(broken)
    assert broken.folded == straight.folded
    assert step(broken, records[0].header.image, records[0], SETTINGS).messages == ()
    (header, arrays), (again, arrays_again) = dump(straight), dump(broken)
    assert header == again
    assert {k: v.tobytes() for k, v in arrays.items()} == {k: v.tobytes() for k, v in arrays_again.items()}


def test_requests_that_are_open_are_answered_after_a_restart_as_before() -> None:
    straight = AssociatorState()
    command(straight, b"a" * 16, Command("monitor_add", b"m" * 16, 0.1, 20.1), SETTINGS, "default")
    asked = [m for record in night(12) for m in messages(straight, record) if isinstance(m.header, Remeasure)]
    broken = revived(straight)
    assert list(broken.requests) == list(straight.requests) == [m.header.id for m in asked]
    assert sorted(broken.needs()) == sorted(straight.needs())
    for number, request in enumerate(asked):
        of = image(request.header.image_place.seq, band=("60 MHz", "70 MHz")[request.header.image_place.seq % 2])
        reply = brought_along(of, request, flux=float(number % 7))
        a, b = (record_of(answer(state, reply, SETTINGS)) for state in (straight, broken))
        assert a.header == b.header
        assert {k: v.tobytes() for k, v in a.arrays.items()} == {k: v.tobytes() for k, v in b.arrays.items()}
    assert broken.requests == {}
    assert (broken.skies["default"].monitored, broken.told) == ({b"m" * 16: 0}, straight.told)


def test_a_snapshot_of_version_1_is_brought_up_to_date() -> None:
    state, plain = AssociatorState(), AssociatorConfig(open_pointings=2, method="nearest")
    for record in night(8):
        step(state, record.header.image, record, plain)
    header, arrays = dump(state)
    known = ("object_id", "first_ra_deg", "first_dec_deg", "weight_ew", "weight_ns", "east_deg", "north_deg", "ra_deg",
             "dec_deg", "n_blind", "first_seen_us")  # fmt: skip
    old = {k: v for k, v in arrays.items() if ".objects." not in k or "band" in k or k.split(".")[-1] in known}
    old = {k: v for k, v in old.items() if not k.startswith("requests.")}
    skies = [{k: v for k, v in sky.items() if k != "recent"} for sky in header["skies"]]
    migrated = load({"version": "trapline.associator.snapshot/1", "skies": skies}, old)
    a, b = (len(s.skies["default"].catalogue) for s in (state, migrated))
    assert a == b
    record = night(9)[-1]
    found, expected = (record_of(step(s, record.header.image, record, plain)).arrays for s in (migrated, state))
    blind = [arrays["kind"] == Kind.BLIND for arrays in (found, expected)]
    for name in ("point_id", "object_id", "link", "n", "flux_mean", "object_ra_deg"):
        assert found[name][blind[0]].tobytes() == expected[name][blind[1]].tobytes(), name
    assert dump(migrated)[0]["version"] == header["version"]


def test_the_arrays_are_of_types_that_travel_and_are_copies() -> None:
    state = AssociatorState()
    records = night(20)
    fold(state, records[:10])
    header, arrays = dump(state)
    before = {name: array.tobytes() for name, array in arrays.items()}
    fold(state, records[10:])
    assert {array.dtype.str[1:] for array in arrays.values()} <= DTYPES
    assert {name: array.tobytes() for name, array in arrays.items()} == before
    assert [sky["dataset"] for sky in header["skies"]] == ["other", "default"]


def test_an_empty_state_comes_back_empty() -> None:
    assert revived(AssociatorState()) == AssociatorState()


def test_another_version_is_refused_with_the_way_out() -> None:
    header, arrays = dump(AssociatorState())
    with pytest.raises(SnapshotError, match=r"'trapline.associator.snapshot/9'.*trapline associator rebuild"):
        load(header | {"version": "trapline.associator.snapshot/9"}, arrays)
    with pytest.raises(SnapshotError, match="None"):
        load({}, {})


@pytest.mark.parametrize(
    "name", ["folded", "0.objects.ra_deg", "0.band0.mean", "0.layer0.open.low", "0.layer0.pages.n", "requests.row"]
)
def test_a_snapshot_with_something_missing_or_wrong_is_refused(name: str) -> None:
    state = AssociatorState()
    fold(state, night(8))
    header, arrays = dump(state)
    del arrays[name]
    with pytest.raises(SnapshotError, match="damaged"):
        load(header, arrays)
    _, arrays = dump(state)
    with pytest.raises(SnapshotError, match="damaged"):
        load(header, arrays | {name: arrays[name].reshape(-1)[:-1].astype("f4")})
