"""Heartbeats of services that exist in tests only."""

from __future__ import annotations

from trapline.common.ids import fact_id
from trapline.schemas.status import STATUS_SCHEMA, Reading, Status

START_US = 1_767_225_600_000_000
S = 1_000_000


def report(service="associator", replica="0", *, at_s=0.0, pid=100, state="running", done=0.0, **more):
    """Return the report that a service made so many seconds after `START_US`."""
    t_us = START_US + int(at_s * S)
    counters = {"steps": done, **more.pop("counters", {})}
    return Status(
        schema=STATUS_SCHEMA,
        id=fact_id(t_us, "status", service, replica, pid, t_us),
        service=service,
        replica=replica,
        host="telescope",
        pid=pid,
        version="0.1.0",
        state=state,
        started_us=more.pop("started_us", START_US),
        t_us=t_us,
        reading=[Reading(**r) for r in more.pop("reading", [])],
        counters=counters,
        **more,
    )


def course(seconds, rate_hz=2.0, **more):
    """Return a report a second, of a service that works at a steady rate."""
    return [report(at_s=t, done=rate_hz * t, busy_s=0.25 * t, **more) for t in range(seconds)]
