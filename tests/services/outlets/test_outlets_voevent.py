"""VOEvents: valid against a schema, with the numbers of the event, and the same again for the same record."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from lxml import etree

from finder_records import answer, asked, forced, record, run
from trapline.common.ids import text_id
from trapline.outlets.config import VoEventOutlet
from trapline.outlets.voevent import packet, write
from trapline.schemas.columns import Link
from trapline.schemas.message import Message

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).with_name("voevent-2.0.xsd")))
STREAM = "ivo://org.example.array/trapline"
LIMITS = {"limit_low": 1.0, "limit_high": 2.0, "n_earlier": 10, "link": int(Link.NEW)}
MUST_SHOW = {"header": {"limit_high": 2.0}}


@pytest.fixture
def outlet(tmp_path):
    return VoEventOutlet(type="voevent", directory=tmp_path, stream=STREAM, contact="Who is on call")


def events():
    """Events of every kind and alert type, as the finder makes them."""
    flares = [*[record(k, 0, 1.0) for k in range(12)], record(12, 0, 9.0), record(13, 0, 90.0), record(14, 0, 1.0)]
    gone = [record(0, 1, 5.0), *[asked(k, 1, k - 1, **MUST_SHOW) for k in range(1, 8)], answer(3, 1, 0.0)]
    appeared = [record(20, 3, 2.5, **LIMITS), forced(20, 3, 0.0, band="70 MHz"), record(21, [])]
    return [m for night in (flares, [*gone, record(9, 1, 5.0)], appeared) for one in run(night) for m in one.messages]


def test_every_event_is_a_valid_packet(outlet):
    seen = set()
    for event in events():
        root = etree.fromstring(packet(event, outlet))
        SCHEMA.assertValid(root)
        seen.add((event.header.kind, "ended" if event.header.ended else event.header.alert_type))
    assert seen >= {
        ("flare", "initial"), ("flare", "update"), ("flare", "ended"), ("disappeared", "initial"),
        ("returned", "initial"), ("new_source", "initial"), ("new_source", "retraction"),
    }  # fmt: skip


def test_a_packet_says_what_the_event_says(outlet):
    event = next(m for m in events() if m.header.kind == "new_source")
    header = msgspec.structs.replace(event.header, t_pub_us=1_700_000_100_000_000, role="observation")
    root = etree.fromstring(packet(Message(header, event.arrays), outlet))
    assert (root.get("ivorn"), root.get("role")) == (f"{STREAM}#{text_id(header.event_id)}", "observation")
    assert root.findtext("Who/Date") == "2023-11-14T22:15:00"
    assert root.findtext(".//ISOTime") == "2023-11-14T22:13:40.000000"
    assert (float(root.findtext(".//C1")), float(root.findtext(".//C2"))) == (359.5, -20.0)
    assert float(root.findtext(".//Error2Radius")) == 0.02
    values = {p.get("name"): p.get("value") for p in root.iter("Param")}
    assert (values["kind"], values["certain"], values["limit_low"]) == ("new_source", "true", "1")
    assert float(values["significance"]) == pytest.approx(15.0)
    assert [len(row) for row in root.iter("TR")] == [5]
    assert root.find("Citations") is None


def test_later_records_cite_the_first(outlet):
    told = [m for m in events() if m.header.kind in ("flare", "new_source")]
    roots = [etree.fromstring(packet(m, outlet)) for m in told]
    cites = {m.header.alert_type: r.find("Citations/EventIVORN") for m, r in zip(told, roots, strict=True)}
    for alert, word in (("update", "supersedes"), ("retraction", "retraction")):
        assert cites[alert].get("cite") == word
        assert cites[alert].text in {r.get("ivorn") for r in roots}
    assert len({r.get("ivorn") for r in roots}) == len(roots)


def test_what_is_injected_or_strange_is_still_valid(outlet):
    event = next(m for m in events() if m.header.kind == "flare")
    strange = msgspec.structs.replace(
        event.header, role="injection", kind="a<b>&\x00\x08", significance=float("nan"), unit="mJy\x1f", rule={}
    )
    root = etree.fromstring(packet(Message(strange), outlet))
    SCHEMA.assertValid(root)
    assert root.get("role") == "test"
    assert root.find("Why").get("importance") is None


def test_a_file_is_whole_and_the_same_when_it_comes_twice(outlet, tmp_path):
    event = events()[0]
    path = write(event, outlet)
    first = path.read_bytes()
    assert write(event, outlet) == path
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == [f"{text_id(event.header.event_id)}.xml"]
