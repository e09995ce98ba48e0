"""Transients as rows: those of the store, and those that the mesh announced a moment ago, with what people said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from trapline.common.ids import text_id
from trapline.common.sky import separation_deg
from trapline.common.store.pages import Filters
from trapline.dashboard.window import Entry
from trapline.schemas.transients import Transients
from trapline.schemas.triage import Triage

Row = dict[str, Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COPIED = (
    "kind", "role", "ra_deg", "dec_deg", "pos_err_ew_deg", "pos_err_ns_deg", "flux_peak", "flux_peak_err", "unit"
)  # fmt: skip


def live_rows(entries: Iterable[Entry]) -> dict[UUID, Row]:
    """Return what the channel says of each event, by its id: opened by its first record, renewed by the later ones."""
    rows: dict[UUID, Row] = {}
    for entry in sorted(entries, key=lambda e: e.t_us):
        if not isinstance(entry.header, Transients):
            continue
        event = entry.header
        key = UUID(bytes=event.event_id)
        if key not in rows:
            rows[key] = _opened(key, event)
        rows[key] |= {
            "alert_type": event.alert_type,
            "significance": event.significance,
            "reason": _reason(event),
            "place": entry.place,
        }
    return rows


def _opened(key: UUID, event: Transients) -> Row:
    return {
        "key": key,
        "transient": key,
        "dataset": event.dataset,
        "object": UUID(bytes=event.object_id),
        "image": UUID(bytes=event.image_id),
        "t": _EPOCH + timedelta(microseconds=event.t_us),
        "band": event.band.name,
        "opening": event.alert_type == "initial",
        "verdict": None,
        "note": None,
        "person": None,
        **{name: getattr(event, name) for name in _COPIED},
    }


def _reason(event: Transients) -> Row:
    limits = None if event.limits_image is None else text_id(event.limits_image)
    return {
        "rule": dict(event.rule),
        "certain": event.certain,
        "limits_image": limits,
        "image": text_id(event.image_id),
        "n": event.n,
        "v": event.v,
        "eta": event.eta,
    }


def time_of(t_us: int | None) -> datetime | None:
    """Return an aware time of us since 1970-01-01 UTC."""
    return None if t_us is None else _EPOCH + timedelta(microseconds=t_us)


def said(entries: Iterable[Entry]) -> dict[UUID, Triage]:
    """Return the last verdict on each event that the channel still has."""
    last: dict[UUID, Triage] = {}
    for entry in entries:
        if isinstance(entry.header, Triage):
            key = UUID(bytes=entry.header.event_id)
            if key not in last or last[key].t_us <= entry.header.t_us:
                last[key] = entry.header
    return last


def joined(
    stored: Iterable[Row],
    live: Mapping[UUID, Row],
    verdicts: Mapping[UUID, Triage],
    filters: Filters,
    *,
    newest: bool,
    by_key: bool = True,
) -> list[Row]:
    """Return the rows of a page: what is stored, renewed by what the channels said since.

    Parameters
    ----------
    stored
        Rows of the store.
    live, verdicts
        What the channels have.
    filters
        Of the page: rows that only the channel has must pass them as well.
    newest
        Whether this is the first page, which events that are not stored yet belong to.
    by_key
        Whether the newest come first; else what is stored stays in its order.
    """
    rows = {row["key"]: _decoded(row) for row in stored}
    # A sorted list shows what it is sorted by.
    renewed = ("alert_type", "significance", "reason", "place") if by_key else ("place",)
    for key, row in live.items():
        if key in rows:
            rows[key] |= {name: row[name] for name in renewed}
        elif newest and row["opening"] and (not rows or key > min(rows)):
            rows[key] = dict(row)
    for key in rows.keys() & verdicts.keys():
        v = verdicts[key]
        rows[key] |= {"verdict": v.verdict, "note": v.note, "person": v.person}
    found = sorted(rows.values(), key=lambda row: row["key"], reverse=True) if by_key else rows.values()
    return [row for row in found if passes(row, filters)]


def passes(row: Row, filters: Filters) -> bool:
    """Tell whether a row passes the filters that a channel's newest rows can change or miss."""
    exact = all(
        getattr(filters, name) in (None, "", row[name]) for name in ("kind", "alert_type", "role", "band", "object")
    )
    verdict = filters.verdict in (None, "", row["verdict"] or "undecided")
    strong = filters.significance_min is None or row["significance"] >= filters.significance_min
    late_enough = filters.since is None or row["t"] >= filters.since
    early_enough = filters.until is None or row["t"] < filters.until
    cone = filters.cone
    near = cone is None or separation_deg(row["ra_deg"], row["dec_deg"], cone.ra_deg, cone.dec_deg) <= cone.radius_deg
    ours = filters.dataset in (None, row.get("dataset", filters.dataset))
    return ours and exact and verdict and strong and late_enough and early_enough and bool(near)


def _decoded(row: Row) -> Row:
    reason = row["reason"]
    known = msgspec.json.decode(reason) if isinstance(reason, str) else reason
    # A store that somebody else filled may say less.
    return {**row, "reason": {"rule": {}, "certain": None, "limits_image": None, **known}, "place": None}


def why(row: Row) -> str:
    """Return in one sentence why an event was announced."""
    rule, kind, unit = row["reason"].get("rule", {}), row["kind"], row["unit"]
    if kind == "new_source" and "limit_low" in rule:
        sure = "must have shown" if row["reason"].get("certain") else "may have shown"
        limit = rule.get("limit_high" if row["reason"].get("certain") else "limit_low", float("nan"))
        return f"{row['flux_peak']:.3g} {unit} where an earlier image {sure} all above {limit:.3g}"
    if kind in ("flare", "fade") and "mean" in rule:
        return f"{row['significance']:.1f} sigma from the mean of {rule['mean']:.3g} {unit} before it"
    if kind == "variable" and {"v_now", "v_threshold", "eta_now", "eta_threshold"} <= rule.keys():
        over = f", over {rule['n_now']:.0f} points" if "n_now" in rule else ""
        limits = (f"{rule['v_threshold']:.3g}", f"{rule['eta_threshold']:.3g}")
        return (
            f"V {rule['v_now']:.3g} and eta {rule['eta_now']:.3g}, where {limits[0]} and {limits[1]} are limits{over}"
        )
    if kind == "disappeared" and {"misses", "missed_limit"} <= rule.keys():
        once = f"; it once had {rule['brightest']:.3g} {unit}" if "brightest" in rule else ""
        return f"not in {rule['misses']:.0f} images that show all above {rule['missed_limit']:.3g} {unit}{once}"
    words = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in rule.items() if value is not None]
    return ", ".join(words) or "announced without a reason"
