"""A target's distribution over the first tokens of an answer, cut into cells large enough to count samples in.

The answers of L tokens are the leaves of a tree. A prefix is expanded when its probability reaches `floor`; below that,
a node and its equally unlikely siblings form one cell, "any other continuation of their parent". So there are at most
about L/floor passes of the target, every cell has an exactly known probability, and the cells depend on the target
alone, never on the samples. What the target cannot say at all (a token that top-k or top-p removes, an answer that
ends early) falls into one more cell, of probability 0.

Comparing counts over cells instead of single answers gives up differences inside a cell and gains power everywhere
else: of 1,500 answers of four tokens most are unique, and a comparison answer by answer sees little but that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..target import Target

NextToken = Callable[[np.ndarray, Sequence[int]], np.ndarray]
"""(logits, ids before the token) -> float64 [vocab_size], the distribution that the next token is drawn from."""

Prefix = tuple[int, ...]
NEVER = 0
"""Index of the cell of what the target cannot say."""


@dataclass(frozen=True)
class _Branch:
    """An expanded prefix. kept: its children that are cells or branches of their own. rest: the cell of its other
    children. possible: bit set of the tokens with any probability, None when that is all of them."""

    kept: frozenset[int]
    rest: int
    possible: np.ndarray | None

    def allows(self, token: int) -> bool:
        if self.possible is None:
            return True
        return token >> 3 < len(self.possible) and bool(self.possible[token >> 3] >> (7 - (token & 7)) & 1)


@dataclass(frozen=True)
class Cells:
    """A partition of all answers of `tokens` tokens. probabilities: float64 [cells], sums to 1.

    branches: by expanded prefix, parents before children. leaves: the cell of each answer that has its own."""

    tokens: int
    probabilities: np.ndarray
    branches: dict[Prefix, _Branch]
    leaves: dict[Prefix, int]

    def __len__(self) -> int:
        return len(self.probabilities)

    def of(self, answer: Sequence[int]) -> int:
        """The cell of an answer, of which only the first `tokens` count."""
        prefix: Prefix = ()
        for token in answer[: self.tokens]:
            branch = self.branches[prefix]
            if token not in branch.kept:
                return branch.rest if branch.allows(token) else NEVER
            prefix = (*prefix, token)
            if prefix in self.leaves:
                return self.leaves[prefix]
        return NEVER  # it ended where the target goes on

    def count(self, answers: Iterable[Sequence[int]]) -> np.ndarray:
        """i64 [cells]"""
        return np.bincount([self.of(answer) for answer in answers], minlength=len(self))

    def under(self, model: Target, context: Sequence[int], next_token: NextToken) -> np.ndarray:
        """float64 [cells]: the probability of each cell under another model, or the same under other settings."""
        out = np.zeros(len(self))
        mass: dict[Prefix, float] = {(): 1.0}
        for prefixes in _by_depth(self.branches):
            for prefix, row in zip(prefixes, model.behind(context, prefixes), strict=True):
                branch, share = self.branches[prefix], mass[prefix]
                p = share * next_token(row, (*context, *prefix))
                for token in branch.kept:
                    child = (*prefix, token)
                    probability = float(p[token]) if token < len(p) else 0.0
                    if child in self.leaves:
                        out[self.leaves[child]] += probability
                    else:
                        mass[child] = probability
                    share -= probability
                impossible = 0.0
                if branch.possible is not None:
                    allowed = np.unpackbits(branch.possible)[: len(p)].astype(bool)
                    impossible = float(p[: len(allowed)][~allowed].sum())
                out[NEVER] += impossible
                out[branch.rest] += max(0.0, share - impossible)
        return out


def cut(
    target: Target,
    context: Sequence[int],
    next_token: NextToken,
    *,
    tokens: int,
    floor: float,
    stop_ids: Collection[int] = (),
    advance: Callable[[float], None] = lambda _: None,
) -> Cells:
    """The cells of answers to `context` of `tokens` tokens, or fewer where one of `stop_ids` ends them.

    floor: the least probability of an answer or prefix that is told apart. advance: called once a depth.
    """
    probabilities = [0.0]  # of NEVER
    branches: dict[Prefix, _Branch] = {}
    leaves: dict[Prefix, int] = {}

    def cell(probability: float) -> int:
        probabilities.append(probability)
        return len(probabilities) - 1

    level: dict[Prefix, float] = {(): 1.0}
    for depth in range(1, tokens + 1):
        below: dict[Prefix, float] = {}
        for (prefix, mass), row in zip(level.items(), target.behind(context, list(level)), strict=True):
            p = mass * next_token(row, (*context, *prefix))
            kept = [int(token) for token in np.flatnonzero(p >= floor)]
            for token in kept:
                child, probability = (*prefix, token), float(p[token])
                if depth == tokens or token in stop_ids:
                    leaves[child] = cell(probability)
                else:
                    below[child] = probability
            p[kept] = 0
            possible = p > 0
            possible[kept] = True
            packed = None if possible.all() else np.packbits(possible)
            branches[prefix] = _Branch(frozenset(kept), cell(float(p.sum())), packed)
        level = below
        advance(1)
    found = np.asarray(probabilities)
    return Cells(tokens, found / found.sum(), branches, leaves)


def _by_depth(branches: Collection[Prefix]) -> Iterable[list[Prefix]]:
    for depth in range(max(map(len, branches)) + 1):
        yield [prefix for prefix in branches if len(prefix) == depth]
