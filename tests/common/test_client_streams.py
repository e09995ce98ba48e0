"""Streams of the client: merged by time, filtered before arrays travel, as tables; and everything that may be wrong."""

import itertools

import msgspec
import numpy as np
import pytest

from common_security import secured
from plugin_runs import Journals
from trapline.client import NewerSchemaError, RelayRefusedError, UnknownChannelError, connect, connect_async
from trapline.common.testing.plugin import fake_event, fake_lightcurves, fake_transient
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.examples import example_image, example_messages
from trapline.schemas.image import Band
from trapline.schemas.images import Images
from trapline.schemas.message import Message, encode

IMAGE = next(m for m in example_messages() if isinstance(m.header, Images))


@pytest.fixture
def config(tmp_path):
    return mesh_config(tmp_path)


@pytest.fixture
def relay(config):
    with running_relay(config) as server:
        yield server


@pytest.fixture
def journals(config):
    written = Journals(config.journal_directory)
    yield written
    written.close()


def pixels(number, band, size=400):
    header = msgspec.structs.replace(IMAGE.header, id=number.to_bytes(16, "big"))
    header.image = msgspec.structs.replace(example_image(), band=Band(band), shape=(size, size))
    return Message(header, {"pixels": np.full((size, size), number, np.float32)})


def first(mesh, count, *channels, **options):
    return list(itertools.islice(mesh.subscribe(*channels, start="first", **options), count))


def test_channels_and_partitions_are_merged_in_the_order_in_which_they_were_appended(relay, journals):
    random = np.random.default_rng(5)
    for number in range(300):
        # Large and small records, several partitions, some of them silent for long.
        if random.random() < 0.1:
            journals.append(pixels(number, "a"), partition=str(number % 2))
        else:
            journals.append(fake_transient(number), partition=str(random.integers(3)))
    with connect(relay.address) as mesh:
        events = first(mesh, 300, "images", "transients")
    times = [event.record.t_us for event in events]
    assert times == sorted(times)
    assert len({event.place for event in events}) == 300


def test_what_comes_later_follows_what_was_there(relay, journals):
    journals.append(fake_transient(0))
    with connect(relay.address) as mesh:
        stream = mesh.subscribe("transients", "images", start="first")
        seen = [next(stream).place.channel]
        journals.append(pixels(1, "a"))
        seen.append(next(stream).place.channel)
        journals.append(fake_transient(2))
        seen.append(next(stream).place.channel)
    assert seen == ["transients", "images", "transients"]


def test_pixels_of_another_band_do_not_travel(relay, journals):
    for number in range(10):
        journals.append(pixels(number, "a" if number == 7 else "b"))
    with connect(relay.address) as mesh:
        (image,) = first(mesh, 1, "images", band="a")
        assert mesh._mesh._connection.bytes_received < 2 * image["pixels"].nbytes
    assert (image.image.band.name, image["pixels"][0, 0]) == ("a", 7.0)


def test_events_are_chosen_by_kind_and_region(relay, journals):
    journals.append(*(fake_transient(n, kind=kind) for n, kind in enumerate(["flare", "fade", "flare"])))
    journals.append(fake_transient(3, kind="flare", ra_deg=10.0))
    journals.append(fake_transient(4, kind="new_source", ra_deg=10.0))
    with connect(relay.address) as mesh:
        assert [e.place.seq for e in first(mesh, 3, "transients", kind="flare")] == [0, 2, 3]
        near = first(mesh, 1, "transients", kind=["flare"], region=(10.5, 52.9, 1.0))
        assert [e.place.seq for e in near] == [3]
        assert [e.place.seq for e in first(mesh, 1, "transients", kind="new_source")] == [4]


def test_rows_outside_a_region_are_left_out_and_records_without_rows_too(relay, journals):
    journals.append(fake_lightcurves([1.0], objects=[80]), fake_lightcurves([1.0, 2.0, 3.0]))
    with connect(relay.address) as mesh:
        (event,) = first(mesh, 1, "lightcurves", region=(350.1, 52.9, 0.07))
        assert event.place.seq == 1
        assert event["flux_int"].tolist() == [1.0, 2.0, 3.0]
        (event,) = first(mesh, 1, "lightcurves", region=(350.0, 52.9, 0.01))
        assert event["flux_int"].tolist() == [1.0]


