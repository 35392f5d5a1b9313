"""What is told of an answer once it has ended: its result, with figures by our own clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..engine.step import acceptance_rate, block_efficiency, rejected_tokens
from .answering import Answering
from .engines import Opened
from .results import FinishReason, Metrics, Result
from .routing import Choice


def result_of(
    answering: Answering, opened: Opened, choice: Choice, queued_s: float, decode: Callable[[Sequence[int]], str]
) -> Result:
    """Of an answer that ended on `opened`."""
    generation = answering.generation
    assert generation is not None, "it has run"
    reason: FinishReason = generation.finish_reason
    if answering.job.cancelled and reason != "stop" and len(generation.token_ids) < answering.limit:
        reason = "cancelled"
    tpot_s = generation.tpot_s
    metrics = Metrics(
        ttft_ms=generation.ttft_s * 1e3 if generation.token_ids else None,
        tpot_ms=None if tpot_s is None else tpot_s * 1e3,
        tokens_per_second=generation.tokens_per_second,
        acceptance_rate=acceptance_rate(generation.steps),
        block_efficiency=block_efficiency(generation.steps),
        mode=choice.way.name,
        why=choice.why,
        engine=choice.way.engine,
        device=opened.device,
        prompt_tokens=len(answering.prompt_ids),
        draft_tokens=sum(answering.from_draft[: len(generation.token_ids)]),
        wall_ms=generation.wall_s * 1e3,
        queue_ms=queued_s * 1e3,
        rejected_tokens=rejected_tokens(generation.steps),
    )
    return Result(decode(generation.token_ids), generation.token_ids, reason, metrics, tuple(generation.steps))


def nothing(choice: Choice, device: str, queued_s: float) -> Result:
    """Of a request that was stopped before it began."""
    metrics = Metrics(
        ttft_ms=None,
        tpot_ms=None,
        tokens_per_second=0.0,
        acceptance_rate=None,
        block_efficiency=None,
        mode=choice.way.name,
        why=choice.why,
        engine=choice.way.engine,
        device=device,
        prompt_tokens=0,
        draft_tokens=0,
        wall_ms=0.0,
        queue_ms=queued_s * 1e3,
    )
    return Result("", [], "cancelled", metrics)
