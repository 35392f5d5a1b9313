"""Ctrl-C, once and twice: the first asks the loop to save and stop, the second stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from edgespec.progress import SILENT, Progress

_ASKING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
"""SIGTERM is what a cluster sends before it takes a machine away; SIGBREAK is Windows' Ctrl-Break."""


class StopRequest:
    """`with StopRequest() as stop:` and ask `stop.asked` between steps.

    Signals can be handled on the main thread alone; elsewhere nothing is caught and `asked` stays false.
    """

    def __init__(self, progress: Progress = SILENT) -> None:
        self.asked = False
        self._progress = progress
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _ASKING:
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self._restore()
            raise KeyboardInterrupt
        self.asked = True
        self._progress.say("saving a checkpoint, then stopping; once more stops at once")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
