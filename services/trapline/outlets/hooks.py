"""Web hooks and commands: an event as JSON, to an HTTP server or to a program's standard input."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.error
import urllib.request

from trapline.common.ids import text_id
from trapline.common.runtime.sink import Unavailable
from trapline.outlets.config import CommandOutlet, WebhookOutlet
from trapline.outlets.core import as_json
from trapline.outlets.delivery import Deliver
from trapline.schemas.message import Message
from trapline.schemas.transients import Transients

_TRY_AGAIN = (408, 425, 429)
_TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h


class RefusedError(RuntimeError):
    """The other side does not want this event, now or later. The text says what it answered."""


def webhook(outlet: WebhookOutlet) -> Deliver:
    """Return what posts events to a URL.

    An answer of 2xx is success. No answer, 408, 425, 429 and 5xx are tried again; any other is a refusal.
    The header ``Idempotency-Key`` has the record id: an event that comes twice can be told by it.
    """

    async def deliver(event: Message[Transients]) -> None:
        await asyncio.to_thread(_post, outlet, as_json(event), text_id(event.header.id))

    return deliver


def _post(outlet: WebhookOutlet, body: bytes, key: str) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, **outlet.headers}
    # The scheme is http or https: pydantic's HttpUrl has no other.
    request = urllib.request.Request(str(outlet.url), body, headers, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=outlet.timeout_s) as answer:  # noqa: S310
            answer.read(1)
    except urllib.error.HTTPError as error:
        with error:
            text = f"{outlet.url} answered {error.code} {error.reason}"
        if error.code >= 500 or error.code in _TRY_AGAIN:
            raise Unavailable(text) from None
        raise RefusedError(text) from None
    except OSError as error:
        raise Unavailable(f"{outlet.url}: {getattr(error, 'reason', error)}") from None


def command(outlet: CommandOutlet) -> Deliver:
    """Return what starts a program per event.

    Exit code 0 is success. 75 (EX_TEMPFAIL) and a program that cannot be started are tried again; any other code is a
    refusal, and so is one that takes longer than `timeout_s`, which is killed.
    """

    async def deliver(event: Message[Transients]) -> None:
        try:
            child = await asyncio.create_subprocess_exec(
                *outlet.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise Unavailable(f"{outlet.command[0]}: {error.strerror}") from None
        try:
            async with asyncio.timeout(outlet.timeout_s):
                _, said = await child.communicate(as_json(event))
        except TimeoutError:
            raise RefusedError(f"{outlet.command[0]} took longer than {outlet.timeout_s:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        _judge(outlet.command[0], child.returncode, said)

    return deliver


def _judge(program: str, code: int | None, said: bytes) -> None:
    last = said.decode(errors="replace").strip().rpartition("\n")[2][:200]
    text = f"{program} ended with {code}" + (f": {last}" if last else "")
    if code == _TEMPORARY_FAILURE:
        raise Unavailable(text)
    if code != 0:
        raise RefusedError(text)
