"""How requests are offered. Closed loop: a fixed number of clients, each asks again when it has its answer, so a slow
server is asked less. Open loop: at random times at a fixed rate, so a slow server's line grows, as with real users.

In an open loop a request's wait counts from when it was due, not from when a busy client got round to sending it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from edgespec.errors import EdgespecError

from .rows import Kind, LevelRecord

Send = Callable[[int, float], Awaitable[bool]]
"""Sends one request: the client's number and when it was due; whether it was answered."""

_REFUSED_S = 0.25
"""How long a client of a closed loop waits after a refusal, so that it does not ask thousands of times a second."""


@dataclass(frozen=True)
class Level:
    kind: Kind
    amount: float

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.amount:g}"

    @property
    def record(self) -> LevelRecord:
        return LevelRecord(kind=self.kind, amount=self.amount, name=self.name)

    @property
    def words(self) -> str:
        if self.kind == "closed":
            return "1 client" if self.amount == 1 else f"{self.amount:g} clients"
        return f"{self.amount:g} requests/s"


def parse_clients(text: str) -> list[Level]:
    """`1,4,16`. Raises EdgespecError."""
    return [Level("closed", value) for value in _numbers(text, "--clients", whole=True)]


def parse_rates(text: str) -> list[Level]:
    """`0.5,2`: requests a second. Raises EdgespecError."""
    return [Level("open", value) for value in _numbers(text, "--rate", whole=False)]


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """When requests are due within `seconds`: a Poisson process, the same for the same seed."""
    draw = np.random.default_rng(seed)
    due: list[float] = []
    now = float(draw.exponential(1 / rate))
    while now < seconds:
        due.append(now)
        now += float(draw.exponential(1 / rate))
    return due


async def offer(level: Level, seconds: float, seed: int, send: Send, clock: Callable[[], float]) -> None:
    """Offer a level for so many seconds, then wait for the answers that are under way."""
    started = clock()
    if level.kind == "open":
        tasks = []
        for number, due in enumerate(arrivals(level.amount, seconds, seed)):
            await asyncio.sleep(max(0.0, started + due - clock()))
            tasks.append(asyncio.ensure_future(send(number, started + due)))
        await asyncio.gather(*tasks)
        return

    async def client(number: int) -> None:
        while clock() - started < seconds:
            if not await send(number, clock()):
                await asyncio.sleep(_REFUSED_S)

    await asyncio.gather(*(client(number) for number in range(int(level.amount))))


def _numbers(text: str, option: str, *, whole: bool) -> list[float]:
    kind = "whole numbers" if whole else "numbers"
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(math.isfinite(value) and 0 < value <= 10_000 for value in values):
        raise EdgespecError(f"{option} takes {kind} above 0 and at most 10,000, such as 1,4,16; got '{text}'")
    if whole and any(value != int(value) for value in values):
        raise EdgespecError(f"{option} takes whole numbers, such as 1,4,16; got '{text}'")
    return list(dict.fromkeys(values))
