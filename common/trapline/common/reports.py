"""What a heartbeat says of a service's work, for everyone who shows it."""

from __future__ import annotations

import re

from trapline.schemas.status import Status

_DONE = ("handled", "steps", "records_stored", "images_received", "images_sent")
_DISCARD = re.compile(
    r"(^|_)(lost|dropped|refused|damaged|forced|unrecorded|letters|skipped|unknown|failures|errors)(_|$)"
)


def work_done(report: Status) -> float:
    """Return how much a service has done since its start, in its own records."""
    for name in _DONE:
        if name in report.counters:
            return report.counters[name]
    return sum(value for name, value in report.counters.items() if name.startswith("published_"))


def discards(report: Status) -> dict[str, float]:
    """Return the counters of what a service threw away or could not take, those that are not zero."""
    return {name: value for name, value in report.counters.items() if value and _DISCARD.search(name)}
