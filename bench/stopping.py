"""When enough has been repeated: decided by how wide the intervals are, never by where they lie.

Measuring goes in whole rounds: every arm answers every prompt once. After each round the run stops when

narrow     every contender's interval is within the asked precision, and so is what the noise alone would make of it
saturated  as many rounds again would hardly narrow those that are not: prompts differ, not repetitions
limit      the most repetitions are done, or another round would pass the budget

Why not on the verdict: a run that looks after each round and stops once one arm seems ahead calls equal arms different
in 22 % of runs (28 prompts, up to 12 rounds). Why the noise too: with few prompts an interval is narrow by luck now and
then, and a run that stops on just that moment errs in 10 % (4 prompts) or 7 % (8). How repetitions of one prompt differ
is independent of the prompts' means, for normal noise, so asking that of them as well brings both below 5 %. Simulated
in tests/bench/test_bench_stopping.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median, variance

import numpy as np
from scipy import stats

from edgespec.errors import EdgespecError

from . import statistics as st
from .plan import REFERENCE
from .rows import Line, Load, Row

MIN_REPETITIONS = 2
"""One repetition cannot be told from its own noise, and gives no control of plain against itself."""
WORTHWHILE = 0.10
"""Going on must promise to narrow an interval by this share when as many rounds again are measured. Doubling is asked
about, not one round, because the median of an odd number of repetitions is hardly better than of one fewer."""


@dataclass(frozen=True)
class Limits:
    """precision: half-width of a speed-up's 95 % interval, relative to the speed-up, that is narrow enough.
    budget_s: seconds that answers and loads may take in all; None: no limit. It does not undercut MIN_REPETITIONS."""

    precision: float = 0.03
    max_repetitions: int = 10
    budget_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.precision < 1:
            raise EdgespecError(
                f"the precision is {self.precision:g}; it must be between 0 and 1, such as 0.03 for 3 %"
            )
        if self.max_repetitions < 1:
            raise EdgespecError(f"the most repetitions are {self.max_repetitions}; it must be at least 1")
        if self.budget_s is not None and self.budget_s <= 0:
            raise EdgespecError(f"the time budget is {self.budget_s:g} s; it must be above 0")


@dataclass(frozen=True)
class Decision:
    """Whether to measure another round, and why, in words that end a sentence."""

    go_on: bool
    reason: str


@dataclass(frozen=True)
class Width:
    """Half of the width of an arm's 95 % interval, relative to its speed-up: now; if prompts differed by the noise of
    their repetitions alone; and expected after as many rounds again. None where one repetition cannot tell."""

    arm: str
    now: float
    of_noise: float | None
    doubled: float | None

    def within(self, precision: float) -> bool:
        return max(self.now, self.of_noise or 0.0) <= precision

    @property
    def saturated(self) -> bool:
        return self.doubled is not None and self.doubled > self.now * (1 - WORTHWHILE)


def enough(
    rows: Sequence[Row],
    contenders: Sequence[str],
    cases: Sequence[str],
    limits: Limits,
    *,
    spent_s: float = 0.0,
    reference: str = REFERENCE,
) -> Decision:
    """Whether the run may stop after the rows measured so far (phase "measure", of rows with one key the last).

    contenders: arms compared with `reference`. cases: ids of a whole round. spent_s: see `spent`. A round that is
    measured in part is always finished.
    """
    done = whole_rounds(rows, [reference, *contenders], cases)
    asked = min(MIN_REPETITIONS, limits.max_repetitions)
    if done < asked:
        return Decision(True, f"{done} of at least {asked} repetitions are measured")
    if any(row.repetition >= done and row.case in set(cases) for row in rows):
        return Decision(True, f"repetition {done + 1} is measured in part, and repetitions are whole")
    if not contenders:
        return Decision(False, "no arm is compared with another")
    widths = [width for arm in contenders if (width := interval_width(rows, arm, reference)) is not None]
    if not widths:
        return Decision(False, "no interval can be given: fewer than three prompts were answered by two arms")
    widest = max(widths, key=lambda width: width.now)
    known = f"the widest 95 % interval is {widest.arm}'s, ±{widest.now:.1%}"
    wide = [width for width in widths if not width.within(limits.precision)]
    if not wide:
        return Decision(False, f"every speed-up is known to within ±{limits.precision:.1%}: {known}")
    if widest.doubled is not None and all(width.saturated for width in wide):
        more = f"more repetitions would hardly narrow it (twice as many: ±{widest.doubled:.1%}), more prompts would"
        return Decision(False, f"{known}; {more}")
    if done >= limits.max_repetitions:
        one = "one repetition, all that was allowed, is done"
        return Decision(False, f"{one if done == 1 else f'{done} repetitions, the most allowed, are done'}; {known}")
    round_s = sum(row.wall_s or 0.0 for row in rows) / done
    if limits.budget_s is not None and spent_s + round_s > limits.budget_s:
        more = f"another repetition of about {round_s:.0f} s would pass the budget of {limits.budget_s:.0f} s"
        return Decision(False, f"{more} ({spent_s:.0f} s are spent); {known}")
    return Decision(True, f"{known}; asked is ±{limits.precision:.1%}, noise within prompts included")


def spent(lines: Iterable[Line]) -> float:
    """Seconds of a run's answers, warm-up and trial included, and of its loads."""
    return sum(
        line.wall_s or 0.0 if isinstance(line, Row) else line.load_s if isinstance(line, Load) else 0.0
        for line in lines
    )


