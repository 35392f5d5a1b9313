"""What a step lasts on this machine: measured beforehand, or learned from the steps themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import log2
from typing import Protocol

from ..errors import EdgespecError


class Pricing(Protocol):
    def step(self, n: int) -> float:
        """Seconds of a whole step over n proposed nodes; plain decoding at 0."""

    @property
    def trial(self) -> float:
        """Seconds lost when, among plain steps, one token is proposed and refused."""


@dataclass(frozen=True)
class Costs:
    """What things last on this machine, in seconds.

    t_target: by n, a target pass over n tokens; n = 1 must be there, other lengths are interpolated, longer ones go on
    with the last slope. t_draft: drafting one more token. overhead: what a step with any proposal costs beyond both.
    """

    t_target: Mapping[int, float]
    t_draft: float = 0.0
    overhead: float = 0.0

    def __post_init__(self) -> None:
        if 1 not in self.t_target or min(self.t_target.values()) <= 0 or min(self.t_draft, self.overhead) < 0:
            raise EdgespecError(
                f"costs need seconds above 0 of a target pass over 1 token, and none below 0 elsewhere; got {self}"
            )

    def target(self, n: int) -> float:
        if n in self.t_target:
            return self.t_target[n]
        known = sorted(self.t_target)
        below = max(length for length in known if length < n)
        above = min((length for length in known if length > n), default=None)
        if above is None:
            if below == 1:
                return self.t_target[1]
            above, below = below, known[known.index(below) - 1]
        slope = (self.t_target[above] - self.t_target[below]) / (above - below)
        return self.t_target[below] + max(0.0, slope) * (n - below)

    def step(self, n: int) -> float:
        """A whole step over n proposed nodes; plain decoding at 0."""
        return self.target(n + 1) + (self.overhead + n * self.t_draft if n else 0.0)

    @property
    def trial(self) -> float:
        return self.step(1) - self.step(0)


PRIOR = Costs({1: 1.0, 2: 1.06, 4: 1.2, 8: 1.6, 16: 2.6})
"""v(n) that a meter starts from: a 1 B int4 target on a CPU, in units of its own pass over one token."""


def typical(timed: Sequence[float]) -> float:
    """The mean without the slowest eighth, at least one: a first pass of its kind pays for what is done once. Not the
    median: passes that are slow now and then cost what they cost."""
    kept = sorted(timed)[: max(1, len(timed) - max(1, len(timed) // 8))]
    return sum(kept) / len(kept)


_LINE = 15.0
"""Passes that the line through all lengths counts for against those timed at and near a length."""
_RIDGE = 0.05
"""How much the prior's slope counts for against that of the lengths seen, in the unit of their spread."""
_LEAST = 0.3
"""Share of the mean pass that one over a single token takes at least."""
_MORE, _MOVED = 1.5, 0.01
"""What is known is worked out anew once a length was timed so many times as often, or its time moved by that share: to
do it at every step took a hundredth of a small model's."""
_STAY = 8
"""Steps that a new length is expected to be kept for, which share the cost of the change."""


class Meter:
    """Learns t(n) from steps as they are timed: a line in what `prior` says of n, through all lengths that occurred,
    and off it at each n as that length and its neighbours say, nearer ones and those timed more often more loudly. So
    one step of any length sets the scale, two lengths set how dear further tokens are, neither a lucky pass nor a noisy
    clock judges a length seldom taken, and a machine that slows down is followed.

    A pass of another length than the last costs extra: the plugin prepares every layer for the new shape (2.4 ms on a
    46 M target whose pass takes 4.3, 3 ms on a 1 B one). So `change` is learned apart, a short pass may be padded to
    the last length, and going to another length has to be worth it.
    """

    def __init__(self, prior: Costs = PRIOR, memory: int = 40) -> None:
        self._prior = cache(prior.target)
        self._memory = memory
        self._seconds: dict[int, deque[float]] = {}
        self._timed: dict[int, tuple[float, int]] = {}  # n -> seconds, from how many passes
        self._known: dict[int, float] = {}
        self._stood: dict[int, tuple[float, int]] = {}  # _timed when _known began
        self._fitted: tuple[float, float] | None = None
        self._changes: deque[float] = deque(maxlen=memory)
        self.change = 0.0
        """Seconds that a pass of another length than the last costs beyond its own."""
        self._last: int | None = None
        self._met: set[int] = set()
        self._steady: set[int] = set()  # lengths that occurred twice in a row
        self._wasted = 0.0

    @property
    def knows_plain(self) -> bool:
        """Whether a pass over one token was timed."""
        return 1 in self._timed

    def begin(self) -> None:
        """A pass that was not timed, such as a prompt's, stands between the last and the next."""
        self._last = None
        self._wasted = 0.0

    def add(self, n: int, seconds: float) -> None:
        """A target pass over n tokens, with what always goes with it."""
        changed, new = n != self._last and bool(self._timed), n not in self._met
        self._last = n
        self._met.add(n)
        if changed and new:  # it pays for more than the change
            return
        if changed and n in self._steady:
            self._changes.append(max(0.0, seconds - self.target(n)))
            self.change = typical(self._changes)
        if changed:
            seconds -= min(self.change, seconds / 2)
        else:
            self._steady.add(n)
        timed = self._seconds.setdefault(n, deque(maxlen=self._memory))
        timed.append(seconds)
        self._timed[n] = mean, passes = typical(timed), len(timed)
        before, of = self._stood.get(n, (0.0, 0))
        if passes >= _MORE * of or abs(mean - before) > _MOVED * before:
            self._known.clear()
            self._fitted = None

    def target(self, n: int) -> float:
        """Seconds of a pass over n tokens behind another over n."""
        if n not in self._known:
            if self._fitted is None:
                self._fitted, self._stood = self._line(), dict(self._timed)
            level, slope = self._fitted
            first = self._prior(1)
            voices = total = _LINE
            for length, (seconds, passes) in self._stood.items():
                voice = passes / (1 + (2 * log2(n / length)) ** 2)
                voices += voice
                total += voice * seconds / (level + slope * (self._prior(length) - first))
            self._known[n] = (level + slope * (self._prior(n) - first)) * total / voices
        return self._known[n]

    def _line(self) -> tuple[float, float]:
        """(level, slope) of t(n) = level + slope (prior(n) - prior(1)): least squares over the lengths that occurred,
        each weighing as much as it was timed, with the prior's own slope as a ridge."""
        first = self._prior(1)
        if not self._timed:
            return first, 1.0
        beyond = {n: self._prior(n) / first - 1 for n in self._timed}
        passes = sum(count for _, count in self._timed.values())
        scale = sum(s * count for s, count in self._timed.values())
        scale /= sum((1 + beyond[n]) * count for n, (_, count) in self._timed.items())
        middle = sum(beyond[n] * count for n, (_, count) in self._timed.items()) / passes
        mean = sum(s * count for s, count in self._timed.values()) / passes
        spread = sum(count * (beyond[n] - middle) ** 2 for n, (_, count) in self._timed.items())
        joint = sum(count * (beyond[n] - middle) * (s - mean) for n, (s, count) in self._timed.items())
        slope = max(0.0, (joint + _RIDGE * scale) / (spread + _RIDGE))
        level = mean - slope * middle
        if level < _LEAST * mean:  # noise: a pass over one token reads all weights
            level = slope = scale
        return level, slope / first

    def coming(self, n: int) -> float:
        """Seconds that n tokens take at the next pass: with the share of a change, or padded, whichever is less."""
        last = self._last
        if last is None or n == last:
            return self.target(n)
        moved = self.target(n) + self.change / _STAY
        return min(moved, self.target(last)) if n < last else moved

    def settle(self, n: int) -> int:
        """The length of the next pass, which has to hold n tokens: the last length, until padding to it in a row has
        cost a change."""
        if self._last is None or n >= self._last:
            self._wasted = 0.0
            return n
        self._wasted += max(0.0, self.target(self._last) - self.target(n))
        if self._wasted > self.change:
            self._wasted = 0.0
            return n
        return self._last


