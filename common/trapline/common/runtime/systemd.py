"""What systemd is told of a process: that it is ready, how it is, that it lives, and that it stops.

The protocol is that of ``sd_notify(3)``: datagrams of ``KEY=value`` lines to the socket that ``NOTIFY_SOCKET`` names.
Without that variable nothing is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping

from trapline.common.runtime.context import Context

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""of systemd, for the process that it started and for no child of it"""

_LOOK_S = 1.0


class Systemd:
    """The service manager that started this process, if one did.

    Parameters
    ----------
    environment
        Of this process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in the kernel's own space of names, which begin with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(usec) / 1e6 if meant and usec.isdecimal() else None
        """how long it waits for a sign of life; None when it asks for none"""

    def __bool__(self) -> bool:
        return bool(self._address)

    def tell(self, **values: object) -> None:
        """Send some values; when nobody listens any more, nothing can be done about it."""
        text = "\n".join(f"{key}={value}" for key, value in values.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.sendto(text.encode(), self._address)


async def tell_for_ever(context: Context, systemd: Systemd) -> None:
    """Say that a process is ready once it has begun to work, and from then on how it is and that it lives.

    One that waits, for its relay or its store, is ready: it would only wait again if it were started again. The sign of
    life comes from the event loop, and only while the work says that it is alive too.
    """
    if not systemd:
        return
    interval_s = min(_LOOK_S, (systemd.watchdog_s or _LOOK_S) / 3)
    ready, said = False, ""
    while True:
        state = _state(context)
        if not ready and context.state != "starting":
            systemd.tell(READY=1)
            ready = True
        if context.draining.is_set() and said != state:
            systemd.tell(STOPPING=1)
        if said != state:
            systemd.tell(STATUS=state)
            said = state
        if systemd.watchdog_s is not None and context.is_alive():
            systemd.tell(WATCHDOG=1)
        await asyncio.sleep(interval_s)


def _state(context: Context) -> str:
    """Return in one line how a process is."""
    reason = context.last_error if context.state == "waiting" else None
    return " ".join(f"{context.state}: {reason}".split()) if reason else context.state
