"""What the peer of a request may do: consulted by the relay for each request, with the key that sent it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from trapline.common.relay.requests import (
    Ack,
    AnyRequest,
    Append,
    Cursor,
    Extend,
    Fetch,
    Find,
    Forget,
    Info,
    Item,
    Lease,
    Leave,
    Nack,
    Position,
    Positions,
    Read,
    RequestError,
    Tick,
)
from trapline.common.security.trust import Rights, TrustList

REFRESH_S = 0.5  # how long a change of the trust list may go unnoticed by peers that are connected

Peer = str | None
"""Public key of who asks; empty when there is none. None is a program of this host, which may do everything."""


class Guard:
    """Holds each request against the rights of its key.

    Parameters
    ----------
    trusted
        The keys and their rights, looked at again while requests come. Without it no key is trusted.
    counters
        Where refusals are counted, by kind.
    """

    def __init__(self, trusted: TrustList | None, counters: Counter[str]) -> None:
        self._trusted = trusted
        self._counters = counters
        self._refresh_at = 0.0

    def check(self, peer: Peer, request: AnyRequest) -> None:
        """Return when a peer may ask this.

        Raises
        ------
        RequestError
            When it may not; the text says what it would need.
        """
        if peer is None:
            return
        rights = self._rights(peer)
        name = _role(request)
        if name is not None and not rights.may_be(name):
            raise self._refused("group", f"be the group or reader {name}", rights, "--groups")
        if isinstance(request, Append | Tick):
            if not rights.may_publish(request.channel):
                raise self._refused("publish", f"publish on {request.channel}", rights, "--publish")
        elif unreadable := sorted({c for c in _channels(request) if not rights.may_read(c)}):
            raise self._refused("read", f"read {', '.join(unreadable)}", rights, "--read")

    def visible(self, peer: Peer, values: dict[str, Any]) -> dict[str, Any]:
        """Return what a peer may see of an answer: no row of a channel that it may not read."""
        if peer is None:
            return values
        may_read = self._rights(peer).may_read
        lists = {key: rows for key, rows in values.items() if isinstance(rows, list)}
        return values | {key: [row for row in rows if may_read(row["channel"])] for key, rows in lists.items()}

    def _rights(self, peer: str) -> Rights:
        if self._trusted and time.monotonic() >= self._refresh_at:
            self._trusted.refresh()
            self._refresh_at = time.monotonic() + REFRESH_S
        rights = self._trusted.keys.get(peer) if self._trusted else None
        if rights is None:
            self._counters["refused_untrusted"] += 1
            raise RequestError("this relay does not trust your key, or does so no more")
        return rights

    def _refused(self, kind: str, what: str, rights: Rights, option: str) -> RequestError:
        self._counters[f"refused_{kind}"] += 1
        way_out = f"`trapline keys trust {rights.name} {option} ...` on the relay's host allows it"
        return RequestError(f"{rights.name} may not {what}; {way_out}")


def _role(request: AnyRequest) -> str | None:
    """Return the group or the named reader in whose name a request is made, if there is one."""
    match request:
        case Lease() | Extend() | Ack() | Nack() | Leave():
            return request.group
        case Position() | Positions():
            return request.reader
        case Forget():
            return request.name
        case _:
            return None


def _channels(request: AnyRequest) -> Iterable[str]:
    """Return the channels whose records, or whose state, a request is about."""
    match request:
        case Find():
            return (request.channel,)
        case Lease():
            return request.channels
        case Fetch():
            places: Iterable[Cursor | Item | Read] = request.cursors
        case Position():
            places = request.reads
        case Ack() | Nack():
            places = request.items
        case Extend():
            places = (*request.items, *request.handling)
        case Info() | Leave() | Positions() | Forget() | Append() | Tick():
            places = ()
    return (place.channel for place in places)
