"""What is known of instruments: data in TOML files, ours beside this module, yours in a directory of your own."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from astropy.units import Unit
from pydantic import BeforeValidator, Field, ValidationError, field_validator

from trapline.common.config import Deg, Hertz, Seconds, Section
from trapline.image_ingest.cards import Cards, Found, one_line
from trapline.image_ingest.config import IngestConfig, QualityLimits
from trapline.image_ingest.units import convert

FluxUnit = Literal["Jy", "nJy", "count"]


class InstrumentError(ValueError):
    """An instrument's description that cannot be used. The text names the file, the key and what would be right."""


class Key(Section):
    """A header key of this instrument, and the unit of its value when it is not the usual one."""

    key: str = Field(min_length=1, max_length=80, description="key of the FITS header")
    unit: str = Field(default="", description="unit of the value, as astropy writes it; 'px' for widths in pixels")

    @field_validator("unit")
    @classmethod
    def _check_unit(cls, unit: str) -> str:
        if unit and unit != "px":
            Unit(unit)
        return unit


KeyList = list[Annotated[Key, BeforeValidator(lambda value: {"key": value} if isinstance(value, str) else value)]]


class Match(Section):
    """By what an instrument is recognised. One pattern that fits is enough; upper and lower case are alike."""

    telescop: list[str] = Field(default=[], description="patterns of TELESCOP, with * and ?")
    instrume: list[str] = Field(default=[], description="patterns of INSTRUME, with * and ?")
    present: list[str] = Field(default=[], description="header keys one of which must have a value")
    absent: list[str] = Field(default=[], description="header keys none of which may be there")


class Keys(Section):
    """Header keys that are looked at before those of the conventions, by what they tell."""

    start: KeyList = Field(default=[], description="start of the exposure: a date, or MJD")
    end: KeyList = Field(default=[], description="end of the exposure: a date, or MJD")
    exposure: KeyList = Field(default=[], description="length of the exposure, in s")
    frequency: KeyList = Field(default=[], description="centre of the band, in Hz")
    bandwidth: KeyList = Field(default=[], description="width of the band, in Hz")
    filter: KeyList = Field(default=[], description="optical filter")
    stokes: KeyList = Field(default=[], description="Stokes parameter or correlation")
    beam_major: KeyList = Field(default=[], description="major axis of the beam, full width at half maximum, in deg")
    beam_minor: KeyList = Field(default=[], description="minor axis of the beam, in deg")
    beam_pa: KeyList = Field(default=[], description="position angle of the beam, in deg")
    seeing: KeyList = Field(default=[], description="width of the point-spread function, in arcsec")
    antenna_set: KeyList = Field(default=[], description="LOFAR's selection of antennas: LBA_OUTER, HBA_DUAL...")
    core_stations: KeyList = Field(default=[], description="number of LOFAR's core stations")
    remote_stations: KeyList = Field(default=[], description="number of its remote stations")
    international_stations: KeyList = Field(default=[], description="number of its international stations")


class Defaults(Section):
    """What holds when the header does not say. An image that needs one of them carries a flag."""

    exposure_s: Seconds | None = Field(default=None, ge=0, description="length of the exposure")
    freq_hz: Hertz | None = Field(default=None, gt=0, description="centre of the band")
    bandwidth_hz: Hertz | None = Field(default=None, ge=0, description="width of the band")
    filter: str | None = Field(default=None, description="optical filter")
    stokes: str = Field(default="I", description="Stokes parameter or correlation")
    unit: FluxUnit | None = Field(default=None, description="unit of the pixels")
    timesys: str = Field(default="UTC", description="time scale of the dates")
    beam_major_deg: Deg | None = Field(
        default=None, gt=0, description="major axis of the beam, full width at half maximum"
    )
    beam_minor_deg: Deg | None = Field(default=None, gt=0, description="minor axis of the beam")
    beam_pa_deg: Deg = Field(default=0.0, description="position angle of the beam, north through east")
    antenna_set: str | None = Field(default=None, description="LOFAR's selection of antennas")
    core_stations: int | None = Field(default=None, ge=0, description="number of LOFAR's core stations")
    remote_stations: int | None = Field(default=None, ge=0, description="number of its remote stations")
    international_stations: int = Field(default=0, ge=0, description="number of its international stations")


