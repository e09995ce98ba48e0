"""VOEvent 2.0 (IVOA Recommendation, 11 July 2011): an event as an XML packet, and files of them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lxml import etree

from trapline.common.ids import text_id
from trapline.common.journal.epochs import replace_file
from trapline.outlets.config import VoEventOutlet
from trapline.outlets.delivery import Deliver
from trapline.schemas.message import Message
from trapline.schemas.transients import RECENT, Transients

NAMESPACE = "http://www.ivoa.net/xml/VOEvent/v2.0"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_LOCATION = f"{NAMESPACE} http://www.ivoa.net/xml/VOEvent/VOEvent-v2.0.xsd"
_SYSTEM = "UTC-ICRS-TOPO"
_ROLES = {"observation": "observation"}  # whatever else is in an image, nobody must point a telescope at it
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CITES = {"update": "supersedes", "retraction": "retraction"}


def voevent_files(outlet: VoEventOutlet) -> Deliver:
    """Return what writes each record of an event as a file, in one piece; the same again if it comes twice."""
    outlet.directory.mkdir(parents=True, exist_ok=True)

    async def deliver(event: Message[Transients]) -> None:
        write(event, outlet)

    return deliver


def write(event: Message[Transients], outlet: VoEventOutlet) -> Path:
    """Write the packet of an event, and return where."""
    path = outlet.directory / f"{_local_id(event.header)}.xml"
    replace_file(path, packet(event, outlet))
    return path


def packet(event: Message[Transients], outlet: VoEventOutlet) -> bytes:
    """Return the XML of an event. Its date is when the event was published: the same record gives the same bytes."""
    header = event.header
    root = etree.Element(f"{{{NAMESPACE}}}VOEvent", nsmap={"voe": NAMESPACE, "xsi": _INSTANCE})
    root.set("version", "2.0")
    root.set("role", _ROLES.get(header.role, "test"))
    root.set("ivorn", f"{outlet.stream}#{_local_id(header)}")
    root.set(f"{{{_INSTANCE}}}schemaLocation", _LOCATION)
    _who(root, header, outlet)
    _what(root, event)
    _where_when(root, header, outlet)
    _text(etree.SubElement(root, "How"), "Description", f"Trapline {version('trapline')}, {header.producer}")
    _why(root, header)
    if header.alert_type in _CITES:
        cited = _text(etree.SubElement(root, "Citations"), "EventIVORN", f"{outlet.stream}#{text_id(header.event_id)}")
        cited.set("cite", _CITES[header.alert_type])
    data: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)
    return data


def _local_id(header: Transients) -> str:
    """Return what names a record in the stream: the event's id, for later ones with the record's behind it."""
    event = text_id(header.event_id)
    return event if header.alert_type == "initial" else f"{event}-{text_id(header.id)}"


def _who(root: Any, header: Transients, outlet: VoEventOutlet) -> None:
    who = etree.SubElement(root, "Who")
    _text(who, "AuthorIVORN", outlet.stream)
    _text(who, "Date", _time(header.t_pub_us, "seconds"))
    author = etree.SubElement(who, "Author")
    _text(author, "title", "Trapline")
    if outlet.contact:
        _text(author, "contactName", outlet.contact)


def _what(root: Any, event: Message[Transients]) -> None:
    header, what = event.header, etree.SubElement(root, "What")
    for name, value in (("event", text_id(header.event_id)), ("object", text_id(header.object_id)),
                        ("kind", header.kind), ("alert_type", header.alert_type), ("band", header.band.name),
                        ("veto", header.veto), ("ended", str(header.ended).lower() if header.ended else None),
                        ("certain", None if header.certain is None else str(header.certain).lower())):  # fmt: skip
        if value is not None:
            _param(what, name, value, "string", "meta.id" if name in ("event", "object") else "")
    _param(what, "significance", header.significance, "float", "stat.snr", "sigma")
    _param(what, "flux_peak", header.flux_peak, "float", "phot.flux.density", f"{header.unit}/beam")
    _param(what, "flux_peak_err", header.flux_peak_err, "float", "stat.error;phot.flux.density", f"{header.unit}/beam")
    if header.band.freq_hz is not None:
        _param(what, "freq", header.band.freq_hz, "float", "em.freq", "Hz")
    rule = etree.SubElement(what, "Group", name="rule", type=_clean(header.kind))
    for name, number in (header.rule or {"significance": header.significance}).items():
        _param(rule, name, number, "float")
    _recent(what, event)


def _recent(what: Any, event: Message[Transients]) -> None:
    """Add the newest points as a table."""
    columns = RECENT.select(event.arrays)
    if not columns or not len(columns["t_us"]):
        return
    table = etree.SubElement(what, "Table", name="recent", type="lightcurve")
    etree.SubElement(table, "Field", name="time", ucd="time.epoch", dataType="string")
    names = ("flux_peak", "flux_peak_err", "flux_int", "flux_int_err")
    for name in names:
        etree.SubElement(table, "Field", name=name, ucd="phot.flux.density", unit=header_unit(event), dataType="float")
    data = etree.SubElement(table, "Data")
    for row in range(len(columns["t_us"])):
        cells = etree.SubElement(data, "TR")
        _text(cells, "TD", _time(int(columns["t_us"][row])))
        for name in names:
            _text(cells, "TD", _number(float(columns[name][row])))


def header_unit(event: Message[Transients]) -> str:
    """Return the unit of the fluxes."""
    return _clean(event.header.unit)


def _where_when(root: Any, header: Transients, outlet: VoEventOutlet) -> None:
    location = etree.SubElement(etree.SubElement(root, "WhereWhen"), "ObsDataLocation")
    observatory = etree.SubElement(location, "ObservatoryLocation")
    observatory.set("id", _clean(outlet.observatory or outlet.stream))
    observation = etree.SubElement(location, "ObservationLocation")
    etree.SubElement(observation, "AstroCoordSystem", id=_SYSTEM)
    coords = etree.SubElement(observation, "AstroCoords", coord_system_id=_SYSTEM)
    instant = etree.SubElement(etree.SubElement(coords, "Time", unit="s"), "TimeInstant")
    _text(instant, "ISOTime", _time(header.t_us))
    position = etree.SubElement(coords, "Position2D", unit="deg")
    _text(position, "Name1", "RA")
    _text(position, "Name2", "Dec")
    value = etree.SubElement(position, "Value2")
    _text(value, "C1", repr(header.ra_deg))
    _text(value, "C2", repr(header.dec_deg))
    _text(position, "Error2Radius", _number(max(header.pos_err_ew_deg, header.pos_err_ns_deg)))


def _why(root: Any, header: Transients) -> None:
    # The standard leaves the scale of importance to the author: half at 10 sigma.
    why = etree.SubElement(root, "Why")
    sigma = header.significance
    if math.isfinite(sigma):
        why.set("importance", f"{max(sigma, 0.0) / (max(sigma, 0.0) + 10.0):.3f}")
    _text(why, "Concept", "process.variation")
    _text(why, "Description", f"{header.kind} at {_number(sigma)} sigma in {header.band.name}")


def _param(parent: Any, name: str, value: str | float, kind: str, ucd: str = "", unit: str = "") -> None:
    param = etree.SubElement(parent, "Param", name=_clean(name), dataType=kind)
    param.set("value", _number(value) if isinstance(value, float) else _clean(str(value)))
    for attribute, text in (("ucd", ucd), ("unit", unit)):
        if text:
            param.set(attribute, _clean(text))


def _text(parent: Any, name: str, text: str) -> Any:
    element = etree.SubElement(parent, name)
    element.text = _clean(text)
    return element


def _clean(text: str) -> str:
    """Return text without what XML has no way to say."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _number(value: float) -> str:
    return f"{value:.9g}" if math.isfinite(value) else "NaN"


def _time(t_us: int, precision: str = "microseconds") -> str:
    whole, rest = divmod(t_us, 1_000_000)
    text = datetime.fromtimestamp(whole, UTC).replace(microsecond=rest).isoformat(timespec=precision)
    return text.removesuffix("+00:00")
