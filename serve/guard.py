"""The door: whose requests are let in at all. Plain ASGI, in front of every route.

Host header: a web page may have its own name resolve to this machine (DNS rebinding) and then read what a local server
says; its requests carry that name, so only names that mean this server pass. Origin header: a page elsewhere may post
to
this machine without reading the answer; browsers say where such a request comes from. Keys are compared in constant
time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import ApiError
from .settings import Access, is_loopback

GUARDED = ("/v1/", "/metrics")
"""Paths that need the key, where there is one. What is left tells nothing: the page, the API's description, health."""


class Guard:
    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._names = {"localhost", access.host.lower(), *(name.lower() for name in access.hosts)}
        self._key = None if access.api_key is None else _digest(access.api_key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = self._refusal(scope)
            if refusal is not None:
                response = JSONResponse(refusal.document(), refusal.status, headers=refusal.headers)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._ours(hosts[0]):
            return ApiError(
                421,
                "the Host header names another server; call this one by its address, or start it with "
                "--allow-host NAME",
                code="wrong_host",
            )
        origins = [value for name, value in headers if name == b"origin"]
        if any(_place_of(origin) != hosts[0].decode("latin-1").lower() for origin in origins):
            return ApiError(403, "pages of other origins may not call this server", code="wrong_origin")
        if self._key is not None and scope["path"].startswith(GUARDED):
            shown = [value for name, value in headers if name == b"authorization"]
            scheme, _, token = (shown[0] if len(shown) == 1 else b"").partition(b" ")
            right = hmac.compare_digest(_digest(token.strip()), self._key)
            if scheme.lower() != b"bearer" or not right:
                return ApiError(
                    401,
                    "this server needs its API key: Authorization: Bearer KEY",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        return None

    def _ours(self, header: bytes) -> bool:
        """Plain addresses cannot be rebound, so any passes where others may call; on loopback, loopback's own."""
        name = _name(header.decode("latin-1"))
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return is_loopback(str(address)) if self._access.loopback else True


def _name(host: str) -> str:
    """The name in a Host header, without its port; "" for one that is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return ""
    return (parts.hostname or "").lower().rstrip(".")


def _digest(key: bytes) -> bytes:
    """Of one length, whatever the key's: comparing takes the same time for all."""
    return hashlib.sha256(key).digest()


def _place_of(origin: bytes) -> str | None:
    """host:port of an Origin header, None for what is none."""
    try:
        return urlsplit(origin.decode("latin-1")).netloc.lower()
    except ValueError:
        return None
