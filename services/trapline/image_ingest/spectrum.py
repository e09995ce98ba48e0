"""Frequency and width of the band that an image was taken in, or its filter, from whichever header keys tell them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase

from trapline.image_ingest.cards import Cards, Found, one_line
from trapline.image_ingest.instruments import Instrument, mapped
from trapline.image_ingest.units import convert

C_M_S = 299_792_458.0

FREQUENCY_AXES = ("FREQ", "SPECLNMF", "SPECLOGF")
OPTICAL_VELOCITY_AXES = ("VOPT", "FELO", "ZOPT")
RADIO_VELOCITY_AXES = ("VRAD", "VELO")
WAVELENGTH_AXES = ("WAVE", "AWAV", "LAMBDA")

REST_KEYS = ("RESTFRQ", "RESTFREQ")
FILTER_KEYS = ("FILTER", "FILTER1", "FILTNAM", "FILTNAM1")


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The interval of an image: either frequency and width, or a filter, or nothing known."""

    freq_hz: Found[float] | None = None
    bandwidth_hz: float = 0.0
    filter: Found[str] | None = None
    bandwidth_key: str = ""
    """the key of the bandwidth; "" when the header does not say"""


@dataclass(frozen=True, slots=True)
class Axis:
    """One world coordinate axis, at the first pixel of this plane."""

    number: int
    kind: str
    """CTYPE in capitals, without algorithm or frame: FREQ of FREQ-OBS"""
    value: float
    step: float
    unit: str

    @property
    def keys(self) -> str:
        """The keys that it was read from."""
        return f"CTYPE{self.number}, CRVAL{self.number}"


def find_axis(cards: Cards, kinds: tuple[str, ...]) -> Axis | None:
    """Return the first axis after the celestial ones whose CTYPE begins with one of these kinds, if it has a value."""
    for number in range(3, 8):
        ctype = cards.text(f"CTYPE{number}")
        kind = ctype.value.upper().partition("-")[0] if ctype else ""
        if kind not in kinds:
            continue
        value, step = cards.finite(f"CRVAL{number}"), cards.finite(f"CDELT{number}", f"CD{number}_{number}")
        if value is None:
            continue
        reference = cards.finite(f"CRPIX{number}")
        width = step.value if step else 0.0
        unit = cards.text(f"CUNIT{number}")
        first = value.value + (1.0 - (reference.value if reference else 1.0)) * width
        return Axis(number, kind, first, width, unit.value if unit else "")
    return None


def read_spectrum(cards: Cards, instrument: Instrument) -> Spectrum:
    """Return the interval of the image; what is missing or bad goes to the findings of the cards."""
    if instrument.kind == "optical":
        return Spectrum(filter=_filter(cards, instrument))
    own = mapped(cards, instrument.keys.frequency, "Hz")
    rest, rest_width = cards.finite(*REST_KEYS), cards.finite("RESTBW")
    rest = rest if rest and rest.value > 0 else None
    axis = _from_frequency_axis(cards) or _from_velocity_axis(cards, rest) or _from_wavelength_axis(cards)
    # A rest frequency with a width describes the band; alone it may be that of a line, and the axis is the truth.
    chosen = own or (rest if rest_width else None) or (axis.freq_hz if axis else None) or rest
    if chosen is None or not 0 < chosen.value < math.inf:
        return _unknown(cards, instrument)
    if axis and rest and abs(axis.freq_hz.value - rest.value) > max(axis.width_hz, 1.0):
        cards.findings.flag("rest_frequency_differs_from_axis")
    widths = (mapped(cards, instrument.keys.bandwidth, "Hz"), rest_width)
    of_axis = Found(axis.width_hz, f"CDELT of {axis.freq_hz.key}") if axis and axis.width_hz else None
    width = next((one for one in widths if one), of_axis)
    bandwidth_hz = _bandwidth(cards, instrument, abs(width.value) if width else 0.0)
    return Spectrum(chosen, bandwidth_hz, bandwidth_key=width.key if width else "")


