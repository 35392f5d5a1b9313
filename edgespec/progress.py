"""How a stage tells what it is doing, without knowing who listens: a terminal, a test, a window or nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One line of progress."""

    def advance(self, amount: float = 1) -> None: ...

    def describe(self, description: str) -> None: ...


class Progress(Protocol):
    """`task` shows a line while the block runs (`total` unknown: a spinner); `say` leaves one behind."""

    def task(self, description: str, total: float | None = None) -> AbstractContextManager[Task]: ...

    def say(self, message: str) -> None: ...


class SilentTask:
    """A Task that shows nothing."""

    def advance(self, amount: float = 1) -> None:
        pass

    def describe(self, description: str) -> None:
        pass


class Silent:
    """A Progress that shows nothing."""

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        yield SilentTask()

    def say(self, message: str) -> None:
        pass


SILENT = Silent()
