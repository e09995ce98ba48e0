"""Post each transient to a web service: SkyPortal, a TOM, or whatever takes JSON over HTTP.

POST_URL=https://skyportal.example/api/sources POST_TOKEN=... trapline plugin deploy/plugins/post_events.py
trapline tail posted

Workers share the events (start more with --replica 1, ...). One that is killed leaves its event to another, and what it
had answered for is not posted again. In the moment between the post and the answer it can be, so each post carries the
event's id as ``Idempotency-Key``, and as the object's own id, which SkyPortal takes for the same object. While the
service is away the event is tried again for minutes; what it refuses becomes a dead letter with its words.
"""

import json
import os
import time
import urllib.error
import urllib.request
from typing import Annotated

import msgspec

from trapline.plugin import Event, Id, count, doc, publishes, subscribes

URL = os.environ.get("POST_URL", "http://127.0.0.1:5000/api/sources")
TOKEN = os.environ.get("POST_TOKEN", "")
PATIENCE_S = 200.0  # less than [runtime] max_runtime_s
TIMEOUT_S = 20.0
REFUSED_FOR_GOOD = range(400, 500)
ALREADY_THERE = 409


class Posted(msgspec.Struct):
    """An event that the service has."""

    event_id: Id
    status: Annotated[int, doc("HTTP status of its answer")]
    tries: Annotated[int, doc("how often it was posted until that answer")]


@subscribes("transients", group=True)
@publishes("posted", Posted)
def post(event: Event):
    """Post one event, and wait for the service if it is away."""
    if event.alert_type != "initial" or event.role == "test":
        count("not_posted")
        return None
    deadline, pause_s, tries = time.monotonic() + PATIENCE_S, 0.2, 1
    while True:
        status, words = send(event)
        if status < 300 or status == ALREADY_THERE:
            return Posted(event.event_id, status, tries)
        if status in REFUSED_FOR_GOOD or time.monotonic() > deadline:
            raise RuntimeError(f"{URL} answered {status} to event {event.event_id.hex()}: {words}")
        count("tried_again")
        time.sleep(pause_s)
        pause_s, tries = min(2 * pause_s, 10.0), tries + 1


def send(event):
    """Return (HTTP status, words) of one try; 599 when nobody answers."""
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"token {TOKEN}",
        "Idempotency-Key": event.header.id.hex(),
    }
    body = json.dumps(content(event)).encode()
    request = urllib.request.Request(URL, body, headers, method="POST")  # noqa: S310  the operator's own URL
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.read(300).decode(errors="replace")
    except OSError as error:
        return 599, str(error)


def content(event):
    """Return an event as SkyPortal's `sources` takes it; other services ignore what they do not know."""
    return {
        "id": f"TL{event.time.strftime('%Y%m%d')}-{event.object_id.hex()[-12:]}",
        "ra": event.ra_deg,
        "dec": event.dec_deg,
        "ra_err": event.pos_err_ew_deg,
        "dec_err": event.pos_err_ns_deg,
        "transient": True,
        "origin": event.producer,
        "detected_at": event.time.isot,
        "kind": event.kind,
        "significance": event.significance,
        "flux": event.flux_peak,
        "flux_err": event.flux_peak_err,
        "flux_unit": event.unit,
        "band": event.band.name,
        "event_id": event.event_id.hex(),
    }
