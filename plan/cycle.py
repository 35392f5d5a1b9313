"""Who follows whom: the target's one long cycle over the vocabulary, and the draft's, which is wrong where it is told.

The target maps every live token to the next one on a random cycle of N tokens. The draft's map is that cycle cut behind
m = round((1 - alpha) * N) tokens, drawn at random without replacement, with the pieces joined in another order: it is
right on every token that is not before a cut and wrong on the others, and it is again one cycle of all N tokens.

What follows for greedy verification, with any number of proposals a step:
- Whether a proposal is accepted depends only on whether its predecessor stands before a cut. Along the target's path
  these marks are exchangeable, share alpha exactly over the whole cycle: n proposals examined in a run have the mean
  n * alpha and a variance of at most the binomial's (smaller by (N-n)/(N-1), drawing without replacement), and
  acceptance given that those before it were accepted is alpha to within 1/N.
- A wrong proposal leads into another piece. That the draft wanders back to where the target is within the next HORIZON
  proposals is excluded: the order of the pieces is checked for it.

A draft may have several alphas, one for each of equally long zones of the target's cycle: where an answer begins then
decides what is accepted in it, and one pair of twins serves every alpha.

Tokens that are not live (special tokens, single bytes) act as an input like a live token, their alias, and as an
output never win: nothing leads to them, so a text never ends and holds only printable characters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgespec.errors import EdgespecError

HORIZON = 32
"""Proposals after a wrong one for which the draft must stay off the target's path: the most a step may propose."""

_TRIES = 200


@dataclass(frozen=True)
class Cycle:
    """A map over the vocabulary. order: the live ids in cycle order, i64 [N]. position: of each token or its alias in
    `order`, i64 [vocabulary]. live: bool [vocabulary]."""

    order: np.ndarray
    position: np.ndarray
    live: np.ndarray

    def following(self, ids: np.ndarray) -> np.ndarray:
        """The token that the map gives after each of `ids`."""
        return np.asarray(self.order[(self.position[ids] + 1) % len(self.order)])


def target_cycle(live: np.ndarray, vocab: int, seed: int) -> Cycle:
    """A random cycle over the ids `live` of a vocabulary of `vocab` tokens; each other token gets a random alias."""
    draw = np.random.default_rng([seed, 1])
    order = draw.permutation(np.asarray(live, dtype=np.int64))
    is_live = np.zeros(vocab, dtype=bool)
    is_live[order] = True
    position = draw.integers(0, len(order), vocab)
    position[order] = np.arange(len(order))
    return Cycle(order, position, is_live)


def zone_bounds(length: int, zones: int) -> list[tuple[int, int]]:
    """First position and the one behind the last of each of `zones` equal parts of a cycle of `length` tokens."""
    ends = [length * index // zones for index in range(zones + 1)]
    return list(pairwise(ends))


def draft_cycle(target: Cycle, alpha: float | Sequence[float], seed: int) -> Cycle:
    """The draft's map: `target`'s cut and joined anew so that a share `alpha` of the live tokens keeps its follower.

    alpha: one, or one for each zone of the cycle (zone_bounds), in that order. Raises EdgespecError when an alpha is no
    share, or leaves too few cuts for pieces in another order.
    """
    alphas = (alpha,) if isinstance(alpha, (int, float)) else tuple(alpha)
    for one in alphas:
        if not 0 <= one <= 1:
            raise EdgespecError(f"alpha is the share of proposals that are accepted, from 0 to 1, not {one}")
    n = len(target.order)
    bounds = zone_bounds(n, len(alphas))
    cuts = [round((1 - one) * (end - start)) for one, (start, end) in zip(alphas, bounds, strict=True)]
    total = sum(cuts)
    if all(one == 1 for one in alphas):
        return target
    draw = np.random.default_rng([seed, 2, *cuts])
    within = [start + draw.permutation(end - start)[:count] for (start, end), count in zip(bounds, cuts, strict=True)]
    last = np.sort(np.concatenate(within))  # positions before a cut
    for step in _steps(total, draw):
        path = _joined(last, n, step)
        if not _returns(path, n):
            order = target.order[path]
            place = np.empty(n, dtype=np.int64)
            place[path] = np.arange(n)
            return Cycle(order, place[target.position], target.live)
    raise EdgespecError(
        f"an alpha of {', '.join(f'{one:g}' for one in alphas)} leaves {total} of {n} tokens to be wrong about, too "
        "few to keep wrong proposals wrong; take a larger vocabulary or another alpha"
    )


def _steps(cuts: int, draw: np.random.Generator) -> list[int]:
    """Candidates for how many pieces further the draft goes on: one that passes through all pieces, and is not 1."""
    found = [step for step in draw.permutation(cuts)[:_TRIES].tolist() if step != 1 and math.gcd(step, cuts) == 1]
    return found if cuts > 2 else []


def _joined(last: np.ndarray, n: int, step: int) -> np.ndarray:
    """The target's positions in the draft's order: piece 0, piece `step`, piece 2*step, ... i64 [n]."""
    pieces = len(last)
    first = np.roll(last, 1) + 1  # of piece i, which ends at last[i]; the first piece goes around the end
    lengths = (last - first) % n + 1
    sequence = (np.arange(pieces) * step) % pieces
    lengths = lengths[sequence]
    starts = np.repeat(first[sequence], lengths)
    within = np.arange(n) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.asarray((starts + within) % n, dtype=np.int64)


def _returns(path: np.ndarray, n: int) -> bool:
    """Does the draft, after a wrong proposal, come back to the target's path within HORIZON proposals?"""
    right = np.diff(path, append=path[:1]) % n == 1  # is the draft's step from path[i] the target's own?
    all_right = np.ones(n, dtype=bool)
    for k in range(min(HORIZON, n - 1)):
        all_right &= np.roll(right, -k)
        on_path = (np.roll(path, -k - 1) - path) % n == k + 1
        if np.any(on_path & ~all_right):
            return True
    return False