def test_a_table_has_units_descriptions_and_ids_as_text():
    table = fake_event(fake_lightcurves([1.0, 2.0])).table()
    assert len(table) == 2
    assert str(table["flux_peak"].unit) == "Jy / beam" and str(table["ra_deg"].unit) == "deg"
    assert len(table["object_id"][0]) == 36 and table["n"].description
    recent = fake_event(fake_transient()).table()
    assert recent.meta["kind"] == "new_source" and "t_us" in recent.colnames
    with pytest.raises(KeyError, match="no table 'states'; it has ''"):
        fake_event(fake_lightcurves([1.0])).table("states")


@pytest.mark.parametrize(("wrong", "close"), [("transient", "transients"), ("follow_op", "follow_up")])
def test_an_unknown_channel_is_refused_with_those_that_there_are(relay, journals, wrong, close):
    journals.append(fake_transient(), channel="follow_up")
    with connect(relay.address) as mesh:
        with pytest.raises(UnknownChannelError, match=rf"{wrong}.*there are follow_up; did you mean '{close}'"):
            next(mesh.subscribe(wrong))
        waited = mesh.subscribe("later", start="first", missing_ok=True)
        journals.append(fake_transient(), channel="later")
        assert next(waited).kind == "new_source"


def test_a_newer_major_version_is_refused_with_a_sentence_and_a_newer_minor_is_read(relay, journals):
    journals.append_frames(_as(fake_transient(kind="fade"), "trapline.transients/1.9"), "transients")
    journals.append_frames([b"\xc1"], "transients")
    journals.append_frames(_as(fake_transient(), "trapline.transients/2.0"), "transients")
    with connect(relay.address) as mesh:
        stream = mesh.subscribe("transients", start="first")
        assert next(stream).kind == "fade"
        words = r"transients/0@\d+:2: .*transients/2.0' is newer than this program, which reads 'trapline.transients/1"
        with pytest.raises(NewerSchemaError, match=words):
            next(stream)


def test_what_is_no_message_is_a_warning_and_the_stream_goes_on(relay, journals, capsys):
    journals.append_frames([b"\xc1"], "transients")
    journals.append(fake_transient())
    with connect(relay.address) as mesh:
        assert first(mesh, 1, "transients")[0].place.seq == 1
        assert first(mesh, 1, "transients", kind="new_source")[0].place.seq == 1
    assert "transients/0@0:0: a frame of 1 bytes is not msgpack" in "".join(capsys.readouterr())


def _as(message, schema):
    frames = [bytes(frame) for frame in encode(message)]
    header = msgspec.msgpack.decode(frames[0])
    return [msgspec.msgpack.encode(header | {"schema": schema}), *frames[1:]]


def test_a_client_that_may_not_read_a_channel_is_told_what_it_would_need(tmp_path):
    host = secured(tmp_path / "host")
    pair = host.friend("laptop", read=["transients"])
    with running_relay(host.config) as server:
        journals = Journals(host.config.journal_directory)
        journals.append(pixels(1, "a"))
        journals.append(fake_transient())
        identity = host.directory / "elsewhere" / "laptop.key"
        with connect(server.address, key=host.relay.public, identity=identity) as mesh:
            assert mesh.channels() == ["transients"]
            assert first(mesh, 1, "transients")[0].kind == "new_source"
            with pytest.raises(RelayRefusedError, match=r"laptop may not read images; .*--read"):
                next(mesh.subscribe("images"))
            with pytest.raises(RelayRefusedError, match=r"laptop may not publish on transients; .*--publish"):
                mesh.publish(fake_transient(), name="laptop")
        journals.close()
    assert pair.name == "laptop"


async def test_the_asyncio_form_filters_as_well(relay, journals):
    journals.append(fake_transient(0, kind="fade"), fake_transient(1, kind="flare"))
    async with connect_async(relay.address) as mesh:
        async for event in mesh.subscribe("transients", start="first", kind="flare"):
            assert event.place.seq == 1
            break


@pytest.mark.parametrize("region", [(1, 2), "here", (400, 0, 1), (0, 0, 0)], ids=str)
def test_a_wrong_region_is_refused_with_an_example(relay, region):
    with connect(relay.address) as mesh, pytest.raises(ValueError, match=r"ra_deg, dec_deg, radius_deg"):
        next(mesh.subscribe("transients", region=region))
