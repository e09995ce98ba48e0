"""Channel `triage`: what people made of an event."""

from __future__ import annotations

from typing import Annotated, Literal

from trapline.schemas.header import Header, Id, doc

SCHEMA = "trapline.triage/1.0"


class Triage(Header, kw_only=True, omit_defaults=True):
    """Header of a record on `triage`: one verdict of a person. Of a person's verdicts on an event the last holds."""

    event_id: Annotated[Id, doc("the event, as in `transients`")]
    object_id: Id
    verdict: Annotated[Literal["accept", "reject", "undecided"], doc("undecided takes an earlier verdict back")]
    note: Annotated[str, doc("what the person says of it", max_length=2000)] = ""
    person: Annotated[str, doc("who says so; empty when nobody asked", max_length=80)] = ""
    t_us: Annotated[int, doc("when it was said, since 1970-01-01 UTC", "us")]
