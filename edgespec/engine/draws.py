"""Drawing tokens from a distribution: one, several with replacement, several without.

key: q float64 [vocabulary], non-negative, sums to 1.
"""

from __future__ import annotations

import numpy as np


def draw(distribution: np.ndarray, rng: np.random.Generator) -> int:
    """One token. The draw is scaled by the sum as computed, so rounding in it moves no token's share."""
    support = np.flatnonzero(distribution)
    sums = np.cumsum(distribution[support])
    place = int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
    return int(support[min(place, len(support) - 1)])


def draw_replaced(distribution: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    """k independent tokens, in the order drawn."""
    support = np.flatnonzero(distribution)
    sums = np.cumsum(distribution[support])
    places = np.searchsorted(sums, rng.random(k) * sums[-1], side="right")
    return [int(token) for token in support[np.minimum(places, len(support) - 1)]]


def draw_distinct(distribution: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    """Up to k different tokens (fewer when fewer have any probability), each drawn from q without those before it.

    Gumbel-top-k (Kool et al. 2019, "Stochastic Beams and Where to Find Them"): the k largest of log q + Gumbel noise,
    largest first, are distributed as successive draws without replacement. That order is what acceptance relies on.
    """
    support = np.flatnonzero(distribution)
    keys = np.log(distribution[support]) + rng.gumbel(size=len(support))
    k = min(k, len(support))
    best = np.argpartition(-keys, k - 1)[:k] if k < len(support) else np.arange(len(support))
    return [int(token) for token in support[best[np.argsort(-keys[best])]]]