def whole_rounds(rows: Sequence[Row], arms: Sequence[str], cases: Sequence[str]) -> int:
    """Repetitions, counted from the first, in which every arm answered every case or failed to."""
    seen = {(row.repetition, row.case, row.arm) for row in rows}
    last = max((row.repetition for row in rows), default=-1)
    for repetition in range(last + 1):
        if any((repetition, case, arm) not in seen for case in cases for arm in arms):
            return repetition
    return last + 1


def interval_width(rows: Sequence[Row], arm: str, reference: str = REFERENCE) -> Width | None:
    """How wide `arm`'s interval is; None where there is none.

    The variance of the prompts' ratios is what prompts differ by plus what is left of the noise within a prompt; only
    the second shrinks with repetitions.
    """
    logs = [math.log(ratio) for ratio in st.prompt_ratios(rows, arm, reference).values()]
    interval = st.interval_of_mean(logs)
    if interval is None:
        return None
    half = (interval[1] - interval[0]) / 2
    total = variance(logs)
    repeated = [values for values in _by_repetition(rows, arm, reference).values() if len(values) > 1]
    if not repeated:
        return Width(arm, math.expm1(half), None, None)
    count = round(median(map(len, repeated)))
    noise = _noise(repeated, count) * _medians(count)[0]
    of_noise = float(stats.t.ppf(0.975, len(logs) - 1)) * math.sqrt(noise / len(logs))
    share = min(1.0, noise / total) if total else 1.0
    shrunk = math.sqrt(1 - share + share * _medians(2 * count)[0] / _medians(count)[0])
    return Width(arm, math.expm1(half), math.expm1(of_noise), math.expm1(half * shrunk))


def _noise(repeated: Sequence[Sequence[float]], count: int) -> float:
    """Variance of one repetition's log ratio around its prompt. From three repetitions on by the median absolute
    deviation, because the median over repetitions passes over a hiccup as well; of two it is the mean, and does not."""
    if count < 3:
        return fmean(map(variance, repeated))
    deviations = np.concatenate([np.abs(np.asarray(values) - np.median(values)) for values in repeated])
    return _medians(count)[1] * float(np.median(deviations)) ** 2


@cache
def _medians(count: int) -> tuple[float, float]:
    """Of samples of `count` standard normal values: the variance of their medians, and the variance of a value (1)
    over the square of the median distance from the sample's median. By seeded simulation, to about 1 %."""
    values = np.random.default_rng(0).standard_normal((20_000, count))
    medians = np.median(values, axis=1, keepdims=True)
    return float(medians.var()), float(1 / np.median(np.abs(values - medians)) ** 2)


def _by_repetition(rows: Sequence[Row], arm: str, reference: str) -> dict[str, list[float]]:
    """Each prompt's log ratios, one a repetition."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        if row.arm in (arm, reference):
            groups.setdefault(row.repetition, []).append(row)
    found: dict[str, list[float]] = {}
    for group in groups.values():
        for prompt, ratio in st.prompt_ratios(group, arm, reference).items():
            found.setdefault(prompt, []).append(math.log(ratio))
    return found
