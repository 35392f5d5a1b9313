"""Whose turn it is: a bounded line, from which clients are served in rotation.

Within a client, first come, first served; between clients, one request each in turn, so that one who posts a hundred
does not keep out one who posts a single request. A client is whom the body names (`user`), else a connection, which has
one request under way: among clients that name nobody, the line is plain. All of it on one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .errors import busy, closing, waited


class Desk:
    """slots: answers at once. waiting_at_most: requests in line. wait_s: how long one may be in it."""

    def __init__(self, slots: int, waiting_at_most: int, wait_s: float) -> None:
        self._slots = slots
        self._most = waiting_at_most
        self._wait_s = wait_s
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._closing = False
        self.running = 0
        self._recent_s = 1.0

    @property
    def waiting(self) -> int:
        return sum(len(line) for line in self._lines.values())

    @property
    def closed(self) -> bool:
        return self._closing

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Holds a slot while the block runs. Raises ApiError: 429 when the line is full or the wait was too long, 503
        when the server shuts down."""
        await self._enter(client)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        finally:
            self.running -= 1
            self._recent_s += 0.2 * (loop.time() - began - self._recent_s)
            self._next()

    def close(self) -> None:
        """No further turns: those in line are refused, those that have begun go on."""
        self._closing = True
        for line in self._lines.values():
            for ticket in line:
                if not ticket.done():
                    ticket.set_exception(closing())
        self._lines.clear()

    def require_place(self) -> None:
        """Raises ApiError as `turn` would at once: for what is not worth doing for a request that is refused."""
        if self._closing:
            raise closing()
        if not self._free and self.waiting >= self._most:
            raise busy(self._most, self._retry_s())

    @property
    def _free(self) -> bool:
        return self.running < self._slots and not self._lines

    async def _enter(self, client: str) -> None:
        self.require_place()
        if self._free:
            self.running += 1
            return
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(client, deque()).append(ticket)
        try:
            await asyncio.wait_for(asyncio.shield(ticket), self._wait_s)
        except BaseException as error:
            if ticket.done() and not ticket.cancelled() and ticket.exception() is None:
                self.running -= 1  # the turn had come at the same moment: to the next one
                self._next()
            else:
                ticket.cancel()
                self._leave(client, ticket)
            if isinstance(error, asyncio.TimeoutError):
                raise waited(self._wait_s) from None
            raise

    def _leave(self, client: str, ticket: asyncio.Future[None]) -> None:
        line = self._lines.get(client)
        if line is not None and ticket in line:
            line.remove(ticket)
            if not line:
                del self._lines[client]

    def _next(self) -> None:
        while self.running < self._slots and self._lines:
            client, line = next(iter(self._lines.items()))
            ticket = line.popleft()
            if line:
                self._lines.move_to_end(client)
            else:
                del self._lines[client]
            if not ticket.done():
                self.running += 1
                ticket.set_result(None)

    def _retry_s(self) -> int:
        """When the line has probably moved up by a quarter: from what the last answers took."""
        return max(1, min(60, round(self._recent_s * self._most / self._slots / 4)))
