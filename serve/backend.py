"""What answers: one pipeline in turn, or many answers at once (batching.py). Routes know this protocol alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from edgespec.runtime import Options, Piece, Result, SpecPipeline


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

    def encode(self, text: str) -> list[int]: ...

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str: ...

    def answer(self, prompt: str, options: Options) -> Answer: ...

    def explain(self) -> str: ...

    def close(self) -> None:
        """Blocks until what runs has ended."""


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

    def encode(self, text: str) -> list[int]:
        return self._pipeline.encode(text)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        return self._pipeline.chat_prompt(messages)

    def answer(self, prompt: str, options: Options) -> Answer:
        return self._pipeline.astream(prompt, **options)

    def explain(self) -> str:
        return str(self._pipeline.explain())

    def close(self) -> None:
        self._pipeline.close()
