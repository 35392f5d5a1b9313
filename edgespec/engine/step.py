"""What every engine yields, and the figures that follow from it. Bench, CLI and server read these, never recompute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

OnTokens = Callable[[Sequence[int]], bool]
"""Called with each step's tokens as they come; returning True stops the generation."""


@dataclass(frozen=True)
class Step:
    """One target pass that emitted tokens.

    tokens: ids emitted, accepted proposals first and the target's own token last.
    proposed, accepted: drafted tokens shown to the target and kept by it; None where the back end does not tell.
    draft_s, verify_s: seconds spent drafting and in the target's pass; None where the back end does not tell.
    """

    tokens: tuple[int, ...]
    proposed: int | None = None
    accepted: int | None = None
    draft_s: float | None = None
    verify_s: float | None = None


@dataclass(frozen=True)
class Generation:
    """One answer: ids (without the prompt's), its steps (the first is the prefill's token), our own clock in seconds.

    ttft_s: from the call to the first token seen; wall_s: from the call to its return; both exclude tokenization.
    """

    token_ids: list[int]
    steps: list[Step]
    finish_reason: Literal["stop", "length"]
    ttft_s: float
    wall_s: float

    @property
    def tokens_per_second(self) -> float:
        return len(self.token_ids) / self.wall_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds per token after the first; None for fewer than two tokens."""
        return (self.wall_s - self.ttft_s) / (len(self.token_ids) - 1) if len(self.token_ids) > 1 else None


def cut(steps: Sequence[Step], tokens: int) -> list[Step]:
    """The steps of whose tokens only the first so many belong to the answer."""
    kept: list[Step] = []
    for step in steps:
        if tokens <= 0:
            break
        if len(step.tokens) > tokens:
            accepted = None if step.accepted is None else min(step.accepted, tokens)
            step = replace(step, tokens=step.tokens[:tokens], accepted=accepted)
        kept.append(step)
        tokens -= len(step.tokens)
    return kept


def block_efficiency(steps: Sequence[Step]) -> float | None:
    """tau: tokens emitted per target pass, the prefill's not counted; None when there was no further pass."""
    later = steps[1:]
    return sum(len(step.tokens) for step in later) / len(later) if later else None


def acceptance_rate(steps: Sequence[Step]) -> float | None:
    """accepted / proposed over all steps; None when nothing was proposed or it is not known."""
    known = [(step.accepted, step.proposed) for step in steps[1:] if step.accepted is not None and step.proposed]
    proposed = sum(p for _, p in known if p)
    return sum(a for a, _ in known if a) / proposed if proposed else None


def rejected_tokens(steps: Sequence[Step]) -> int | None:
    """Tokens that were proposed and thrown away, over the steps of which both counts are known; None: of none."""
    known = [
        (step.proposed, step.accepted) for step in steps if step.proposed is not None and step.accepted is not None
    ]
    return sum(proposed - accepted for proposed, accepted in known) if known else None


def acceptance_by_position(steps: Sequence[Step]) -> list[float | None]:
    """alpha[i]: share of steps whose (i+1)-th proposal was accepted, of those whose first i were."""
    known = [
        (step.accepted, step.proposed) for step in steps[1:] if step.accepted is not None and step.proposed is not None
    ]
    longest = max((proposed for _, proposed in known), default=0)
    alphas: list[float | None] = []
    for position in range(longest):
        reached = [accepted for accepted, proposed in known if proposed > position and accepted >= position]
        alphas.append(sum(accepted > position for accepted in reached) / len(reached) if reached else None)
    return alphas
