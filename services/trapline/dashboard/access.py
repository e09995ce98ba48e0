"""Who may see the pages, and what a browser may do with them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trapline.dashboard.config import DashboardConfig

COOKIE = "trapline_dashboard"
LOGIN = "/login"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # With "no-referrer" a browser says of no form of ours where it comes from (Origin: null), and it would be refused.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OPEN_PATHS = (LOGIN, "/static/", "/livez")


class Access:
    """Middleware: lets in whom the configuration allows, and puts the security headers on every answer.

    On loopback without a token the name in ``Host`` must be one of this host: a page from elsewhere that got its own
    name to mean 127.0.0.1 is turned away. What changes anything must come from a page of ours (``Origin``).
    """

    def __init__(self, app: ASGIApp, settings: DashboardConfig) -> None:
        self._app = app
        self._settings = settings
        self._proxies = [ip_network(one) for one in settings.proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if self._settings.proxy_user_header and not self._is_proxy(scope):
            # Anybody can write this header: it names nobody then, here and wherever it is looked for later.
            name = self._settings.proxy_user_header.lower().encode()
            scope["headers"] = [(key, value) for key, value in scope["headers"] if key != name]
        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = urlsplit(f"//{headers.get('host', '')}")
        if self._settings.is_open and host.hostname not in {*_LOOPBACK, self._settings.host}:
            return PlainTextResponse(f"open this page as 127.0.0.1, not as {host.hostname}\n", 421)
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin and urlsplit(origin).netloc != host.netloc:
            return PlainTextResponse("this came from a page of somebody else\n", 403)
        if any(scope["path"].startswith(path) for path in _OPEN_PATHS) or self._is_known(headers):
            return None
        if self._settings.token is None:
            text = (
                "the reverse proxy in front of this page must say who you are, from an address of [dashboard] proxies\n"
            )
            return PlainTextResponse(text, 401)
        if "text/html" in headers.get("accept", "") and scope["method"] == "GET":
            return RedirectResponse(LOGIN, 303)
        return PlainTextResponse("show the token: Authorization: Bearer TOKEN\n", 401)

    def _is_known(self, headers: Headers) -> bool:
        settings = self._settings
        if settings.proxy_user_header and headers.get(settings.proxy_user_header):
            return True
        if settings.token is None:
            return settings.is_open
        kind, _, shown = headers.get("authorization", "").partition(" ")
        secret = settings.token.get_secret_value()
        if kind.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), secret.encode()):
            return True
        return hmac.compare_digest(_cookie(headers).encode(), session_of(secret).encode())

    def _is_proxy(self, scope: Scope) -> bool:
        """Tell whether a request comes from a reverse proxy of ours."""
        try:
            address = ip_address((scope.get("client") or ("", 0))[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._proxies)


def session_of(secret: str) -> str:
    """Return what the cookie of someone who showed the token holds: it does not tell the token."""
    return hashlib.sha256(b"trapline dashboard\0" + secret.encode()).hexdigest()


def person_of(headers: Headers, settings: DashboardConfig) -> str:
    """Return the name that a reverse proxy gave; empty without one."""
    return headers.get(settings.proxy_user_header, "")[:80] if settings.proxy_user_header else ""


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