@dataclass(frozen=True, slots=True)
class _SpectralAxis:
    freq_hz: Found[float]
    width_hz: float


def _from_frequency_axis(cards: Cards) -> _SpectralAxis | None:
    axis = find_axis(cards, FREQUENCY_AXES)
    numbers = _in_unit(cards, axis, "Hz") if axis is not None and axis.value > 0 else None
    return _SpectralAxis(Found(numbers[0], axis.keys), abs(numbers[1])) if axis and numbers else None


def _from_velocity_axis(cards: Cards, rest: Found[float] | None) -> _SpectralAxis | None:
    """Return frequency and width of a velocity axis (Greisen et al. 2006, A&A 446, 747, table 3)."""
    axis = find_axis(cards, OPTICAL_VELOCITY_AXES + RADIO_VELOCITY_AXES)
    numbers = _in_unit(cards, axis, "m/s") if axis is not None and rest is not None else None
    if axis is None or rest is None or numbers is None:
        return None
    z, step = (number / C_M_S for number in numbers)
    key = f"{rest.key}, {axis.keys}"
    if axis.kind in RADIO_VELOCITY_AXES:
        return _SpectralAxis(Found(rest.value * (1 - z), key), rest.value * abs(step))
    if z <= -1:
        cards.findings.fault(f"CRVAL{axis.number} is {axis.value:g}: no optical velocity is below that of light")
        return None
    return _SpectralAxis(Found(rest.value / (1 + z), key), rest.value * abs(step) / (1 + z) ** 2)


def _from_wavelength_axis(cards: Cards) -> _SpectralAxis | None:
    axis = find_axis(cards, WAVELENGTH_AXES)
    numbers = _in_unit(cards, axis, "m") if axis is not None and axis.value > 0 else None
    if axis is None or numbers is None:
        return None
    metres, step = numbers
    return _SpectralAxis(Found(C_M_S / metres, axis.keys), C_M_S * abs(step) / metres**2)


def _in_unit(cards: Cards, axis: Axis, unit: str) -> tuple[float, float] | None:
    try:
        return convert(axis.value, axis.unit, unit), convert(axis.step, axis.unit, unit)
    except ValueError as error:
        cards.findings.fault(f"CUNIT{axis.number} is {axis.unit!r}; expected {unit}: {one_line(error)}")
        return None


def _unknown(cards: Cards, instrument: Instrument) -> Spectrum:
    default = instrument.defaults.freq_hz
    if default is not None:
        cards.findings.flag("frequency_from_instrument")
        return Spectrum(Found(default, ""), _bandwidth(cards, instrument, 0.0))
    keys = ", ".join([*(key.key for key in instrument.keys.frequency if key.key not in REST_KEYS), *REST_KEYS])
    cards.findings.fault(
        f"the frequency is missing: none of {keys}, nor CTYPE3/CRVAL3 or CTYPE4/CRVAL4 of a FREQ, VOPT or WAVE axis"
    )
    return Spectrum()


def _bandwidth(cards: Cards, instrument: Instrument, width_hz: float) -> float:
    if 0 < width_hz < math.inf:
        return width_hz
    if instrument.defaults.bandwidth_hz is not None:
        cards.findings.flag("bandwidth_from_instrument")
        return instrument.defaults.bandwidth_hz
    cards.findings.gap("bandwidth_missing", "the bandwidth is missing: none of RESTBW, CDELT of a spectral axis")
    return 0.0


def _filter(cards: Cards, instrument: Instrument) -> Found[str] | None:
    found = cards.text(*(key.key for key in instrument.keys.filter), *FILTER_KEYS)
    if found is None and instrument.defaults.filter is not None:
        cards.findings.flag("filter_from_instrument")
        return Found(instrument.defaults.filter, "")
    if found is None:
        cards.findings.fault(f"the filter is missing: none of {', '.join(FILTER_KEYS)}")
        return None
    for pattern, name in instrument.filters.items():
        if fnmatchcase(found.value, pattern):
            return Found(name, found.key)
    return found
