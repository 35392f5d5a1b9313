"""What measuring needs of an engine: one of ours, here or in a process of its own, or a test's scripted one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..pair import Pair
from ..sampling import GREEDY, Sampling
from .step import Generation


class Engine(Protocol):
    """One loaded configuration. `generate` keeps its own clock (see Generation)."""

    @property
    def has_chat_template(self) -> bool: ...

    def encode(self, text: str, *, special: bool = True) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str: ...

    def generate(
        self, prompt_ids: Sequence[int], max_new_tokens: int, *, sampling: Sampling = GREEDY, **options: Any
    ) -> Generation: ...

    def close(self) -> None: ...


class EngineFactory(Protocol):
    """Loads one. Raises EdgespecError when that cannot be."""

    def __call__(
        self,
        pair: Pair,
        *,
        engine: str,
        device: str,
        draft_device: str | None,
        mode: str,
        settings: Mapping[str, Any],
    ) -> Engine: ...
