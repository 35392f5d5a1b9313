"""The arm `auto`: SpecPipeline as an app runs it, in the place of an engine.

It finds its profile, its settings and its way itself, and its governor is at work. The clock is the caller's: what the
pipeline does around its engine (its thread, its queue, the text of the answer) is in the time, which is not so for the
other arms. So this arm is a little worse off in the comparison than they are, as an app is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from edgespec.engine.step import Generation
from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.runtime import SpecPipeline
from edgespec.runtime.requests import asked_for
from edgespec.sampling import GREEDY, Sampling


class AutoEngine:
    """See bench.engines.Engine."""

    def __init__(
        self,
        pair: Pair,
        *,
        device: str,
        draft_device: str | None = None,
        mode: str = "auto",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """settings: over those of the profile, as an app may give them. Raises EdgespecError."""
        self._pipeline = SpecPipeline(pair, device=device, draft_device=draft_device, mode=mode, settings=settings)

    @property
    def has_chat_template(self) -> bool:
        return self._pipeline.has_chat_template

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return self._pipeline.encode(text, special=special)

    def decode(self, ids: Sequence[int]) -> str:
        return self._pipeline.decode(ids)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        return self._pipeline.chat_prompt(messages)

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, *, sampling: Sampling = GREEDY) -> Generation:
        """Answer in tokens, as every arm is asked. Raises EdgespecError."""
        ids = [int(token) for token in prompt_ids]
        options = asked_for(sampling)
        options["max_new_tokens"] = max_new_tokens
        began = time.perf_counter()
        result = self._pipeline.generate(ids, **options)
        wall_s = time.perf_counter() - began
        metrics = result.metrics
        if result.finish_reason == "cancelled" or metrics.ttft_ms is None:
            raise EdgespecError("the pipeline was stopped before the answer ended")
        return Generation(
            token_ids=result.token_ids,
            steps=list(result.steps),
            finish_reason=result.finish_reason,
            ttft_s=(metrics.queue_ms + metrics.ttft_ms) / 1e3,
            wall_s=wall_s,
        )

    def close(self) -> None:
        self._pipeline.close()
