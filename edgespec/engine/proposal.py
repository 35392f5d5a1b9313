"""What a drafter hands to the target for one pass, and what it hears back: the contract between drafters, acceptance
and the native engine.

key: x a token, p(x) the target's probability of it after every processor, q(x) the drafter's; both float64
[vocabulary].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

ROOT = -1
"""The parent of a proposal's first tokens: the last token that the target has emitted."""


@dataclass(frozen=True)
class Proposal:
    """Proposed tokens as a tree in topological order (a parent stands before its children); a chain is a tree whose
    node i has parent i-1.

    tokens: i64 [n]. parents: i32 [n], the parent's index, ROOT for a child of the last emitted token.
    q: by parent index (ROOT included), the distribution its children were drawn from, float64 [vocabulary]; a parent
    that is missing had its children chosen, not drawn (greedily, or copied), which is a q of 1 on each in turn.
    replaced: whether siblings were drawn with replacement; otherwise each was drawn from q without those before it.
    padding: tokens without meaning that the pass is to have beyond these, to be as long as the last one.
    """

    tokens: np.ndarray
    parents: np.ndarray
    q: dict[int, np.ndarray] = field(default_factory=dict)
    replaced: bool = False
    padding: int = 0

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        return bool(self.parents.tolist() == list(range(-1, len(self.tokens) - 1)))


NOTHING = Proposal(np.zeros(0, np.int64), np.zeros(0, np.int32))
"""The empty proposal: the step is plain decoding."""


def chain(tokens: Sequence[int], q: dict[int, np.ndarray] | None = None) -> Proposal:
    """A proposal of tokens that follow one another."""
    n = len(tokens)
    return Proposal(np.asarray(tokens, np.int64), np.arange(-1, n - 1, dtype=np.int32), q or {})


@dataclass(frozen=True)
class Verified:
    """What one target pass said about a proposal.

    path: indices of the accepted nodes, from the root down. bonus: the token the target added itself.
    logits: f32 [n+1, vocabulary], row 0 behind the last emitted token, row i+1 behind node i: a view that the next
    pass overwrites, so a drafter that wants to keep something copies it.
    """

    proposal: Proposal
    path: tuple[int, ...]
    bonus: int
    logits: np.ndarray

    @cached_property
    def emitted(self) -> tuple[int, ...]:
        return (*(int(self.proposal.tokens[node]) for node in self.path), self.bonus)


class Drafter(Protocol):
    """Proposes tokens. One drafter serves one sequence at a time: begin, then propose and observe in turn."""

    name: str

    def begin(self, prompt_ids: Sequence[int]) -> None:
        """A new sequence: forget the last one, whose text is not context of this one."""

    def propose(self, budget: int) -> Proposal:
        """At most `budget` tokens to follow what was begun with and observed so far; NOTHING when none is worth it."""

    def observe(self, verified: Verified) -> None:
        """The target's word on the last proposal (NOTHING after the prompt's pass); `emitted` joins the context."""

    def close(self) -> None:
        """Free what it holds."""


@runtime_checkable
class Unfolding(Drafter, Protocol):
    """A drafter that makes its tokens one by one, and knows how sure it is of each."""

    def unfold(self, budget: int, more: Callable[[Sequence[float]], bool]) -> tuple[Proposal, list[float]]:
        """`propose`, ended early when more(confidences so far) says no; with the confidence of each token, 0 to 1, but
        not of the last one of a full budget, of which nobody asks."""