_RECENT = 32
"""Proposals that a drafter's prices are learned from, of whatever length: a machine that slows down is followed."""
_FURTHER = 2.0
"""Proposals that "every token costs the same" counts for, in the unit of their lengths' spread."""


class Metered:
    """One drafter's prices: the target's from a shared meter, its own seconds a proposal and a token learned too.

    A model's first token of a proposal costs more than its others: it is fed with what the target said, a pass of
    another length than the next ones (0.3 ms a token and 1 ms a proposal, 3 M draft).
    """

    def __init__(self, meter: Meter, *, per_node: bool, own: float | None = None) -> None:
        """per_node: whether drafting n nodes takes a pass each, or the same for all n. own: seconds a node, or a
        proposal, where they are known beforehand."""
        self._meter = meter
        self._per_node = per_node
        self._timed: deque[tuple[int, float]] = deque(maxlen=_RECENT)  # (nodes, seconds) of proposals
        self._line = (0.0, own) if per_node and own is not None else None if own is None else (own, 0.0)
        self._openings: deque[float] = deque(maxlen=9)
        self._opened = True

    def begin(self) -> None:
        """A new text: its first proposal costs more, as a model then reads the prompt."""
        self._opened = False

    def add(self, n: int, seconds: float) -> None:
        """A proposal of n nodes took so long to make."""
        if not self._opened:
            self._opened = True
            self._openings.append(max(0.0, seconds - self.own(n)))
            return
        self._timed.append((max(1, n), seconds))
        self._line = self._fit() if self._per_node else (typical([each for _, each in self._timed]), 0.0)

    def _fit(self) -> tuple[float, float]:
        """(seconds a proposal, seconds a node), by least squares; of a single length all is put to the nodes."""
        by_nodes: dict[int, list[float]] = {}
        for n, seconds in self._timed:
            by_nodes.setdefault(n, []).append(seconds)
        timed = [(n, typical(seconds), len(seconds)) for n, seconds in by_nodes.items()]
        proposals = len(self._timed)
        n_mean = sum(n * count for n, _, count in timed) / proposals
        mean = sum(seconds * count for _, seconds, count in timed) / proposals
        spread = sum(count * (n - n_mean) ** 2 for n, _, count in timed)
        joint = sum(count * (n - n_mean) * (seconds - mean) for n, seconds, count in timed)
        a_node = min(max(0.0, joint + _FURTHER * mean / n_mean) / (spread + _FURTHER), mean / n_mean)
        return mean - a_node * n_mean, a_node

    def own(self, n: int) -> float:
        """Seconds to draft n nodes. Unknown, it is a tenth of a target pass a node for a model, nothing for others."""
        if self._line is None:
            return 0.1 * n * self._meter.target(1) if self._per_node else 0.0
        return self._line[0] + self._line[1] * n

    def step(self, n: int) -> float:
        return self._meter.coming(n + 1) + (self.own(n) if n else 0.0)

    @property
    def trial(self) -> float:
        opening = typical(self._openings) if self._openings and not self._opened else 0.0
        return self._meter.target(2) + self.own(1) - self._meter.target(1) + 2 * self._meter.change + opening
