"""Which arms are out of the race: successive elimination on paired log ratios, with a bounded chance to lose the best.

key: lead of an arm on a prompt = log(seconds per token of the reference / of the arm), both measured in one block.

After each stage every arm that is left is compared with the leader, prompt by prompt. It is out when it is surely
slower: by a one-sided t test whose level is the race's error rate shared out over all arms and stages (Bonferroni), so
the arm that is truly best is lost with at most that chance. With the few prompts of an early stage a variance by itself
is little known; it is drawn towards that of all arms together (Smyth 2004, moderated t).
Two engines also differ by the luck of their processes, which more prompts do not average out; it is allowed for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, variance

from scipy import stats

from ..paired import PROCESS_LUCK

ERROR_RATE = 0.05
FEWEST_PROMPTS = 3
"""Below that no arm is ever found slower."""
PRIOR_PROMPTS = 4.0
"""How many prompts' worth of freedom the common variance has in an arm's own."""
LEAST_SIGMA = 0.01
"""Nothing is timed better than this, whatever a few values say."""

Leads = Mapping[str, float]
"""An arm's lead by prompt."""


@dataclass
class Race:
    """The state of one race: what every arm measured, who is left, and why the others are not.

    stages: how many times `stage` will be called at most; the error rate is shared out over them.
    """

    arms: Sequence[str]
    stages: int
    error_rate: float = ERROR_RATE
    leads: dict[str, dict[str, float]] = field(default_factory=dict)
    out: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.leads = {arm: {} for arm in self.arms}

    @property
    def left(self) -> list[str]:
        """Arms still in, the fastest first; those that have measured nothing yet last."""
        still = [arm for arm in self.arms if arm not in self.out]
        return sorted(still, key=lambda arm: -self.mean(arm) if self.leads[arm] else math.inf)

    @property
    def leader(self) -> str | None:
        measured = [arm for arm in self.left if self.leads[arm]]
        return measured[0] if measured else None

    def mean(self, arm: str) -> float:
        """The arm's mean lead over its prompts."""
        return fmean(self.leads[arm].values())

    def ratio(self, arm: str) -> float | None:
        """How many times as fast as the reference; None before anything was measured."""
        return math.exp(self.mean(arm)) if self.leads[arm] else None

    @property
    def measured(self) -> list[str]:
        """Arms with enough prompts to be judged, the fastest first, those that are out as well; none that failed."""
        judged = [arm for arm in self.arms if len(self.leads[arm]) >= FEWEST_PROMPTS and arm not in self.failed]
        return sorted(judged, key=lambda arm: -self.mean(arm))

    def drop(self, arm: str, reason: str) -> None:
        self.out.setdefault(arm, reason)

    def fail(self, arm: str, reason: str) -> None:
        self.failed.add(arm)
        self.out[arm] = f"failed: {reason}"

    def stage(self) -> list[str]:
        """Take out what is surely slower than the leader; the arms that went."""
        leader = self.leader
        if leader is None:
            return []
        others = [arm for arm in self.left if arm != leader and self.leads[arm]]
        behind = {arm: self._behind(arm, leader) for arm in others}
        spreads = [variance(values) for values in behind.values() if len(values) >= FEWEST_PROMPTS]
        common = max(fmean(spreads) if spreads else 0.0, LEAST_SIGMA**2)
        level = self.error_rate / max(1, len(self.arms) - 1) / max(1, self.stages)
        gone = []
        for arm, values in behind.items():
            if len(values) >= FEWEST_PROMPTS and surely_above_zero(values, common, level):
                self.drop(arm, f"{math.exp(-fmean(values)):.2f}x of {leader}, surely slower")
                gone.append(arm)
        return gone

    def lead_over(self, arm: str, other: str) -> float | None:
        """The mean log lead of `arm` over `other` on the prompts that both answered; None when there are too few."""
        behind = self._behind(other, arm)
        return fmean(behind) if len(behind) >= FEWEST_PROMPTS else None

    def halve(self, keep: int, reason: str) -> list[str]:
        """Keep only the `keep` fastest: for want of time, not because the others are known to be slower."""
        gone = self.left[max(1, keep) :]
        for arm in gone:
            self.drop(arm, reason)
        return gone

    def _behind(self, arm: str, leader: str) -> list[float]:
        theirs = self.leads[leader]
        return [theirs[prompt] - lead for prompt, lead in self.leads[arm].items() if prompt in theirs]


def surely_above_zero(values: Sequence[float], common: float, level: float) -> bool:
    """One-sided moderated t test of the mean of `values` (at least two) being above 0.

    common: the variance that theirs is drawn towards. The luck of two processes is added to the mean's own variance.
    """
    own = len(values) - 1
    pooled = (PRIOR_PROMPTS * common + own * variance(values)) / (PRIOR_PROMPTS + own)
    error = math.sqrt(pooled / len(values) + PROCESS_LUCK**2)
    return fmean(values) / error > float(stats.t.ppf(1 - level, PRIOR_PROMPTS + own))
