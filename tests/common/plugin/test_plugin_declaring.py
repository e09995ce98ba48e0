"""What authors write: decorators, structs and what they yield; everything wrong is told where it is written."""

import itertools

import msgspec
import numpy as np
import pytest

from plugin_runs import write_plugin
from trapline.common.plugin.declare import PluginError, publishes, subscribes
from trapline.common.plugin.load import load_plugin
from trapline.common.testing.plugin import fake_lightcurves, fake_transient, step
from trapline.plugin import Column, Transients, transient
from trapline.schemas.columns import SchemaError

_channels = (f"channel{n}" for n in itertools.count())


class Said(msgspec.Struct):
    value: float
    words: list[str] = []


def test_filters_apply_before_the_function():
    seen = []

    @subscribes("lightcurves", band="60 MHz", region=(350.0, 52.9, 0.25))
    def look(event):
        seen.append(len(event["flux_int"]))

    near = fake_lightcurves(flux=[1.0, 2.0, 3.0, 4.0])  # at 350.0, 350.1, 350.2, 350.3 deg
    step(look, near, fake_lightcurves(flux=[1.0], band="150 MHz"), fake_lightcurves(flux=[1.0], objects=[90]))
    assert seen == [4]


def test_rows_outside_the_region_are_left_out():
    seen = []

    @subscribes("lightcurves", region=(350.0, 52.9, 0.1), kind="blind")
    def look(event):
        seen.append(event["flux_int"].tolist())

    step(look, fake_lightcurves(flux=[1.0, 2.0, 3.0, 4.0]))
    step(look, fake_lightcurves(flux=[1.0, 2.0], kind=[1, 0]))
    assert seen == [[1.0, 2.0], [2.0]]


def test_arrays_go_with_a_struct_and_numpy_numbers_are_numbers():
    @subscribes("transients", kind=["flare", "new_source"])
    @publishes("with_rows", Said, columns=(Column("flux", "f8", "flux", "Jy"),))
    def look(event):
        yield Said(np.float32(1.5), ["a"]), {"flux": np.arange(3.0)}
        yield Said(2)

    first, second = step(look, fake_transient(kind="flare"), fake_transient(kind="fade"))
    assert (first.value, first.words, first["flux"].tolist()) == (1.5, ["a"], [0.0, 1.0, 2.0])
    assert first.header.id != second.header.id
    assert first.header.schema == "plugin.with_rows/1.0"
    assert first.table().colnames == ["flux"] and str(first.table()["flux"].unit) == "Jy"


def test_the_same_input_gives_the_same_ids_and_functions_have_their_own():
    @subscribes("transients")
    @publishes("twice_a", Said)
    def one(event):
        return Said(1.0)

    assert step(one, fake_transient(3))[0].header.id == step(one, fake_transient(3))[0].header.id
    assert step(one, fake_transient(3))[0].header.id != step(one, fake_transient(4))[0].header.id


def test_a_built_in_message_goes_on_its_own_channel_or_on_another():
    @subscribes("lightcurves")
    @publishes("flares", Transients)
    def look(event):
        yield transient(event, 1, kind="flare", significance=np.float64(7.0), rule={"limit": 5})

    (event,) = step(look, fake_lightcurves(flux=[1.0, 9.0]))
    assert (event.place.channel, event.header.schema) == ("flares", "trapline.transients/1.0")
    assert (event.kind, event.flux_peak, event.ra_deg) == ("flare", 9.0, pytest.approx(350.1))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (Said("text"), r"\$\.value"),
        ([3], "published a int: yield a struct"),
        ([fake_transient().header], "published a Transients; it declared Said"),
        ((Said(1.0), {"flux": np.zeros(2, int)}), "'flux' is int64"),
    ],
    ids=["type", "no struct", "undeclared", "array"],
)
def test_what_was_not_declared_is_refused_with_what_is_wrong(result, words):
    @subscribes("transients")
    @publishes("refused", Said, columns=(Column("flux", "f8", "flux", "Jy"),))
    def look(event):
        return result

    with pytest.raises(SchemaError, match=words):
        step(look, fake_transient())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("@subscribes()\ndef f(e): ...", "name the channels"),
        ("@subscribes('a b')\ndef f(e): ...", "name the channels"),
        ("@subscribes('x', start='noon')\ndef f(e): ...", "not a start"),
        ("@subscribes('x', region=(1, 2))\ndef f(e): ...", "ra_deg, dec_deg, radius_deg"),
        ("@subscribes('x', state=NoDefault)\ndef f(e, s): ...", "needs a default"),
        ("@subscribes('x', state=Empty, group=True)\ndef f(e, s): ...", "a group keeps no state"),
        ("@subscribes('x')\n@publishes('y', int)\ndef f(e): ...", "not a msgspec.Struct"),
        ("@subscribes('x')\n@publishes('y', Clash)\ndef f(e): ...", "'id' of Clash is in every header"),
        ("@subscribes('x')\n@publishes('y', Empty, version='2')\ndef f(e): ...", "major.minor"),
        ("@subscribes('x')\n@publishes('../y', Empty)\ndef f(e): ...", "cannot be the name of a channel"),
        ("@publishes('y', Empty)\ndef f(e): ...", "nothing would call it"),
        ("@subscribes('x')\n@subscribes('y')\ndef f(e): ...", "twice"),
        ("def f(e): ...", "no function is decorated"),
        ("1 / 0", "ZeroDivisionError"),
        ("@subscribes('x')\ndef f(e): ...\n@subscribes('x', group=True)\ndef g(e): ...", "files of their own"),
    ],
)
def test_a_file_that_cannot_run_is_refused_with_its_place(tmp_path, code, words):
    text = f"""\
import msgspec
from trapline.plugin import publishes, subscribes
class NoDefault(msgspec.Struct):
    x: int
class Empty(msgspec.Struct):
    pass
class Clash(msgspec.Struct):
    id: int
{code}
"""
    path = write_plugin(tmp_path, text, "wrong")
    with pytest.raises(PluginError, match=words) as refusal:
        load_plugin(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("name", ["associator", "relay", "mesh", "-odd"])
def test_a_name_that_is_taken_is_refused(tmp_path, name):
    with pytest.raises(PluginError, match="has its file's name"):
        load_plugin(write_plugin(tmp_path, name=name))
