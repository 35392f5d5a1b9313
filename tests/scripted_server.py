"""A backend whose every step waits until a test lets it go on, and a server around it that lives as long as a test."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.runtime import Metrics, Options, Piece, Result
from edgespec.serve import Access, Limits, Served, bind, url_of
from edgespec.serve.server import Server
from edgespec.serve.service import Service

METRICS = Metrics(
    ttft_ms=1.0, tpot_ms=1.0, tokens_per_second=1.0, acceptance_rate=None, block_efficiency=None, mode="plain",
    why="scripted", engine="native", device="CPU", prompt_tokens=3, draft_tokens=0, wall_ms=1.0, queue_ms=0.0,
)  # fmt: skip


class ScriptedAnswer:
    """Says the backend's text a step, `options["max_new_tokens"]` times, while the backend's gate is open."""

    def __init__(self, backend: ScriptedBackend, prompt: str, options: Options) -> None:
        self._backend = backend
        self.options = options
        self._left = options["max_new_tokens"]
        self._said = 0
        self.prompt = prompt
        self.cancelled = False

    def __aiter__(self) -> ScriptedAnswer:
        return self

    async def __anext__(self) -> Piece | Result:
        if self.prompt.startswith("fail"):
            raise RuntimeError(f"it was about {self.prompt}")
        if self.prompt == "refuse":
            raise EdgespecError("this cannot be done; do another thing")
        try:
            while self._said >= self._backend.steps and not self.cancelled:
                await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.cancelled or self._said == self._left:
            text = self._backend.text * self._said
            return Result(text, [1] * self._said, "cancelled" if self.cancelled else "length", METRICS)
        self._said += 1
        self._backend.computed += 1
        return Piece(self._backend.text, (1,), (self._said % 2 == 0,))

    async def aclose(self) -> None:
        self.cancelled = True


@dataclass
class ScriptedBackend:
    """text: what a step says. steps: how far every answer may go. computed: steps that were taken, by all. special: of
    each prompt, whether it was encoded with what a tokenizer adds by itself."""

    slots: int = 1
    text: str = "a"
    steps: int = 1_000_000
    refused: Mapping[str, str] = field(default_factory=dict)
    ready: bool = True
    context: int | None = 100
    has_chat_template: bool = True
    computed: int = 0
    special: list[bool] = field(default_factory=list)
    answers: list[ScriptedAnswer] = field(default_factory=list)

    def wait_until_ready(self) -> None:
        pass

    def encode(self, text: str, *, special: bool) -> list[int]:
        if text.startswith("explode"):
            raise RuntimeError(f"it was about {text}")
        self.special.append(special)
        return [ord(character) for character in text]

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        return "".join(message["content"] for message in messages)

    def answer(self, prompt_ids: Sequence[int], options: Options) -> ScriptedAnswer:
        self.answers.append(ScriptedAnswer(self, "".join(map(chr, prompt_ids)), options))
        return self.answers[-1]

    def explain(self) -> str:
        return "scripted"

    def close(self) -> None:
        pass


class Live:
    """A server on a free port of this machine, in a thread."""

    def __init__(self, backend: Any, served: Served, access: Access, limits: Limits, sndbuf: int | None = None) -> None:
        import socket

        self.listening = bind(access.host, 0)
        if sndbuf is not None:
            self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        self.url = url_of(self.listening)
        self.port = int(self.listening.getsockname()[1])
        self.service = Service(backend, served, limits, "fp_test", 1)
        self._ready = threading.Event()
        self.server = Server(self.service, access, self._ready.set)
        self._thread = threading.Thread(target=self.server.run, args=([self.listening],), daemon=True)
        self._thread.start()
        assert self._ready.wait(120)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.listening.close()


@contextmanager
def live(
    backend: Any,
    served: Served | None = None,
    access: Access | None = None,
    limits: Limits | None = None,
    sndbuf: int | None = None,
) -> Iterator[Live]:
    server = Live(backend, served or Served("tiny"), access or Access(), limits or Limits(grace_s=0.1), sndbuf)
    try:
        yield server
    finally:
        server.stop()


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """seconds: of a hang; whatever is waited for takes milliseconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.002)
