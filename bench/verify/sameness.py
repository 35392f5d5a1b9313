"""Greedy answers compared token for token, and whether a difference is rounding or a fault.

Two engines that compute the same logits in another order may choose differently where two tokens are almost equally
likely. So each difference comes with its logit gap, measured on the target's exact logits at that place: those of the
reference's token minus those of the arm's. Rounding moves each engine's gap by at most some shift, so it explains a
difference whose gap is within twice that shift (once for either engine), and nothing larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..statistics import first_divergence

EXPLAINED_SHIFTS = 2


@dataclass(frozen=True)
class Difference:
    """The first token (counted from 0) at which an answer leaves the reference's; `of` is the length of that one.

    logit_gap: None when one of the two had ended there.
    """

    prompt: str
    position: int
    of: int
    logit_gap: float | None

    def explained(self, shift: float) -> bool:
        """Whether rounding that moves gaps by at most `shift` can be the reason."""
        return self.logit_gap is not None and abs(self.logit_gap) <= EXPLAINED_SHIFTS * shift


@dataclass(frozen=True)
class Sameness:
    """Answers equal to the reference's, of those compared, and the differences of the others."""

    total: int
    differences: tuple[Difference, ...]

    @property
    def matched(self) -> int:
        return self.total - len(self.differences)

    @property
    def differing(self) -> frozenset[str]:
        return frozenset(difference.prompt for difference in self.differences)

    def unexplained(self, shift: float) -> tuple[Difference, ...]:
        return tuple(difference for difference in self.differences if not difference.explained(shift))


def difference(prompt: str, ours: Sequence[int], theirs: Sequence[int], logits: np.ndarray) -> Difference | None:
    """None when equal. logits: the target's exact ones, f32 [answer, vocabulary], along `theirs` at least as far as
    the two agree."""
    place = first_divergence(ours, theirs)
    if place is None:
        return None
    gap = None
    if place < min(len(ours), len(theirs)):
        gap = float(logits[place, theirs[place]]) - float(logits[place, ours[place]])
    return Difference(prompt, place, len(theirs), gap)


@dataclass(frozen=True)
class Margins:
    """By place of an answer, the two likeliest tokens, i64 [n, 2], and how far the first's logit is above the
    second's, f32 [n]: what is kept of logits that fill a hundred megabytes."""

    best: np.ndarray
    gap: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray) -> Margins:
        """logits: f32 [n, vocabulary]"""
        best = np.argpartition(-logits, 1, axis=1)[:, :2]
        return cls(best, _gap(logits, best))

    def shift(self, logits: np.ndarray) -> float:
        """The largest change of a gap under `logits`, the same answer's as rounding leaves them."""
        return float(np.abs(_gap(logits, self.best) - self.gap).max())


def _gap(logits: np.ndarray, best: np.ndarray) -> np.ndarray:
    pairs = np.take_along_axis(logits, best, axis=1)
    return np.asarray(pairs[:, 0] - pairs[:, 1])


def differs_more(arm: Sameness, control: Sameness) -> float:
    """One-sided exact p-value of McNemar's test, prompt by prompt: does the arm leave the reference on more prompts
    than the control does? Only prompts on which the two disagree count; under the null each is a coin's toss."""
    only_arm = len(arm.differing - control.differing)
    only_control = len(control.differing - arm.differing)
    if not only_arm:
        return 1.0
    return float(stats.binomtest(only_arm, only_arm + only_control, 0.5, alternative="greater").pvalue)
