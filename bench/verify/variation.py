"""Total variation between what an engine said and the target's exact distribution, and how much of it chance explains.

key: p the exact distribution over cells, phat the share of N samples in each.

TV        = sum over cells of max(0, phat - p): the least share of answers that must change for the two to agree
null      = TV of N samples drawn from p itself, REPLICATES times: median, 95 % bound, and how often it reaches TV
verdict   = Holm's correction over all tests of a run, so that a right engine looks wrong in at most 5 % of runs; what
            looks wrong is sampled once more and judged again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REPLICATES = 9999
FAMILY_ALPHA = 0.05
"""A right engine looks wrong in at most this share of runs, over all the tests of a run together."""
POWER = 0.9
_POWER_RUNS = 400
_AT_ONCE = 1000


@dataclass(frozen=True)
class Null:
    """TV of samples from p itself, sorted, float64 [REPLICATES]."""

    values: np.ndarray

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    @property
    def bound95(self) -> float:
        return self.bound(0.05)

    def bound(self, alpha: float) -> float:
        """What a right engine stays at or below with probability 1 - alpha."""
        return float(np.quantile(self.values, 1 - alpha, method="higher"))

    def p_value(self, variation: float) -> float:
        """Chance that a right engine shows at least this: (1 + replicates that do) / (1 + replicates), which is never
        too small (Davison and Hinkley, Bootstrap Methods, 1997, equation 4.11)."""
        reached = len(self.values) - int(np.searchsorted(self.values, variation - 1e-12))
        return (1 + reached) / (1 + len(self.values))


def total_variation(counts: np.ndarray, p: np.ndarray) -> float:
    """counts: [cells], of at least one sample."""
    return float(np.maximum(0.0, counts / counts.sum() - p).sum())


def draw_null(p: np.ndarray, samples: int, rng: np.random.Generator, replicates: int | None = None) -> Null:
    """The null distribution of TV for `samples` samples, from REPLICATES replicates unless told."""
    return Null(np.sort(_variations(p, p, samples, rng, replicates or REPLICATES)))


def _variations(
    truth: np.ndarray, p: np.ndarray, samples: int, rng: np.random.Generator, replicates: int
) -> np.ndarray:
    """TV against p of `samples` samples drawn from `truth`, `replicates` times."""
    parts = []
    for start in range(0, replicates, _AT_ONCE):
        counts = rng.multinomial(samples, truth, size=min(_AT_ONCE, replicates - start))
        parts.append(np.maximum(0.0, counts / samples - p).sum(axis=1))
    return np.concatenate(parts)


def holm(p_values: Sequence[float], alpha: float = FAMILY_ALPHA) -> list[bool]:
    """Which tests pass, in their order: Holm's step-down rule, under which the chance that any true hypothesis is
    rejected is at most alpha, however the tests depend on one another."""
    passed = [True] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > alpha / (len(p_values) - step):
            break
        passed[index] = False
    return passed


def resolution(
    p: np.ndarray, wrong: np.ndarray | None, samples: int, bound: float, rng: np.random.Generator
) -> float | None:
    """The total variation that a test with this `bound` finds in POWER of runs; None when it finds none that large.

    wrong: the distribution towards which the engine errs, the draft's for one: an engine that answers from it in a
    share s of cases is s * TV(p, wrong) off. None: an error spread evenly over all cells, the hardest to see.
    """
    wrong = _spread_error(p, rng) if wrong is None else wrong
    furthest = distance(p, wrong)

    def found(share: float) -> bool:
        mixed = (1 - share) * p + share * wrong
        return float((_variations(mixed, p, samples, rng, _POWER_RUNS) > bound).mean()) >= POWER

    if not found(1.0):
        return None
    low, high = 0.0, 1.0
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high * furthest


def distance(p: np.ndarray, q: np.ndarray) -> float:
    """Total variation between two distributions over the same cells."""
    return float(np.abs(p - q).sum()) / 2


def _spread_error(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """p with every cell made more or less likely by the same factor, as far as that goes."""
    signs = rng.permutation(np.arange(len(p)) % 2 * 2.0 - 1)
    signs -= float((p * signs).sum())
    tilted: np.ndarray = p * (1 + signs / max(1e-9, float(-signs.min())))
    tilted /= tilted.sum()
    return tilted
