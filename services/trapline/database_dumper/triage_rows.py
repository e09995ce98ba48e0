"""Rows of `triage`: one per verdict of a person."""

from __future__ import annotations

from typing import Any

from trapline.database_dumper.values import as_text, as_time, as_uuid, dataset_id
from trapline.schemas.triage import Triage

COLUMNS = ("_id", "dataset", "transient", "object", "t", "verdict", "note", "person")


def triage_row(said: Triage) -> tuple[Any, ...]:
    """Return the values of `COLUMNS`, or raise `SchemaError` when the time does not fit."""
    return (
        *(as_uuid(i) for i in (said.id, dataset_id(said.dataset), said.event_id, said.object_id)),
        as_time(said.t_us, "t_us"),
        *(as_text(t) for t in (said.verdict, said.note, said.person)),
    )
