"""Channels `status` and `dead_letters`: how the services are, and what they could not take."""

from __future__ import annotations

from typing import Annotated

import msgspec

from trapline.schemas.header import Header, Place, Seconds, doc

STATUS_SCHEMA = "trapline.status/1.0"
DEAD_LETTERS_SCHEMA = "trapline.dead_letters/1.0"


class Reading(msgspec.Struct, omit_defaults=True):
    """How far a service has read one partition."""

    channel: str
    partition: str
    seq: Annotated[int, doc("next seq that it will read", ge=0)]
    lag_records: Annotated[int, doc("records behind the end of the partition", ge=0)] = 0


class Status(Header, kw_only=True, omit_defaults=True):
    """Header of a record on `status`: one heartbeat."""

    service: str
    replica: str
    host: str
    pid: Annotated[int, doc("process id", ge=0)]
    version: Annotated[str, doc("version of the package")]
    state: Annotated[str, doc("starting, running, waiting, draining or stopped")]
    started_us: Annotated[int, doc("start of the process, since 1970-01-01 UTC", "us")]
    t_us: Annotated[int, doc("time of this heartbeat, since 1970-01-01 UTC", "us")]
    health_port: Annotated[int | None, doc("HTTP port of /livez, /readyz and /metrics; absent without one")] = None
    reading: Annotated[list[Reading], doc("positions in the channels that it reads")] = []
    written: Annotated[dict[str, int], doc("next seq of each partition that it writes, by channel/partition")] = {}
    counters: Annotated[dict[str, float], doc("totals since the start; every discard has its own")] = {}
    sources: Annotated[
        dict[str, dict[str, float]], doc("how each input from outside the mesh is: numbers by name, by source")
    ] = {}
    busy_s: Annotated[Seconds, doc("time spent in handlers since the start", "s")] = 0.0
    last_error: Annotated[str | None, doc("last error in one line; absent when none")] = None


class DeadLetter(Header, kw_only=True, omit_defaults=True):
    """Header of a record on `dead_letters`: an input that a service could not take."""

    service: str
    place: Annotated[Place, doc("place of the input")]
    image_id: Annotated[bytes | None, doc("image of the input; absent when it is unreadable")] = None
    input: Annotated[bytes, doc("the input's own header frame, as it was")] = b""
    traceback: Annotated[str, doc("what the handler raised, or how it died")]
    attempts: Annotated[int, doc("how often it was tried", ge=1)] = 1
