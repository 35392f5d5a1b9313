"""One thread that does a pipeline's work in the order in which it was asked for.

Models are loaded, used and freed on this thread alone, whoever calls; so calls from threads and tasks queue by
themselves, a stream that nobody reads holds nobody up, and no code of the caller's runs inside an engine.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from ..errors import EdgespecError

Busy = Literal["queue", "refuse"]
"""What becomes of a call while another one is answered."""

SLICE_S = 0.2
"""How long a wait lasts before Ctrl-C is looked for, which Windows does not deliver into a wait."""


class Job:
    """Something to do, and where its outcome goes. `cancelled` is looked at by the work itself, at every step."""

    def __init__(self, work: Callable[[Job], Any], deliver: Callable[[Any], object]) -> None:
        """deliver: called on the worker's thread with what `work` sends and returns; with the exception it raised."""
        self.work = work
        self.deliver = deliver
        self.answers = True  # loading does not: `stop` is not meant for it, and nobody is busy with it
        self.cancelled = False
        self.asked_at = time.perf_counter()

    def cancel(self) -> None:
        self.cancelled = True


class Worker:
    """Threads may call any of it at once."""

    def __init__(self, busy: Busy = "queue") -> None:
        self._busy: Busy = busy
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending: list[Job] = []  # asked for and not done, the running one first
        self._closed = False
        self._thread = threading.Thread(target=_work, args=(self._jobs, self._done), name="edgespec", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def idle(self) -> bool:
        return not self._pending

    def submit(self, job: Job, *, always: bool = False) -> None:
        """Put `job` in line. always: it is no answer, so it is not refused for being busy, makes nobody busy, and ends
        by `close` alone. Raises EdgespecError."""
        job.answers = not always
        with self._lock:
            self.require_open()
            busy = any(other.answers and not other.cancelled for other in self._pending)
            if busy and self._busy == "refuse" and not always:
                raise EdgespecError(
                    "this pipeline is answering another call, and was made with busy='refuse'; wait for that one, stop "
                    "it, or use busy='queue'"
                )
            self._pending.append(job)
            self._jobs.put(job)

    def call(self, work: Callable[[Job], Any], *, always: bool = False) -> Any:
        """What `work` returns, once its turn has come; Ctrl-C cancels it and is raised here."""
        outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def deliver(what: Any) -> None:
            outcome.put((None, what) if isinstance(what, BaseException) else (what, None))

        job = Job(work, deliver)
        self.refuse_own_thread()
        self.submit(job, always=always)
        value, error = patiently(outcome, job)
        if error is not None:
            raise error
        return value

    def require_open(self) -> None:
        """Raises EdgespecError once `close` was called."""
        if self._closed:
            raise EdgespecError("this pipeline is closed; make a new SpecPipeline")

    def refuse_own_thread(self) -> None:
        """A wait on the worker's thread for the worker would never end."""
        if threading.current_thread() is self._thread:
            raise EdgespecError("a pipeline cannot be called from its own thread; call it from another one")

    def cancel_all(self) -> None:
        """The running answer and those in line end at their next step."""
        with self._lock:
            for job in self._pending:
                if job.answers:
                    job.cancel()

    def close(self, last: Callable[[Job], Any]) -> None:
        """Cancel everything, do `last`, end the thread. A second call waits for the first."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for job in self._pending:
                    job.cancel()
                self._jobs.put(Job(last, lambda _: None))
                self._jobs.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _done(self, job: Job) -> None:
        with self._lock:
            if job in self._pending:
                self._pending.remove(job)


def _work(jobs: queue.SimpleQueue[Job | None], done: Callable[[Job], None]) -> None:
    while (job := jobs.get()) is not None:
        outcome: Any
        try:
            outcome = job.work(job)
        except BaseException as error:
            outcome = error
        done(job)
        try:
            job.deliver(outcome)
        except Exception:  # who asked is gone: an event loop that was closed
            job.cancel()
        del job, outcome  # an idle worker holds on to nothing


def patiently(items: queue.SimpleQueue[Any], job: Job) -> Any:
    """The next item; Ctrl-C meanwhile cancels `job`."""
    while True:
        try:
            return items.get(timeout=SLICE_S)
        except queue.Empty:
            continue
        except BaseException:
            job.cancel()
            raise