class Instrument(Section):
    """One instrument's description."""

    name: str = Field(min_length=1, description="name that messages and the database carry")
    description: str = Field(default="", description="a line for a person")
    theory: Literal["lofar"] | None = Field(
        default=None, description="whose theoretical noise an image's is compared with; absent: none"
    )
    kind: Literal["radio", "optical"] = Field(default="radio", description="radio images need a beam and a frequency")
    order: int = Field(default=0, description="descriptions are tried in this order; the generic ones come last")
    match: Match = Field(default=Match(), description="by what it is recognised; nothing fits any header")
    keys: Keys = Field(default=Keys(), description="header keys of its own")
    defaults: Defaults = Field(default=Defaults(), description="what holds when the header does not say")
    filters: dict[str, str] = Field(
        default={}, description="patterns of the filter's text, and the name that stands for each"
    )
    quality: QualityLimits = Field(default=QualityLimits(), description="limits that differ from the usual ones")

    def fits(self, cards: Cards) -> bool:
        """Return whether this header is one of this instrument's."""
        match = self.match
        if any(key in cards for key in match.absent):
            return False
        if match.present and cards.text(*match.present) is None:
            return False
        if not match.telescop and not match.instrume:
            return True
        return _any_fits(cards, "TELESCOP", match.telescop) or _any_fits(cards, "INSTRUME", match.instrume)


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration with the instruments that it names, ready to describe images."""

    config: IngestConfig
    instruments: tuple[Instrument, ...]
    dataset: str = "default"
    """name of this processing of the sky"""

    @classmethod
    def load(cls, config: IngestConfig, dataset: str = "default") -> Settings:
        """Read the shipped descriptions and those of the configured directory; a name in both is the user's.

        Raises
        ------
        InstrumentError
            When a file is no TOML, or a key in it is unknown or wrong, or a stream names an instrument there is not.
        """
        shipped = read_directory(resources.files("trapline.image_ingest") / "instruments")
        own = read_directory(config.instruments) if config.instruments else {}
        merged = [
            (name not in own, one.model_copy(update={"quality": one.quality.overridden_by(config.quality)}))
            for name, one in {**shipped, **own}.items()
        ]
        merged.sort(key=lambda item: (item[1].order, item[0], item[1].name))
        settings = cls(config, tuple(one for _, one in merged), dataset)
        for stream in config.streams:
            if stream.instrument is not None:
                settings.named(stream.instrument)
        return settings

    def named(self, name: str) -> Instrument:
        """Return the instrument of this name, or raise `InstrumentError` saying which there are."""
        for instrument in self.instruments:
            if instrument.name == name:
                return instrument
        known = ", ".join(sorted(one.name for one in self.instruments))
        raise InstrumentError(f"there is no instrument {name!r}; known are {known}")

    def recognise(self, cards: Cards) -> Instrument:
        """Return the first instrument that this header fits, else the last, which is the generic one."""
        return next((one for one in self.instruments if one.fits(cards)), self.instruments[-1])


def mapped(cards: Cards, keys: list[Key], unit: str) -> Found[float] | None:
    """Return the first of an instrument's own keys that has a finite number, in `unit`."""
    for key in keys:
        found = cards.finite(key.key)
        if found is None:
            continue
        try:
            return Found(convert(found.value, key.unit, unit), found.key)
        except ValueError as error:
            cards.findings.fault(f"{key.key}: {one_line(error)}")
    return None


def read_directory(directory: Traversable | Path) -> dict[str, Instrument]:
    """Return the descriptions in a directory by name; raise `InstrumentError` naming the file and the key."""
    if not directory.is_dir():
        raise InstrumentError(f"{directory}: no such directory; `instruments` names one with *.toml files")
    files = sorted((one for one in directory.iterdir() if one.name.endswith(".toml")), key=lambda one: one.name)
    return {instrument.name: instrument for instrument in map(read_instrument, files)}


def read_instrument(file: Traversable | Path) -> Instrument:
    """Return the description in one file; raise `InstrumentError` as `read_directory`."""
    try:
        return Instrument.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise InstrumentError(f"{file}: {'; '.join(_problems(error.errors()))}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InstrumentError(f"{file}: not readable as TOML: {error}") from None


def _problems(errors: Iterable[Any]) -> list[str]:
    return [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors]


def _any_fits(cards: Cards, key: str, patterns: list[str]) -> bool:
    found = cards.text(key)
    return found is not None and any(fnmatchcase(found.value.upper(), pattern.upper()) for pattern in patterns)
