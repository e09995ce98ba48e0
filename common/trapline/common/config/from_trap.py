"""The configuration of a TraP job (releases 4 to 7) as a `mesh.toml`: what corresponds, and what does not."""

from __future__ import annotations

import configparser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trapline.common.config.errors import ConfigError

Value = str | int | float | bool | list[dict[str, str]]
Tables = dict[str, dict[str, Value]]


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() and "." not in text else value


def _truth(text: str) -> bool:
    return text.strip().lower() in ("true", "yes", "on", "1")


def _arcsec(text: str) -> str:
    return f"{_number(text)} arcsec"


_QUALITY = "image_ingest.quality"
_SAME: Mapping[tuple[str, str], tuple[str, str, Callable[[str], Value]]] = MappingProxyType(
    {
        ("persistence", "description"): ("mesh", "dataset", str),
        ("persistence", "rms_est_sigma"): (_QUALITY, "rms_clip_sigma", _number),
        # The region reaches one part in so many to each side of the middle.
        ("persistence", "rms_est_fraction"): (_QUALITY, "rms_region", lambda text: min(1.0, 2 / float(text))),
        ("persistence", "rms_est_history"): (_QUALITY, "rms_history", _number),
        ("persistence", "rms_est_max"): (_QUALITY, "rms_max", _number),
        ("persistence", "rms_est_min"): (_QUALITY, "rms_min", _number),
        ("persistence", "rms_rej_sigma"): (_QUALITY, "rms_history_sigma", _number),
        ("quality_lofar", "low_bound"): (_QUALITY, "noise_theory_min", _number),
        ("quality_lofar", "high_bound"): (_QUALITY, "noise_theory_max", _number),
        ("quality_lofar", "oversampled_x"): (_QUALITY, "beam_major_max_px", _number),
        ("quality_lofar", "elliptical_x"): (_QUALITY, "beam_ratio_max", _number),
        ("quality_lofar", "min_separation"): (_QUALITY, "avoid_deg", _number),
        ("source_extraction", "detection_threshold"): ("source_extractor", "detection_threshold", _number),
        ("source_extraction", "analysis_threshold"): ("source_extractor", "analysis_threshold", _number),
        ("source_extraction", "back_size_x"): ("source_extractor", "mesh_radio_px", _number),
        ("source_extraction", "force_beam"): ("source_extractor", "force_beam", _truth),
        ("source_extraction", "margin"): ("image_ingest", "margin_px", _number),
        ("source_extraction", "ew_sys_err"): ("source_extractor", "ew_sys_err_deg", _arcsec),
        ("source_extraction", "ns_sys_err"): ("source_extractor", "ns_sys_err_deg", _arcsec),
        ("source_extraction", "expiration"): ("associator", "expiration", _number),
        ("association", "deruiter_radius"): ("associator", "deruiter_radius", _number),
        ("association", "beamwidths_limit"): ("associator", "beamwidths_limit", _number),
        ("transient_search", "new_source_sigma_margin"): ("associator", "limit_margin_sigma", _number),
    }
)

_OTHERWISE: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("persistence", "dataset_id"): "a dataset is named, and a name that is there is continued",
        ("persistence", "bandwidth_max"): "list bands under [[image_ingest.bands]]",
        ("source_extraction", "back_size_y"): "the mesh is square: back_size_x is taken",
        ("source_extraction", "extraction_radius_pix"): "an angle is wanted: set image_ingest.extraction_radius_deg to "
        "this number of pixels times their size",
        ("source_extraction", "box_in_beampix"): "a forced fit takes the pixels of the beam",
        ("logging", "log_dir"): "logs are in `log` below mesh.data_directory",
        ("database", "password"): "is not written down: put it into ~/.pgpass, or the variable PGPASSWORD",
        ("database", "passphrase"): "was for MonetDB",
        ("database", "dump_backup_copy"): "use pg_dump; nothing is overwritten",
        ("parallelise", "method"): "services are processes of their own",
    }
)
_WHOLE_SECTIONS = {
    "image_cache": "images are in the journal of the channel `images` for as long as its retention says",
    "DEFAULT": "directories follow from mesh.data_directory",
}


