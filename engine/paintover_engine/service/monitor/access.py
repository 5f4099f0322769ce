"""Who may see the page: a link that works once gives a browser a cookie; every request is checked before any work.

The page listens on loopback only. Other web pages in the same browser are kept out by the Host header (DNS rebinding),
by Origin and a SameSite cookie (forged requests), and by a content policy that lets the page load nothing but itself.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from paintover_engine.service.monitor.peers import is_strangers

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LINK_SECONDS = 600.0
COOKIE_SECONDS = 180 * 24 * 3600
LINKS = 16  # open at a time

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Access:
    """Creates links and cookies, and refuses requests without them.

    token: the daemon's secret, for programs; key: signs cookies, and outlives the daemon as they do."""

    def __init__(self, token: str, key: bytes) -> None:
        self._token = token
        self._key = key
        self._links: dict[str, float] = {}
        self.port = 0

    @property
    def cookie_name(self) -> str:
        """By port: browsers send cookies to every port of a host, and two engines on one machine must not share one."""
        return f"paintover-{self.port}"

    def link(self) -> str:
        """The path of a link that works once."""
        now = time.monotonic()
        self._links = {code: end for code, end in list(self._links.items())[1 - LINKS :] if end > now}
        code = secrets.token_urlsafe(24)
        self._links[code] = now + LINK_SECONDS
        return f"/open?link={code}"

    def redeem(self, code: str) -> str | None:
        """The cookie for a link's code; None for a code that was used, is too old, or never existed."""
        end = self._links.pop(code, 0.0)
        if end < time.monotonic():
            return None
        name = secrets.token_urlsafe(12)
        return f"{name}.{self._sign(name)}"

    def _sign(self, name: str) -> str:
        return hmac.new(self._key, _raw(name), hashlib.sha256).hexdigest()

    def refusal(self, request: web.Request) -> tuple[int, str] | None:
        """The HTTP status and reason that a request is refused with; None for an allowed one."""
        hosts = {f"{name}:{self.port}" for name in ("127.0.0.1", "localhost")}
        if request.host not in hosts:
            return 421, "This engine answers to 127.0.0.1 and localhost only."
        if is_strangers(request.transport):  # who may have the cookie: a port that is free again is anybody's
            return 403, "This engine belongs to another user."
        if self._bears_the_token(request):
            return None  # a program: no other page in a browser knows the token
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc not in hosts:
            return 403, "Requests from other pages are refused."
        if request.method != "GET" and request.headers.get("X-Paintover") != "1":
            return 403, "Requests that change something come from the page itself."
        if request.path != "/open" and not self._is_known(request):
            return 401, "This page needs a link: run `paintover monitor`."
        return None

    def _is_known(self, request: web.Request) -> bool:
        name, _, signature = request.cookies.get(self.cookie_name, "").partition(".")
        return bool(name) and _same(self._sign(name), signature)

    def _bears_the_token(self, request: web.Request) -> bool:
        return _same(request.headers.get("Authorization", ""), f"Bearer {self._token}")

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses before any work, and puts the headers on every answer."""
        if refused := self.refusal(request):
            response: web.StreamResponse = web.Response(status=refused[0], text=refused[1])
        else:
            response = await handler(request)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(_raw(one), _raw(other))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # a header may hold any bytes
