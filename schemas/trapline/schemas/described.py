"""Channel `schemas`: what the messages of channels are that no release knows, as their plug-ins describe them."""

from __future__ import annotations

from typing import Annotated, Any

from trapline.schemas.header import Header, doc

SCHEMA = "trapline.schemas/1.0"


class Described(Header, kw_only=True, omit_defaults=True):
    """Header of a record on `schemas`: a channel and the message that it carries. The last one of a channel holds."""

    channel: Annotated[str, doc("name of the channel")]
    message: Annotated[str, doc('name and version of its message: "plugin.flares/1.0"')]
    json_schema: Annotated[str, doc("JSON Schema of the header as text, with the arrays under `x-frames`")]


class Unregistered(Header, kw_only=True, omit_defaults=True):
    """A header whose schema this program does not have: what is not in every header is in `fields`, unchecked."""

    fields: Annotated[dict[str, Any], doc("the message's own fields, as they were packed")] = {}
