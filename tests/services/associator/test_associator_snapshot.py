from __future__ import annotations

import msgpack
import numpy as np
import pytest

from associator_images import image, sources
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, step
from trapline.associator.snapshot import dump, load
from trapline.common.runtime.snapshot import SnapshotError
from trapline.schemas.columns import DTYPES, Arrays
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources

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
    return [step(state, record.header.image, record, SETTINGS).messages[0].arrays for record in records]


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
    with pytest.raises(SnapshotError, match=r"'trapline.associator.snapshot/9'.*remove it"):
        load(header | {"version": "trapline.associator.snapshot/9"}, arrays)
    with pytest.raises(SnapshotError, match="None"):
        load({}, {})


@pytest.mark.parametrize(
    "name", ["folded", "0.objects.ra_deg", "0.band0.mean", "0.layer0.open.low", "0.layer0.pages.n"]
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
