"""What a speculative step takes and gives: a model of step times from passes, fitted to a few real steps.

Notation: alpha, gamma, tau, c, v as everywhere here (Leviathan et al. 2023, eq. 1; there with v = 1).
  seconds of a step = t_target(gamma + 1) + (gamma + alpha^gamma) draft passes + overhead
                      gamma 0: t_target(1) + plain overhead
  speed-up = tau(alpha, gamma) * seconds(0) / seconds(gamma)
Behind a step whose proposals were all accepted, chance alpha^gamma, the draft reads one token more: its own last. The
passes are timed alone, in the midst of the answers; the two overheads are what real steps take beyond them, the
engine's own time, never below 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from scipy.optimize import brentq

from edgespec.engine.costs import Costs

GAMMAS = tuple(range(1, 9))


def tau(alpha: float | Sequence[float], gamma: int) -> float:
    """Tokens a step emits on average when each of `gamma` proposals is accepted with chance alpha, given that those
    before it were. alpha: one, or one by position, of which the last also holds for those behind."""
    alphas = [alpha] if isinstance(alpha, (int, float)) else list(alpha)
    total, chance = 1.0, 1.0
    for position in range(gamma):
        chance *= alphas[min(position, len(alphas) - 1)]
        total += chance
    return total


def alpha_of_rate(rate: float, gamma: int) -> float:
    """The alpha, the same at each position, that gives the acceptance rate accepted/proposed at `gamma`."""
    if rate <= 0:
        return 0.0
    if rate >= 1:
        return 1.0
    return float(brentq(lambda alpha: (tau(alpha, gamma) - 1) / gamma - rate, 0.0, 1.0, xtol=1e-9))


def all_accepted(alpha: float | Sequence[float], gamma: int) -> float:
    """The chance that every one of `gamma` proposals is accepted; alpha as for `tau`."""
    return tau(alpha, gamma) - tau(alpha, gamma - 1) if gamma else 1.0


@dataclass(frozen=True)
class StepModel:
    """Seconds. target: by n, a pass of the target over n tokens. draft: by g, g passes of the draft over a token each.
    wide: a draft pass over WIDE tokens / over one. overhead, plain_overhead: of a step with proposals, of one without.
    """

    target: Mapping[int, float]
    draft: Mapping[int, float]
    wide: float = 1.0
    overhead: float = 0.0
    plain_overhead: float = 0.0

    @property
    def c(self) -> float:
        """Draft pass / target pass, the mean over the gammas that were timed."""
        return sum(seconds / g for g, seconds in self.draft.items()) / len(self.draft) / self.target[1]

    def v(self, n: int) -> float:
        return Costs(self.target).target(n) / self.target[1]

    def drafting(self, gamma: float) -> float:
        """Seconds of gamma draft passes: between those timed on a straight line, beyond them by their last slope."""
        counts = [0, *sorted(self.draft)]
        seconds = [0.0, *(self.draft[count] for count in counts[1:])]
        if gamma <= counts[-1]:
            return float(np.interp(gamma, counts, seconds))
        slope = (seconds[-1] - seconds[-2]) / (counts[-1] - counts[-2])
        return seconds[-1] + max(0.0, slope) * (gamma - counts[-1])

    def seconds(self, gamma: int, alpha: float | Sequence[float] = 0.0) -> float:
        """Of a whole step, on average."""
        if not gamma:
            return self.target[1] + self.plain_overhead
        drafting = self.drafting(gamma + all_accepted(alpha, gamma))
        return Costs(self.target).target(gamma + 1) + drafting + self.overhead

    def speedup(self, alpha: float | Sequence[float], gamma: int) -> float:
        return tau(alpha, gamma) * self.seconds(0) / self.seconds(gamma, alpha)

    def best_gamma(self, alpha: float | Sequence[float], gammas: Iterable[int] = GAMMAS) -> int:
        """The gamma with the highest speed-up; 0, plain decoding, where none is above 1."""
        best = max(gammas, key=lambda gamma: self.speedup(alpha, gamma))
        return best if self.speedup(alpha, best) > 1 else 0

    def best(self, alpha: float | Sequence[float]) -> float:
        """The speed-up at the best gamma, 1 where that is 0."""
        gamma = self.best_gamma(alpha)
        return self.speedup(alpha, gamma) if gamma else 1.0

    def breakeven(self, gamma: int | None = None) -> float | None:
        """The alpha from which on speculation pays, at `gamma` or at the best; None when it never does."""
        gammas = GAMMAS if gamma is None else (gamma,)

        def gain(alpha: float) -> float:
            return max(self.speedup(alpha, each) for each in gammas) - 1

        if gain(1.0) <= 0:
            return None
        return 0.0 if gain(0.0) >= 0 else float(brentq(gain, 0.0, 1.0, xtol=1e-6))


@dataclass(frozen=True)
class Timed:
    """Real steps after the prompt's. tokens: that they emitted. step_s: seconds of a step. gamma 0: plain decoding; its
    alpha says nothing."""

    alpha: float
    gamma: int
    tokens: int
    steps: int
    step_s: float

    @property
    def token_s(self) -> float:
        """Seconds a token."""
        return self.step_s * self.steps / self.tokens


@dataclass(frozen=True)
class Answer:
    """What one answer took, by turns: steps with the draft, plain ones, and, where they were timed in its midst, passes
    alone (a StepModel without overheads)."""

    speculative: Timed
    plain: Timed
    passes: StepModel | None

    @property
    def point(self) -> tuple[float, int]:
        """(alpha, gamma)."""
        return self.speculative.alpha, self.speculative.gamma


def usual_passes(answers: Iterable[Answer]) -> StepModel:
    """The medians over all that were timed; lengths may have been timed in some answers only. Raises StatisticsError
    where none was."""
    target: dict[int, list[float]] = {}
    draft: dict[int, list[float]] = {}
    wide: list[float] = []
    for passes in (answer.passes for answer in answers):
        if passes is None:
            continue
        wide.append(passes.wide)
        for times, timed in ((target, passes.target), (draft, passes.draft)):
            for n, seconds in timed.items():
                times.setdefault(n, []).append(seconds)
    return StepModel(
        {n: median(target[n]) for n in sorted(target)}, {n: median(draft[n]) for n in sorted(draft)}, median(wide)
    )


def beyond_passes(answers: Sequence[Answer], fit_at: Iterable[tuple[float, int]]) -> tuple[float, float]:
    """Seconds that steps take beyond what the usual passes make of them, plain ones and those at `fit_at`: medians over
    answers. Below 0 the passes took longer, timed alone, than whole steps did. Raises StatisticsError without an answer
    there."""
    fit, passes = set(fit_at), usual_passes(answers)
    plain = median(answer.plain.step_s for answer in answers)
    speculative = median(
        answer.speculative.step_s - passes.seconds(gamma, alpha)
        for answer in answers
        for alpha, gamma in (answer.point,)
        if answer.point in fit
    )
    return plain - passes.seconds(0), speculative


def fitted(answers: Sequence[Answer], fit_at: Iterable[tuple[float, int]]) -> StepModel:
    """The usual passes, with the overheads that fit best of those that can be: an engine takes no time back, so none is
    below 0. answers: at one pace of the machine (pace.py)."""
    plain, speculative = beyond_passes(answers, fit_at)
    return replace(usual_passes(answers), plain_overhead=max(0.0, plain), overhead=max(0.0, speculative))


@dataclass(frozen=True)
class Residual:
    """A step at one point as the model has it and as it was, seconds. error: modelled / measured - 1."""

    alpha: float
    gamma: int
    modelled_s: float
    measured_s: float

    @property
    def error(self) -> float:
        return self.modelled_s / self.measured_s - 1


def residuals(model: StepModel, answers: Iterable[Answer], fit_at: Iterable[tuple[float, int]]) -> list[Residual]:
    """Of what the model was fitted to: plain decoding (gamma and alpha 0), and the points of `fit_at`. Measured: the
    median over answers."""
    fit = set(fit_at)
    found: dict[tuple[int, float], list[float]] = {}
    for answer in answers:
        found.setdefault((0, 0.0), []).append(answer.plain.step_s)
        if answer.point in fit:
            alpha, gamma = answer.point
            found.setdefault((gamma, alpha), []).append(answer.speculative.step_s)
    return [
        Residual(alpha, gamma, model.seconds(gamma, alpha), median(seconds))
        for (gamma, alpha), seconds in sorted(found.items())
    ]


@dataclass(frozen=True)
class Point:
    """A point of the surface as it was measured and as the model has it. held_back: its steps were not used to fit the
    model. error: predicted / measured - 1. answers: that were measured there."""

    alpha: float
    gamma: int
    predicted_speedup: float
    measured_speedup: float
    held_back: bool
    answers: int

    @property
    def error(self) -> float:
        return self.predicted_speedup / self.measured_speedup - 1


def compared(model: StepModel, answers: Sequence[Answer], fit_at: Iterable[tuple[float, int]]) -> list[Point]:
    """Each measured point beside the model's. Measured: tokens a second of its speculative steps over those of plain
    ones, medians over its answers and over all answers. answers: at one pace of the machine (pace.py)."""
    fit = set(fit_at)
    plain_s = median(answer.plain.token_s for answer in answers)
    found: dict[tuple[float, int], list[float]] = {}
    for answer in answers:
        found.setdefault(answer.point, []).append(plain_s / answer.speculative.token_s)
    return [
        Point(alpha, gamma, model.speedup(alpha, gamma), median(gains), (alpha, gamma) not in fit, len(gains))
        for (alpha, gamma), gains in sorted(found.items())
    ]
