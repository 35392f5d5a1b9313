"""An engine in a process of its own: its memory is its own, its crash is a row with a reason, its silence has an end.

A native abort (a driver's, a compiler's) cannot be caught and would take the whole run with it. The engine's clock runs
inside its process, so the pipe between the two is not in any time.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from edgespec.children import NO_WINDOW, frozen
from edgespec.engine.step import Generation, Step
from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.sampling import GREEDY, Sampling

LOAD_TIMEOUT_S = 1800.0
"""Compiling a large model for an NPU takes many minutes."""
ANSWER_TIMEOUT_S = 300.0
LAST_WORDS = 20
"""Lines of a worker's stderr that are kept, for the sentence about its end."""


class EngineLost(EdgespecError):
    """The engine's process ended or stopped answering; it has to be loaded anew."""


class Worker:
    """One child process and the pipe to it. Not for concurrent calls."""

    def __init__(self) -> None:
        """Raises EdgespecError in a frozen app, whose executable starts no Python."""
        if frozen():
            raise EdgespecError(
                f"measuring starts a Python of its own for each engine, and '{sys.executable}' is none; run edgespec "
                "bench, verify or tune from a Python installation, and ship the tuned pair with the app"
            )
        self._process = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-m", "edgespec.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            creationflags=NO_WINDOW,
        )
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS)
        threading.Thread(target=self._listen, daemon=True).start()
        self._stderr = threading.Thread(target=self._overhear, daemon=True)
        self._stderr.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, name: str, timeout_s: float, **arguments: Any) -> Any:
        """What the worker's call `name` returns. Raises EdgespecError with the worker's own sentence, EngineLost when
        the process ended or did not answer within `timeout_s`; it is ended then."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"call": name, "with": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.close()
            raise EngineLost(f"no answer within {timeout_s:.0f} s; the engine's process was ended") from None
        except OSError:
            line = None
        if line is None:
            raise EngineLost(f"the engine's process ended {self._how()}")
        answer = json.loads(line)
        if "error" in answer:
            raise EdgespecError(answer["error"]) if answer["ours"] else EngineFailed(answer["error"])
        return answer["value"]

    def close(self) -> None:
        """End the process, without waiting for what it does."""
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def _overhear(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.strip():
                self._last_words.append(line.strip())

    def _how(self) -> str:
        code = self._process.wait()
        self._stderr.join(timeout=5)
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"{how}: {self._last_words[-1]}" if self._last_words else how


class EngineFailed(EdgespecError):
    """The engine raised; its process goes on."""


class IsolatedEngine:
    """The engine that `how` describes (see engines.open_engine), loaded in a worker."""

    def __init__(self, pair: Pair, *, answer_timeout_s: float = ANSWER_TIMEOUT_S, **how: Any) -> None:
        """Start the worker and load. Raises EdgespecError."""
        self._answer_timeout_s = answer_timeout_s
        self._worker = Worker()
        try:
            loaded = self._worker.call("open", LOAD_TIMEOUT_S, pair=str(pair.root), **how)
        except BaseException:
            self._worker.close()
            raise
        self.rss_before_bytes: int = loaded["rss_before_bytes"]
        self.rss_after_bytes: int = loaded["rss_after_bytes"]
        self.peak_rss_bytes: int | None = None

    @property
    def pid(self) -> int:
        return self._worker.pid

    @property
    def has_chat_template(self) -> bool:
        return bool(self._worker.call("has_chat_template", self._answer_timeout_s))

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        ids: list[int] = self._worker.call("encode", self._answer_timeout_s, text=text, special=special)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._worker.call("decode", self._answer_timeout_s, ids=list(ids)))

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        return str(self._worker.call("chat_prompt", self._answer_timeout_s, messages=list(messages)))

    def generate(
        self, prompt_ids: Sequence[int], max_new_tokens: int, *, sampling: Sampling = GREEDY, **options: Any
    ) -> Generation:
        """As the engine's own generate. Raises EdgespecError when it fails, EngineLost when its process is gone."""
        answer = self._worker.call(
            "generate",
            self._answer_timeout_s,
            prompt_ids=list(prompt_ids),
            max_new_tokens=max_new_tokens,
            sampling={name: getattr(sampling, name) for name in ("temperature", "top_k", "top_p", "min_p", "seed")},
            **options,
        )
        self.peak_rss_bytes = answer.pop("peak_rss_bytes")
        steps = [Step(**(step | {"tokens": tuple(step["tokens"])})) for step in answer.pop("steps")]
        return Generation(steps=steps, **answer)

    def close(self) -> None:
        self._worker.close()


def in_a_worker(call: str, timeout_s: float = LOAD_TIMEOUT_S, **arguments: Any) -> Any:
    """One call of a worker that is started for it and ended after it."""
    worker = Worker()
    try:
        return worker.call(call, timeout_s, **arguments)
    finally:
        worker.close()
