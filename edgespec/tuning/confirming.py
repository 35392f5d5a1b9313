"""The last part of a tune: finalists, plain decoding and the untouched default in fresh processes, round after round.

What the profile says is measured here. Rounds go on until every interval is narrow or time is up, never until one arm
is ahead: looking for that after each round would find gains where none are (see the bench's stopping.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from ..arms import Arm
from ..paired import Speedup, learn_luck, speedup
from ..profile import Gain
from ..progress import Progress
from .measuring import TimeIsUp, Track
from .record import Record
from .world import Ask

FEWEST_ROUNDS = 2
MOST_ROUNDS = 4
PRECISION = 0.03
"""Half-width of a speed-up's 95 % interval that is narrow enough."""


class Confirmation:
    """Leads over the first of `arms`, by arm, prompt and round."""

    def __init__(self, track: Track, arms: Sequence[Arm], asks: Sequence[Ask], progress: Progress) -> None:
        self.track, self.arms, self.asks, self.progress = track, list(arms), asks, progress
        self.failed: dict[str, str] = {}
        self.rounds = 0
        self._leads: dict[str, dict[str, dict[int, float]]] = {arm.name: {} for arm in arms}

    def run(self) -> str:
        """Measure; why it ended, in words."""
        if len(self.arms) < 2:
            self.rounds = 1
            return "there was nothing to compare"
        for self.rounds in range(1, MOST_ROUNDS + 1):
            started = self.track.world.clock()
            self.track.close()
            self.track.record = Record()  # a round is compared with others of this tune alone
            running = [arm for arm in self.arms[1:] if arm.name not in self.failed]
            title = f"confirming {len(running)} arms, round {self.rounds}, {self.track.spent()}"
            try:
                with self.progress.task(title, len(running) * len(self.asks)) as task:
                    self.track.run(running, self.arms[0], self.asks, self._lead, self._fail, task)
            except TimeIsUp:
                return "time was up"
            except KeyboardInterrupt:
                if self.rounds < 2:
                    raise
                return f"it was stopped in round {self.rounds}"
            if self.rounds < FEWEST_ROUNDS:
                continue
            if all(self._narrow(arm) for arm in running):
                return f"every speed-up is known to within {PRECISION:.0%}"
            if self.track.left_s() < self.track.world.clock() - started:
                return "there was no time for another round"
        return f"{MOST_ROUNDS} rounds were measured"

    def over(self, arm: Arm, other: Arm, level: float = 0.95) -> Speedup:
        """The speed-up of `arm` over `other`: per prompt the median over rounds, both of the same round."""
        ratios = []
        by_round: dict[int, dict[str, float]] = {}
        for ask, ours in self._leads[arm.name].items():
            theirs = self._leads[other.name].get(ask, {})
            pairs = {number: ours[number] - theirs[number] for number in ours if number in theirs}
            if pairs:
                ratios.append(math.exp(median(pairs.values())))
            for number, lead in pairs.items():
                by_round.setdefault(number, {})[ask] = lead
        return speedup(ratios, level, learn_luck(by_round))

    def gain(self, arm: Arm, other: Arm, level: float = 0.95) -> Gain | None:
        """The same as a profile keeps it, the verdict at `level`; None when nothing could be paired."""
        found, strict = self.over(arm, other), self.over(arm, other, level)
        if found.geomean is None or strict.verdict == "reference":
            return None
        return Gain(geomean=found.geomean, ci95=found.ci95, verdict=strict.verdict, prompts=found.prompts)

    def geomean(self, arm: Arm) -> float:
        """Over the first arm; 0 for one that was not measured."""
        return self.over(arm, self.arms[0]).geomean or 0.0

    def _lead(self, arm: Arm, ask: Ask, ahead: float) -> None:
        self._leads[arm.name].setdefault(ask.id, {})[self.rounds] = ahead
        self._leads[self.arms[0].name].setdefault(ask.id, {})[self.rounds] = 0.0

    def _fail(self, arm: Arm, reason: str) -> None:
        self.failed[arm.name] = f"failed: {reason}"

    def _narrow(self, arm: Arm) -> bool:
        if arm.name in self.failed:
            return True
        found = self.over(arm, self.arms[0])
        return bool(found.ci95 and found.geomean and math.sqrt(found.ci95[1] / found.ci95[0]) - 1 <= PRECISION)
