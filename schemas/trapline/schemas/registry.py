"""Which messages exist: name and version, header, tables and planes."""

from __future__ import annotations

from dataclasses import dataclass

from trapline.schemas import described, images, lightcurves, sources, status, transients, triage, watchlist
from trapline.schemas.columns import Arrays, NewerSchemaError, Plane, SchemaError, Table
from trapline.schemas.header import Header


@dataclass(frozen=True, slots=True)
class Schema:
    """What a message is made of. Several channels may carry the same schema."""

    schema: str
    header: type[Header]
    tables: tuple[Table, ...] = ()
    planes: tuple[Plane, ...] = ()
    channel: str = ""

    @property
    def name(self) -> str:
        """Name without version: ``trapline.sources``."""
        return self.schema.partition("/")[0]

    @property
    def major(self) -> int:
        """Version up to which any reader understands it."""
        return int(self.schema.partition("/")[2].partition(".")[0])

    def check(self, arrays: Arrays) -> None:
        """Raise `SchemaError` naming the array that is missing or of the wrong type."""
        for table in self.tables:
            table.check(arrays)
        for plane in self.planes:
            plane.check(arrays)


BUILT_IN = (
    Schema(images.SCHEMA, images.Images, planes=(images.PIXELS, images.MASK, images.WEIGHT), channel="images"),
    Schema(sources.SCHEMA, sources.Sources, (sources.COLUMNS,), channel="sources"),
    Schema(
        lightcurves.SCHEMA,
        lightcurves.Lightcurves,
        (
            lightcurves.POINTS,
            lightcurves.STATES,
            lightcurves.PENDING,
            lightcurves.INHERITED,
            lightcurves.FEATURES,
            lightcurves.NEIGHBOURS,
        ),
        channel="lightcurves",
    ),
    Schema(transients.SCHEMA, transients.Transients, (transients.RECENT,), (transients.CUTOUT,), "transients"),
    Schema(triage.SCHEMA, triage.Triage, channel="triage"),
    Schema(
        transients.SUPPRESSED_SCHEMA, transients.Suppressed, (transients.RECENT,), (transients.CUTOUT,), "suppressed"
    ),
    Schema(watchlist.WATCHLIST_SCHEMA, watchlist.Watchlist, (watchlist.POSITIONS,), channel="watchlist"),
    Schema(watchlist.REMEASURE_SCHEMA, watchlist.Remeasure, (watchlist.POSITIONS,), channel="remeasure"),
    Schema(status.STATUS_SCHEMA, status.Status, channel="status"),
    Schema(status.DEAD_LETTERS_SCHEMA, status.DeadLetter, channel="dead_letters"),
    Schema(described.SCHEMA, described.Described, channel="schemas"),
)

_by_name: dict[str, Schema] = {schema.name: schema for schema in BUILT_IN}
_by_header: dict[type[Header], Schema] = {schema.header: schema for schema in BUILT_IN}


def register(schema: Schema) -> None:
    """Make a plug-in's message known to `encode` and `decode`.

    A built-in message on a channel of the plug-in's own has a header class of its own, and is decoded as before.
    """
    if _by_name.get(schema.name) not in BUILT_IN:
        _by_name[schema.name] = schema
    _by_header[schema.header] = schema


def is_known(text: object) -> bool:
    """Tell whether there is a schema of the name in ``name/major.minor``, of whatever version."""
    return str(text).partition("/")[0] in _by_name


def schema_of(header: type[Header]) -> Schema:
    """Return the schema of a header class; KeyError when it was never registered."""
    return _by_header[header]


def schema_named(text: object) -> Schema:
    """Return the schema that ``name/major.minor`` asks for, or raise `SchemaError` saying what is known."""
    name, _, version = str(text).partition("/")
    schema = _by_name.get(name)
    if schema is None:
        raise SchemaError(f"unknown message {text!r}; known are {', '.join(sorted(_by_name))}")
    major = version.partition(".")[0]
    if not major.isdecimal():
        raise SchemaError(f"message {text!r} has no version; expected {schema.schema!r}")
    if int(major) > schema.major:
        raise NewerSchemaError(
            f"message {text!r} is newer than this program, which reads {schema.schema!r}: upgrade it"
        )
    return schema
