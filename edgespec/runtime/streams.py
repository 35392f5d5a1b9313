"""An answer on its way: an iterator for threads, an asynchronous one for event loops."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
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
    before the result, with which the stream ends."""

    def __init__(self, words: Callable[[], Words]) -> None:
        """words: called when the first item is there, which is after loading."""
        self._words = words
        self._text: GrowingText | None = None
        self._ready: list[Piece | Result] = []
        self.result: Result | None = None
        self.ended = False

    @property
    def due(self) -> bool:
        """Whether another item is wanted before the next piece can be given. False at the end too."""
        return not self._ready and not self.ended

    def take(self, item: Any) -> None:
        """Raises what went wrong, where that is the item."""
        if isinstance(item, BaseException):
            self.ended = True
            raise item
        self._text = self._text or GrowingText(self._words().spell)
        if isinstance(item, Result):
            rest = self._text.rest()
            self._ready += [Piece(rest, (), ()), item] if rest else [item]
            return
        steps: Steps = item
        for tokens, flags in steps:
            for drafted, run in groupby(zip(tokens, flags, strict=True), key=itemgetter(1)):
                ids = tuple(token for token, _ in run)
                self._ready.append(Piece(self._text.add(ids), ids, (drafted,) * len(ids)))

    def give(self) -> Piece | Result | None:
        """The next; None at the end."""
        if not self._ready:
            return None
        first = self._ready.pop(0)
        if isinstance(first, Result):
            self.result, self.ended = first, True
        return first

    def drop(self) -> None:
        self.ended = True
        self._ready = []


class Stream(Iterator[Piece | Result]):
    """Pieces as they come, those of steps within 16 ms together, then the `Result`. The work goes on whether or not
    they are read; leaving the loop, `close` or losing the stream ends it at its next step."""

    def __init__(self, worker: Worker, work: Any, words: Callable[[], Words]) -> None:
        """words: called when the first item is there, which is after loading."""
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pieces = _Pieces(words)
        self._job = Job(work, self._items.put)
        worker.refuse_own_thread()
        worker.submit(self._job)

    @property
    def result(self) -> Result | None:
        """The result, once the stream has ended."""
        return self._pieces.result

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece | Result:
        while self._pieces.due:
            self._pieces.take(patiently(self._items, self._job))
        if (first := self._pieces.give()) is None:
            raise StopIteration
        return first

    def close(self) -> None:
        """End the answer at its next step; what it said so far is dropped here."""
        self._pieces.drop()
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

    def __init__(self, worker: Worker, work: Any, words: Callable[[], Words]) -> None:
        loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._pieces = _Pieces(words)
        put = self._items.put_nowait

        def deliver(item: Any) -> None:
            loop.call_soon_threadsafe(put, item)

        self._job = Job(work, deliver)
        worker.submit(self._job)

    @property
    def result(self) -> Result | None:
        """The result, once the stream has ended."""
        return self._pieces.result

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Piece | Result:
        while self._pieces.due:
            try:
                item = await self._items.get()
            except BaseException:
                self._job.cancel()
                raise
            self._pieces.take(item)
        if (first := self._pieces.give()) is None:
            raise StopAsyncIteration
        return first

    def stop(self) -> None:
        """End the answer at its next step; what came until then, and its result, are still given."""
        self._job.cancel()

    async def aclose(self) -> None:
        """End the answer at its next step."""
        self._pieces.drop()
        self._job.cancel()

    def __del__(self) -> None:
        job = getattr(self, "_job", None)
        if job is not None:
            job.cancel()
