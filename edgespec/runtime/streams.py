"""An answer on its way: an iterator for threads, an asynchronous one for event loops."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from .results import Piece, Result
from .text import GrowingText, Words
from .worker import Job, Worker, patiently

Steps = list[tuple[Sequence[int], Sequence[bool]]]
"""What the worker sends: of each step ids, and of each id whether it came from the draft."""


class _Pieces:
    """Turns what the worker sends into pieces: a step's drafted tokens, then the target's own; the text left over comes
    before the result."""

    def __init__(self, words: Words) -> None:
        self._text = GrowingText(words.spell)

    def of(self, item: Any) -> list[Piece | Result]:
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, Result):
            rest = self._text.rest()
            return [Piece(rest, (), ()), item] if rest else [item]
        steps: Steps = item
        pieces: list[Piece | Result] = []
        for tokens, flags in steps:
            for drafted, run in groupby(zip(tokens, flags, strict=True), key=itemgetter(1)):
                ids = tuple(token for token, _ in run)
                pieces.append(Piece(self._text.add(ids), ids, (drafted,) * len(ids)))
        return pieces


class Stream(Iterator[Piece | Result]):
    """Pieces as they come, those of steps within 16 ms together, then the `Result`. The work goes on whether or not
    they are read; leaving the loop, `close` or losing the stream ends it at its next step."""

    def __init__(self, worker: Worker, work: Any, words: Any) -> None:
        """words: called when the first item is there, which is after loading."""
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._words = words
        self._pieces: _Pieces | None = None
        self._ready: list[Piece | Result] = []
        self.result: Result | None = None
        """The result, once the stream has ended."""
        self._ended = False
        self._job = Job(work, self._items.put)
        worker.refuse_own_thread()
        worker.submit(self._job)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece | Result:
        if not self._ready:
            if self._ended:
                raise StopIteration
            item = patiently(self._items, self._job)
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._pieces = self._pieces or _Pieces(self._words())
            self._ready = self._pieces.of(item)
        first = self._ready.pop(0)
        if isinstance(first, Result):
            self.result, self._ended = first, True
        return first

    def close(self) -> None:
        """End the answer at its next step; what it said so far is dropped here."""
        self._ended = True
        self._ready = []
        self._job.cancel()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        job = getattr(self, "_job", None)
        if job is not None:
            job.cancel()


class AsyncStream(AsyncIterator[Piece | Result]):
    """The same for one event loop. A task that is cancelled while it waits ends the answer too."""

    def __init__(self, worker: Worker, work: Any, words: Any) -> None:
        loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._words = words
        self._pieces: _Pieces | None = None
        self._ready: list[Piece | Result] = []
        self.result: Result | None = None
        self._ended = False
        put = self._items.put_nowait

        def deliver(item: Any) -> None:
            loop.call_soon_threadsafe(put, item)

        self._job = Job(work, deliver)
        worker.submit(self._job)

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Piece | Result:
        if not self._ready:
            if self._ended:
                raise StopAsyncIteration
            try:
                item = await self._items.get()
            except BaseException:
                self._job.cancel()
                raise
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._pieces = self._pieces or _Pieces(self._words())
            self._ready = self._pieces.of(item)
        first = self._ready.pop(0)
        if isinstance(first, Result):
            self.result, self._ended = first, True
        return first

    def stop(self) -> None:
        """End the answer at its next step; what came until then, and its result, are still given."""
        self._job.cancel()

    async def aclose(self) -> None:
        """End the answer at its next step."""
        self._ended = True
        self._ready = []
        self._job.cancel()

    def __del__(self) -> None:
        job = getattr(self, "_job", None)
        if job is not None:
            job.cancel()
