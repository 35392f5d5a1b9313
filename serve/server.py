"""The process: a socket that is bound before anything loads, uvicorn on it, and an orderly end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from edgespec.errors import EdgespecError
from edgespec.pair import MANIFEST, installed_versions

from .app import make_app
from .backend import Backend
from .service import Service
from .settings import Access, Limits, Served

_FORCE_S = 2.0
"""Beyond the grace that answers have: what their last words may take to be sent."""

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
"""What ends a server: Ctrl-C, a service manager, Ctrl-Break or a closed console window."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free. Raises EdgespecError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EdgespecError(
            f"'{host}' port {port} cannot be listened on: {reason}; choose another --port, or stop what uses it"
        ) from error


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def fingerprint(pair: Path) -> str:
    """Of the pair and the software that runs it: seeds repeat an answer under the same one at best."""
    versions = installed_versions("openvino-genai")
    content = (pair / MANIFEST).read_bytes() + repr(sorted(versions.items())).encode()
    return f"fp_{hashlib.sha256(content).hexdigest()[:12]}"


class Server(uvicorn.Server):
    """uvicorn, which tells the service when the end begins, and ends itself when loading failed."""

    def __init__(self, service: Service, access: Access, on_ready: Callable[[], None]) -> None:
        app: ASGIApp = make_app(service, access)
        limits = service.limits
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                server_header=False,
                lifespan="off",
                proxy_headers=False,  # nobody's word for who asks
                timeout_keep_alive=30,
                timeout_graceful_shutdown=max(1, round(limits.grace_s + _FORCE_S)),
                limit_concurrency=limits.connections,
                ws="none",
            )
        )
        self._service = service
        self._on_ready = on_ready
        self.problem: BaseException | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._service.keep(asyncio.ensure_future(self._loaded()))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.drain()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals begin the orderly end, and that is all they do. uvicorn's own raises them again when its loop has
        ended, and a SIGTERM then ends the process before the models are closed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in _ENDING}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    async def _loaded(self) -> None:
        try:
            await asyncio.to_thread(self._service.backend.wait_until_ready)
            self._on_ready()
        except asyncio.CancelledError:  # the end came first
            raise
        except BaseException as error:
            self.problem = error
            self.should_exit = True


def serve(
    backend: Callable[[], Backend],
    pair: Path,
    listening: socket.socket,
    *,
    served: Served,
    access: Access,
    limits: Limits,
    on_ready: Callable[[Backend], None] = lambda _: None,
) -> None:
    """Serve until a signal comes (Ctrl-C, SIGTERM; on Windows Ctrl-Break too), then end in order and return, the
    models closed. While they are closed, which may wait for a step or for loading, signals do what they do by default.

    backend: called first; it loads in the background, and until it has, /health and requests get 503. on_ready: called
    on the event loop once it has. Raises EdgespecError when it cannot load, KeyboardInterrupt when a second Ctrl-C cut
    answers short.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    opened = backend()
    try:
        service = Service(opened, served, limits, fingerprint(pair), int(time.time()))
        server = Server(service, access, lambda: on_ready(opened))
        server.run([listening])
        if server.problem is not None:
            raise server.problem
        if server.force_exit:
            raise KeyboardInterrupt
    finally:
        listening.close()
        opened.close()
