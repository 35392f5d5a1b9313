"""Many answers at once: openvino-genai's continuous batching, which decodes one token of every answer in a pass.

It decodes plainly. With one client a draft is what makes an answer fast; with eight, their tokens share a pass as a
draft's proposals would: of the bundled int8 pair, 96 tokens an answer, eight at once gave 533 tokens a second plainly
and 458 with the draft at gamma 3, two at once 254 and 416 (LOG.md). What decides is that with a draft, sampled answers
would not follow the target's distribution (openvino.genai#4190).
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError, EngineFailed, MemoryShortage, last_line
from edgespec.pair import Pair
from edgespec.runtime import Metrics, Options, Piece, Result
from edgespec.runtime.memory import require_room, shape_of
from edgespec.runtime.modes import GENAI_PLAIN
from edgespec.runtime.npu import is_npu
from edgespec.runtime.placement import place
from edgespec.runtime.requests import Request, make_request
from edgespec.runtime.text import GrowingText, Words
from edgespec.signals import keeping_signal_stack
from edgespec.telemetry import stop_upstream_reports

from .stops import StopText

_PASS_TOKENS = 512
"""Tokens of a pass at most: a long prompt is read in parts, between which the others' answers go on."""


class Batched:
    """The target alone on a pipeline of its own, driven by one thread. slots: answers at once."""

    refused: Mapping[str, str] = {
        "response_format": "a grammar is kept by the native engine alone; start the server without --batch",
        "logit_bias": "openvino-genai has none; start the server without --batch",
    }

    def __init__(self, pair: Path, slots: int, *, device: str = "AUTO") -> None:
        """Loads in the background. Raises EdgespecError where continuous batching is not to be had."""
        self.slots = slots
        self._root = pair
        self._device = device
        self._arrivals: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._loaded = threading.Event()
        self._problem: BaseException | None = None
        self._words: Words | None = None
        self._context: int | None = None
        self._settings: Mapping[str, Any] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="edgespec-batch", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        return self._loaded.is_set() and self._problem is None

    def wait_until_ready(self) -> None:
        self._loaded.wait()
        if self._problem is not None:
            raise EdgespecError(str(self._problem)) from self._problem

    @property
    def context(self) -> int | None:
        return self._context

    @property
    def has_chat_template(self) -> bool:
        return self._the_words.has_chat_template

    def encode(self, text: str, *, special: bool) -> list[int]:
        return self._the_words.encode(text, special=special)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        return self._the_words.chat_prompt(messages)

    def answer(self, prompt_ids: Sequence[int], options: Options) -> BatchedAnswer:
        request = make_request(lambda: list(prompt_ids), options)
        return BatchedAnswer(self._arrivals, request, self._the_words, self._metrics)

    def explain(self) -> str:
        return (
            f"device: {self._device}\nup to {self.slots} answers at once by openvino-genai's continuous "
            f"batching, plainly: "
            "their tokens share a pass as a draft's proposals would"
        )

    def close(self) -> None:
        self._closing = True
        self._arrivals.put(None)
        self._thread.join()

    # ---- on the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            pipeline = self._load()
        except BaseException as error:
            self._problem = error
            self._loaded.set()
            return
        self._loaded.set()
        base = pipeline.get_config()
        live: dict[int, _Ticket] = {}
        number = 0
        while not self._closing or live:
            for ticket in self._new(wait=not live):
                number += 1
                if self._begin(pipeline, base, ticket, number):
                    live[number] = ticket
            if self._closing:
                for ticket in live.values():
                    ticket.cancelled = True
            if not live:
                continue
            try:
                pipeline.step()
            except Exception as error:
                for ticket in live.values():
                    ticket.deliver(EngineFailed(f"openvino-genai failed on {self._device}: {last_line(error)}"))
                    ticket.handle.cancel()
                live.clear()
                continue
            for key, ticket in list(live.items()):
                if ticket.look():
                    del live[key]
        while not self._arrivals.empty():
            late = self._arrivals.get()
            if late is not None:
                late.finish("cancelled")

    @keeping_signal_stack()
    def _load(self) -> Any:
        import openvino_genai

        stop_upstream_reports()
        pair = Pair.open(self._root)
        where = place(pair, self._device, None, auto=True)
        if is_npu(where.device):
            raise EdgespecError("an NPU has no continuous batching; leave out --batch, or use another device")
        self._device = where.device
        self._settings = where.settings_for(GENAI_PLAIN)
        require_room(pair, GENAI_PLAIN, context=None, cache_precision="u8", free_bytes=None)
        shape = shape_of(pair)
        self._context = shape.context if shape else None
        self._words = Words(pair.loadable_target)
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_seqs = self.slots
        scheduler.max_num_batched_tokens = max(_PASS_TOKENS, self.slots)
        scheduler.enable_prefix_caching = True
        try:
            return openvino_genai.ContinuousBatchingPipeline(
                str(pair.loadable_target), scheduler, self._device, dict(self._settings)
            )
        except RuntimeError as error:
            raise EdgespecError(
                f"openvino-genai could not load '{pair.root}' on {self._device} for continuous batching: "
                f"{last_line(error)}"
            ) from error

    def _new(self, wait: bool) -> list[_Ticket]:
        found: list[_Ticket] = []
        while True:
            try:
                item = self._arrivals.get(block=wait and not found)
            except queue.Empty:
                return found
            if item is None:
                return found
            found.append(item)

    def _begin(self, pipeline: Any, base: Any, ticket: _Ticket, number: int) -> bool:
        import numpy as np
        import openvino
        import openvino_genai

        if ticket.cancelled:
            ticket.finish("cancelled")
            return False
        try:
            ids = ticket.request.prompt()
            config = openvino_genai.GenerationConfig()
            config.eos_token_id = base.eos_token_id
            config.stop_token_ids = base.stop_token_ids
            ticket.limit = ticket.request.max_new_tokens
            if self._context is not None:
                ticket.limit = min(ticket.limit, self._context - len(ids))
            config.max_new_tokens = ticket.limit
            ticket.request.sampling.apply(config)
            config.stop_strings = set()  # held against the text, see stops.py
            ticket.prompt_tokens = len(ids)
            ticket.began = time.perf_counter()
            ticket.handle = pipeline.add_request(number, openvino.Tensor(np.asarray([ids], dtype=np.int64)), config)
        except EdgespecError as error:
            ticket.deliver(error)
            return False
        except Exception as error:
            ticket.deliver(EdgespecError(f"openvino-genai refuses this request: {last_line(error)}"))
            return False
        return True

    # ---- small things ----------------------------------------------------------------------------------------------

    @property
    def _the_words(self) -> Words:
        assert self._words is not None, "it is loaded before anything is asked"
        return self._words

    def _metrics(self, ticket: _Ticket) -> Metrics:
        now = time.perf_counter()
        wall_s = now - ticket.began
        first_s = None if ticket.first is None else ticket.first - ticket.began
        later = len(ticket.tokens) - 1
        return Metrics(
            ttft_ms=None if first_s is None else first_s * 1e3,
            tpot_ms=(wall_s - first_s) / later * 1e3 if first_s is not None and later > 0 else None,
            tokens_per_second=len(ticket.tokens) / wall_s if wall_s > 0 else 0.0,
            acceptance_rate=None,
            block_efficiency=None,
            mode="plain",
            why="continuous batching",
            engine="genai",
            device=self._device,
            prompt_tokens=ticket.prompt_tokens,
            draft_tokens=0,
            wall_ms=wall_s * 1e3,
            queue_ms=(ticket.began - ticket.asked) * 1e3,
            rejected_tokens=0,
        )