@dataclass(slots=True)
class Translation:
    """Tables of a `mesh.toml`, and what was not translated with the reason."""

    tables: Tables = field(default_factory=dict[str, dict[str, Value]])
    remarks: list[str] = field(default_factory=list[str])

    def set(self, table: str, key: str, value: Value) -> None:
        """Set a key of a table."""
        self.tables.setdefault(table, {})[key] = value

    def text(self) -> str:
        """Return the file: remarks as comments first."""
        lines = [f"# {remark}" for remark in self.remarks]
        for table, values in self.tables.items():
            lines += ["", f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
        return "\n".join(lines).lstrip("\n") + "\n"


def translate(paths: list[Path], known: Callable[[str, str], bool]) -> Translation:
    """Return what the files `pipeline.cfg` and `job_params.cfg` of TraP amount to.

    Parameters
    ----------
    paths
        The files, in any order.
    known
        Whether this program has a key of a table: what it lacks is remarked.

    Raises
    ------
    ConfigError
        When a file cannot be read or a value is no number, naming it.
    """
    parser = _parsed(paths)
    result = Translation()
    for section in parser.sections():
        if section in _WHOLE_SECTIONS:
            result.remarks.append(f"[{section}]: {_WHOLE_SECTIONS[section]}")
            continue
        for key in parser[section]:
            if key not in parser.defaults():
                _translate(result, section, key, parser[section][key].strip("\"' "), known)
    _database(result, parser)
    _streams(result, parser)
    return result


def _parsed(paths: list[Path]) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";", "#"))
    for path in paths:
        try:
            parser.read_string(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            raise ConfigError(f"{path} is no configuration of TraP: {' '.join(str(error).split())}") from None
    return parser


def _translate(result: Translation, section: str, key: str, text: str, known: Callable[[str, str], bool]) -> None:
    name = f"[{section}] {key}"
    if (section, key) in _HANDLED:
        return
    if reason := _OTHERWISE.get((section, key)):
        result.remarks.append(f"{name} = {text}: {reason}" if key != "password" else f"{name}: {reason}")
    elif target := _SAME.get((section, key)):
        table, ours, convert = target
        if not known(table, ours):
            result.remarks.append(f"{name} = {text}: this release has no {table}.{ours}")
            return
        try:
            result.set(table, ours, convert(text))
        except ValueError:
            raise ConfigError(f"{name} = {text!r} is no number") from None
    elif not _set_more(result, section, key, text):
        result.remarks.append(f"{name} = {text}: nothing corresponds to it")


def _set_more(result: Translation, section: str, key: str, text: str) -> bool:
    """Set what takes more than a conversion; return whether this is such a key."""
    match section, key:
        case "source_extraction", "deblend_nthresh":
            levels = int(text or 0)
            result.set("source_extractor", "deblend", value=levels > 0)
            if levels:
                result.set("source_extractor", "deblend_levels", max(2, levels))
        case "logging", "debug":
            result.set("log", "level", "debug" if _truth(text) else "info")
        case "parallelise", "cores":
            if cores := int(text or 0):
                result.set("source_extractor", "replicas", cores)
        case _:
            return False
    return True


_HANDLED = {
    *(("database", key) for key in ("engine", "database", "user", "host", "port")),
    *(("pipeline", key) for key in ("mode", "hosts", "ports")),
}


def _database(result: Translation, parser: configparser.ConfigParser) -> None:
    section: Mapping[str, str] = parser["database"] if parser.has_section("database") else {}
    given = {key: value.strip("\"' ") for key, value in section.items()}
    if given.get("engine") == "monetdb":
        result.remarks.append("[database] engine = monetdb: only PostgreSQL; without a dsn an embedded server is used")
    elif given.get("database"):
        user = f"{given['user']}@" if given.get("user") else ""
        port = f":{given['port']}" if given.get("port") else ""
        result.set(
            "database", "dsn", f"postgresql://{user}{given.get('host') or 'localhost'}{port}/{given['database']}"
        )


def _streams(result: Translation, parser: configparser.ConfigParser) -> None:
    if "pipeline" not in parser or parser["pipeline"].get("mode", "batch").strip("\"' ") != "stream":
        return
    hosts, ports = (parser["pipeline"].get(key, "").strip("\"' ").split(",") for key in ("hosts", "ports"))
    addresses = [
        f"tcp://{h.strip() or 'localhost'}:{p.strip()}" for h, p in zip(hosts, ports, strict=False) if p.strip()
    ]
    result.set("image_ingest", "streams", [{"address": address} for address in addresses])


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return (
            "[" + ", ".join("{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in row.items()) + " }" for row in value) + "]"
        )
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)
