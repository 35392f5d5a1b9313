"""What the routes of one server share: the model, the line in front of it, the limits, the counts."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING, Any

from .backend import Backend
from .desk import Desk
from .errors import closing
from .metrics import Metrics
from .settings import Limits, Served

if TYPE_CHECKING:
    from .answering import Answering

log = logging.getLogger("edgespec.serve")


class Service:
    def __init__(self, backend: Backend, served: Served, limits: Limits, fingerprint: str, created: int) -> None:
        """fingerprint, created: of the model, as OpenAI's clients see them."""
        self.backend = backend
        self.served = served
        self.limits = limits
        self.fingerprint = fingerprint
        self.created = created
        self.desk = Desk(backend.slots, limits.waiting, limits.queue_s)
        self.metrics = Metrics(lambda: self.desk.running, lambda: self.desk.waiting)
        self.answering: set[Answering] = set()
        """Those whose turn has come."""
        self._tasks: set[asyncio.Future[Any]] = set()

    def keep(self, task: asyncio.Future[Any]) -> None:
        """A task that nobody waits for, held until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def drain(self) -> None:
        """Shutdown begins: no further turns, those in line are refused; what runs has grace_s seconds, then it ends at
        its next step."""
        self.desk.close()
        asyncio.get_running_loop().call_later(self.limits.grace_s, self.stop_all)

    def stop_all(self) -> None:
        for one in list(self.answering):
            one.stop(closing())

    def failed(self, error: Exception) -> None:
        """An error that nobody foresaw: where it came from is logged, and its words only if prompts are, for they may
        quote one."""
        where = "".join(traceback.format_tb(error.__traceback__))
        words = f": {error}" if self.served.log_prompts else ""
        log.error("a request failed, %s%s\n%s", type(error).__name__, words, where)