class _Ticket:
    """One answer in the batch. `cancelled` may be set from any thread; the rest is the batching thread's."""

    def __init__(self, request: Request, words: Words, deliver: Callable[[Any], object], metrics: Any) -> None:
        self.request = request
        self.deliver = deliver
        self.cancelled = False
        self.handle: Any = None
        self.tokens: list[int] = []
        self.said: list[str] = []
        self.limit = 0
        self.prompt_tokens = 0
        self.asked = self.began = time.perf_counter()
        self.first: float | None = None
        self._text = GrowingText(words.spell)
        self._stops = StopText(request.sampling.stop_strings)
        self._metrics = metrics

    def look(self) -> bool:
        """Take what the last pass gave; True when the answer has ended."""
        if self.cancelled:
            self.handle.cancel()
            self.finish("cancelled")
            return True
        while self.handle.can_read():
            for output in self.handle.read().values():
                fresh = list(output.generated_ids)
                if not fresh:
                    continue
                self.first = self.first or time.perf_counter()
                self.tokens += fresh
                if self._say(self._stops.add(self._text.add(fresh)), fresh):
                    self.handle.stop()
                    self.finish("stop")
                    return True
        status = self.handle.get_status().name
        if status == "RUNNING":
            return False
        if status == "IGNORED":
            self.deliver(MemoryShortage("the cache has no room for this request; ask for fewer tokens, or again later"))
            return True
        if self._say(self._stops.add(self._text.rest()), []):
            self.finish("stop")
            return True
        self._say(self._stops.rest(), [])
        self.finish("length" if len(self.tokens) >= self.limit else "stop")
        return True

    def _say(self, text: str, tokens: list[int]) -> bool:
        """Whether a stop string has come."""
        if text or tokens:
            self.said.append(text)
            self.deliver(Piece(text, tuple(tokens), (False,) * len(tokens)))
        return self._stops.hit()

    def finish(self, reason: Any) -> None:
        self.deliver(Result("".join(self.said), self.tokens, reason, self._metrics(self)))


class BatchedAnswer:
    """See backend.Answer."""

    def __init__(self, arrivals: Any, request: Request, words: Words, metrics: Any) -> None:
        loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._ended = False

        def deliver(item: Any) -> None:
            try:
                loop.call_soon_threadsafe(self._items.put_nowait, item)
            except RuntimeError:  # the loop is closed: nobody listens
                ticket.cancelled = True

        ticket = self._ticket = _Ticket(request, words, deliver, metrics)
        arrivals.put(ticket)

    def __aiter__(self) -> BatchedAnswer:
        return self

    async def __anext__(self) -> Piece | Result:
        if self._ended:
            raise StopAsyncIteration
        try:
            item = await self._items.get()
        except BaseException:
            self._ticket.cancelled = True
            raise
        if isinstance(item, BaseException):
            self._ended = True
            raise item
        if isinstance(item, Result):
            self._ended = True
        assert isinstance(item, Piece | Result)
        return item

    async def aclose(self) -> None:
        self._ticket.cancelled = True
