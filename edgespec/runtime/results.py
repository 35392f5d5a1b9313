"""What an answer is, and the pieces it comes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..engine.step import Step

FinishReason = Literal["stop", "length", "cancelled"]
"""stop: the model ended the text, or a stop string came; length: max_new_tokens or the model's context was reached;
cancelled: `stop()`, a closed stream, a cancelled task."""


@dataclass(frozen=True)
class Metrics:
    """Figures of one answer, by our own clock. What cannot be told is None.

    ttft_ms: from the start of the work to the first token; queue_ms: what the call waited before that. tpot_ms: a token
    after the first. acceptance_rate: accepted / proposed. block_efficiency: tau, tokens a target pass emitted.
    mode: as SpecPipeline takes it, with engine and device that ran it; why: how it was chosen. draft_tokens: tokens of
    the answer that were proposed and accepted. rejected_tokens: proposed and thrown away, over the steps of which the
    engine tells.
    """

    ttft_ms: float | None
    tpot_ms: float | None
    tokens_per_second: float
    acceptance_rate: float | None
    block_efficiency: float | None
    mode: str
    why: str
    engine: str
    device: str
    prompt_tokens: int
    draft_tokens: int
    wall_ms: float
    queue_ms: float
    rejected_tokens: int | None = None

    @property
    def tau(self) -> float | None:
        return self.block_efficiency


@dataclass(frozen=True)
class Result:
    """One answer: its text and ids (prompt not included), why it ended, its figures, and the steps it came in (the
    first is the prompt's pass)."""

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    metrics: Metrics
    steps: tuple[Step, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Piece:
    """Text as it streams. `text` may be empty while a character is split over tokens; `from_draft` says of each of
    `token_ids` whether it was proposed and accepted (True) or chosen by the target itself. A step in which both spoke
    comes as two pieces, so that their text can be told apart."""

    text: str
    token_ids: tuple[int, ...]
    from_draft: tuple[bool, ...]

    @property
    def drafted(self) -> int:
        return sum(self.from_draft)


@dataclass(frozen=True)
class Explanation:
    """How a pipeline decides, as sentences; `str()` gives them a line each."""

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def listed(names: Sequence[str]) -> str:
    """`a, b or c`."""
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)
