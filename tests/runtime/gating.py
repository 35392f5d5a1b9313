"""An answer that waits in the middle, so that a test can do something meanwhile."""

from __future__ import annotations

import threading

from edgespec.runtime.answering import Answering


class Gate:
    """Holds an answer behind a step until it is opened, or the answer is cancelled. step: which one, the first is 1."""

    def __init__(self) -> None:
        self.step = 1
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.tokens: list[int] = []
        """What the answer held there had said."""
        self.handed = 0
        """How many of them were handed to who reads; the others come with the next step or at the end."""

    def hold(self, answering: Answering) -> None:
        self.tokens = list(answering.tokens)
        self.handed = len(self.tokens) - sum(len(ids) for ids, _ in answering._unsent)
        self.reached.set()
        while not self.opened.wait(0.01) and not answering.job.cancelled:
            pass
