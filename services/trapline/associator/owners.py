"""Before an associator begins: whether another one that runs owns the same part of the sky."""

from __future__ import annotations

import time
from collections.abc import Sequence

from trapline.associator.config import AssociatorConfig
from trapline.common.channel import RelayRefusedError, RelayUnreachableError
from trapline.common.channel.heartbeats import newest_reports
from trapline.common.config import ConfigError
from trapline.common.runtime.context import Backoff, Context
from trapline.schemas.status import Status

_LONG_SILENT_S = 60.0
_HEARTBEATS = 3.0  # without one for so long a process is taken for dead


async def refuse_other_owners(context: Context, settings: AssociatorConfig) -> None:
    """Return when no other associator is alive that owns some of this one's cells.

    Raises
    ------
    ConfigError
        When one is. Its heartbeats are waited for: one that was killed is in nobody's way.
    """
    first, backoff = dict[str, int](), Backoff()
    end = time.monotonic() + _HEARTBEATS * context.config.runtime.heartbeat_s
    while True:
        try:
            reports = await newest_reports(context.connection, await context.connection.info())
        except (RelayUnreachableError, RelayRefusedError) as error:
            context.trouble(error)
            if await context.pause(backoff.next_s()):
                return
            continue
        context.fine()
        others = [report for report in reports if _may_be_alive(report, context)]
        troubles = [(report, why) for report in others if (why := _conflict(report, context, settings))]
        alive = [why for report, why in troubles if report.t_us > first.setdefault(report.replica, report.t_us)]
        if alive:
            raise ConfigError(alive[0])
        if not troubles or time.monotonic() > end or await context.pause(backoff.next_s()):
            return


def _may_be_alive(report: Status, context: Context) -> bool:
    mine = report.service != context.service or report.replica == context.replica
    return not mine and report.state != "stopped" and time.time() - report.t_us / 1e6 < _LONG_SILENT_S


def _conflict(report: Status, context: Context, settings: AssociatorConfig) -> str | None:
    """Return what is wrong with another associator that is alive; None when each has its own cells."""
    who, owners = f"associator {report.replica!r} on {report.host}", _owners(settings)
    if not owners:
        return (
            f"{who} runs too, and each owns the whole sky: give each a part of it, [[associator.regions]] the same "
            "on every host"
        )
    if report.replica not in owners:
        return f"{who} runs too, and [[associator.regions]] names no region of it, but of {', '.join(owners)}"
    if report.config != context.config.fingerprint(context.service):
        return f"{who} runs with another [associator] table: it should be the same for all owners of regions"
    return None


def _owners(settings: AssociatorConfig) -> Sequence[str]:
    return [region.owner for region in settings.regions]
