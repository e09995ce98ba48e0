"""What a FITS header says of an image, by every convention that telescopes use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from trapline.image_ingest.cards import Cards, Findings, Found, to_number
from trapline.image_ingest.instruments import Instrument, mapped
from trapline.image_ingest.spectrum import Spectrum, find_axis, read_spectrum
from trapline.image_ingest.timing import Timing, read_timing
from trapline.image_ingest.units import PixelUnit, pixel_unit
from trapline.schemas.image import Beam

BEAM_KEYS = (("BMAJ", "BMIN", "BPA"), ("CLEANBMJ", "CLEANBMN", "CLEANBPA"))
# FITS's numbers of the Stokes axis (Greisen et al. 2006, table 7).
STOKES = {
    1: "I", 2: "Q", 3: "U", 4: "V", -1: "RR", -2: "LL", -3: "RL", -4: "LR", -5: "XX", -6: "YY", -7: "XY", -8: "YX",
}  # fmt: skip

_NUMBER = r"\s*=\s*([-+.\deEdD]+)"
_AIPS_BEAM = re.compile(rf"BMAJ{_NUMBER}\s+BMIN{_NUMBER}\s+BPA{_NUMBER}")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a header says. Fields are None where it does not, which `findings` names."""

    instrument: Instrument
    beam: Beam | None
    """in degrees; None also when optical and the seeing is unknown"""
    seeing_px: float | None
    """seeing that the header gives in pixels, which takes the WCS to become a beam"""
    spectrum: Spectrum
    stokes: str
    timing: Timing
    unit: PixelUnit | None
    findings: Findings
    keys: dict[str, str] = field(default_factory=dict[str, str])
    """what was read, and the header keys that it came from; empty for defaults"""


def read_header(cards: Cards, instrument: Instrument, *, named: bool = False) -> Metadata:
    """Return everything that a header says; what is missing or bad is collected, nothing is raised.

    Parameters
    ----------
    cards
        The header.
    instrument
        Its description, with its own keys and its defaults.
    named
        True when the instrument was named by the configuration, so that the header need not say which it is.
    """
    if not named and cards.text("TELESCOP", "INSTRUME") is None:
        text = f"the telescope is missing: none of TELESCOP, INSTRUME; read as {instrument.name}"
        cards.findings.gap("telescope_missing", text)
    beam, seeing_px = _seeing(cards, instrument) if instrument.kind == "optical" else (_beam(cards, instrument), None)
    spectrum = read_spectrum(cards, instrument)
    stokes = _stokes(cards, instrument)
    timing = read_timing(cards, instrument)
    unit = _unit(cards, instrument)
    keys = {
        "beam": beam.key if beam else "",
        "spectrum": next((one.key for one in (spectrum.freq_hz, spectrum.filter) if one), ""),
        "stokes": stokes.key,
        "start": timing.start.key if timing.start else "",
        "exposure": timing.exposure.key,
        "unit": unit.key if unit else "",
    }
    return Metadata(
        instrument=instrument,
        beam=beam.value if beam else None,
        seeing_px=seeing_px,
        spectrum=spectrum,
        stokes=stokes.value,
        timing=timing,
        unit=unit.value if unit else None,
        findings=cards.findings,
        keys=keys,
    )


def _beam(cards: Cards, instrument: Instrument) -> Found[Beam] | None:
    own = instrument.keys
    axes = [mapped(cards, keys, "deg") for keys in (own.beam_major, own.beam_minor, own.beam_pa)]
    if axes[0] is not None:
        return _beam_of(cards, axes, ("major axis of the beam", "minor axis of the beam", "its position angle"))
    faults = len(cards.findings.faults)
    for keys in BEAM_KEYS:
        if cards.raw(keys[0]) is not None or cards.raw(keys[1]) is not None:
            return _beam_of(cards, [cards.number(key) for key in keys], keys)
    in_history = _AIPS_BEAM.findall(cards.history())
    if in_history:
        # The last CLEAN made the image.
        numbers = [to_number(text) for text in in_history[-1]]
        found = [Found(number, "HISTORY") if number is not None else None for number in numbers]
        return _beam_of(cards, found, ("HISTORY BMAJ=", "HISTORY BMIN=", "HISTORY BPA="))
    defaults = instrument.defaults
    if defaults.beam_major_deg is not None:
        cards.findings.flag("beam_from_instrument")
        minor = defaults.beam_minor_deg if defaults.beam_minor_deg is not None else defaults.beam_major_deg
        return Found(Beam(defaults.beam_major_deg, minor, defaults.beam_pa_deg), "")
    if len(cards.findings.faults) == faults:
        keys_text = ", ".join("/".join(keys) for keys in BEAM_KEYS)
        cards.findings.fault(f"the beam is missing: none of {keys_text}, HISTORY BMAJ= BMIN= BPA=")
    return None


def _beam_of(cards: Cards, axes: list[Found[float] | None], names: tuple[str, ...]) -> Found[Beam] | None:
    major, minor, angle = axes
    for name, one in zip(names, (major, minor), strict=False):
        if one is None:
            cards.findings.fault(f"{name} is missing")
    if major is None or minor is None:
        return None
    if angle is None and major.value != minor.value:
        cards.findings.fault(f"{names[2]} is missing")
    if minor.value > major.value:
        cards.findings.fault(f"{minor.key} ({minor.value}) is larger than {major.key} ({major.value})")
    keys = dict.fromkeys(one.key for one in axes if one is not None)
    return Found(Beam(major.value, minor.value, angle.value if angle else 0.0), ", ".join(keys))


def _seeing(cards: Cards, instrument: Instrument) -> tuple[Found[Beam] | None, float | None]:
    for key in instrument.keys.seeing:
        if key.unit == "px":
            found = cards.finite(key.key)
            if found is not None:
                return None, found.value
            continue
        width = mapped(cards, [key], "arcsec")
        if width is not None:
            return Found(Beam(width.value / 3600, width.value / 3600, 0.0), width.key), None
    return None, None


def _stokes(cards: Cards, instrument: Instrument) -> Found[str]:
    own = cards.text(*(key.key for key in instrument.keys.stokes))
    if own is not None:
        return Found(own.value.upper(), own.key)
    axis = find_axis(cards, ("STOKES",))
    if axis is None:
        named = cards.text("STOKES")
        return Found(named.value.upper(), named.key) if named else Found(instrument.defaults.stokes, "")
    name = STOKES.get(round(axis.value)) if abs(axis.value - round(axis.value)) < 1e-3 else None
    if name is None:
        cards.findings.fault(f"CRVAL{axis.number} is {axis.value:g}, which is no Stokes parameter; expected 1 for I")
        return Found(instrument.defaults.stokes, "")
    return Found(name, axis.keys)


def _unit(cards: Cards, instrument: Instrument) -> Found[PixelUnit] | None:
    found = cards.text("BUNIT")
    if found is None and instrument.defaults.unit is not None:
        cards.findings.flag("unit_from_instrument")
        return Found(PixelUnit(instrument.defaults.unit, 1.0), "")
    if found is None:
        cards.findings.fault("the unit of the pixels is missing: no BUNIT")
        return None
    unit = pixel_unit(found.value)
    if unit is None:
        cards.findings.fault(f"BUNIT is {found.value!r}; expected Jy/beam, mJy/beam, uJy/beam, nJy or counts")
        return None
    return Found(unit, found.key)
