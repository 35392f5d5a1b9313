"""What answers: one pipeline in turn, or many answers at once (batching.py). Routes know this protocol alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from edgespec.runtime import AsyncStream, Options, Piece, Result, SpecPipeline

from .stops import StopText


class Answer(Protocol):
    """Pieces as they come, then the Result. Cancelling whoever waits for the next one, or `aclose`, ends it at its next
    step. Raises EdgespecError where the request cannot be carried out."""

    def __aiter__(self) -> Answer: ...

    async def __anext__(self) -> Piece | Result: ...

    async def aclose(self) -> None: ...


class Backend(Protocol):
    """slots: answers at once. refused: fields of a request that it cannot obey, and why."""

    slots: int
    refused: Mapping[str, str]

    @property
    def ready(self) -> bool: ...

    @property
    def context(self) -> int | None: ...

    @property
    def has_chat_template(self) -> bool: ...

    def wait_until_ready(self) -> None:
        """Blocks. Raises EdgespecError when loading failed."""

    def encode(self, text: str, *, special: bool) -> list[int]:
        """special: with what the tokenizer adds by itself, such as a BOS; a chat template has its own."""

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str: ...

    def answer(self, prompt_ids: Sequence[int], options: Options) -> Answer: ...

    def explain(self) -> str: ...

    def close(self) -> None:
        """Blocks until what runs has ended."""


class StoppedAnswer:
    """An answer that ends before the first of `stops`, to the character: the engines leave out the whole token that a
    stop string begins in, OpenAI's clients expect the letters before it."""

    def __init__(self, stream: AsyncStream, stops: Sequence[str]) -> None:
        self._stream = stream
        self._stops = StopText(stops)
        self._said = ""
        self._rest: Result | None = None

    def __aiter__(self) -> StoppedAnswer:
        return self

    async def __anext__(self) -> Piece | Result:
        if self._rest is not None:
            last, self._rest = self._rest, None
            return last
        while True:
            item = await self._stream.__anext__()
            if isinstance(item, Result):
                if self._stops.hit():
                    return replace(item, text=self._said, finish_reason="stop")
                if rest := self._stops.rest():
                    self._rest = item
                    return Piece(rest, (), ())
                return item
            if self._stops.hit():  # of the step that was under way
                continue
            text = self._stops.add(item.text)
            self._said += text
            if self._stops.hit():
                self._stream.stop()
            return Piece(text, item.token_ids, item.from_draft)

    async def aclose(self) -> None:
        await self._stream.aclose()


class InTurn:
    """One answer at a time, by a SpecPipeline: whatever mode it chooses, grammars and exact sampling included."""

    slots = 1
    refused: Mapping[str, str] = {}

    def __init__(self, pair: Path, **how: Any) -> None:
        """how: as SpecPipeline takes it. Loads in the background."""
        self._pipeline = SpecPipeline(pair, background=True, **how)

    @property
    def ready(self) -> bool:
        return self._pipeline.ready

    @property
    def context(self) -> int | None:
        return self._pipeline.context

    @property
    def has_chat_template(self) -> bool:
        return self._pipeline.has_chat_template

    def wait_until_ready(self) -> None:
        self._pipeline.wait_until_ready()

    def encode(self, text: str, *, special: bool) -> list[int]:
        return self._pipeline.encode(text, special=special)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        return self._pipeline.chat_prompt(messages)

    def answer(self, prompt_ids: Sequence[int], options: Options) -> Answer:
        stops = options.get("stop") or ()
        if not stops:
            return self._pipeline.astream(prompt_ids, **options)
        without = options.copy()
        del without["stop"]
        return StoppedAnswer(self._pipeline.astream(prompt_ids, **without), stops)

    def explain(self) -> str:
        return str(self._pipeline.explain())

    def close(self) -> None:
        self._pipeline.close()
