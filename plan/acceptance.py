"""Alpha as a run shows it, with its interval: does a twin accept what it was made to accept?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from edgespec.engine.step import Step


@dataclass(frozen=True)
class MeasuredAlpha:
    """accepted of the `examined` proposals, those whose predecessors in the step were all accepted (Leviathan's alpha).

    interval: exact binomial, 95 %. pvalue: of the asked-for alpha, two-sided, exact.
    """

    asked: float
    accepted: int
    examined: int
    alpha: float
    interval: tuple[float, float]
    pvalue: float


def measure_alpha(answers: Sequence[Sequence[Step]], asked: float) -> MeasuredAlpha | None:
    """Alpha over all steps of several answers, each answer's prefill left out; None when nothing was proposed.

    Steps whose counts the engine does not tell are left out. In a step the examined proposals are the accepted ones and
    the first wrong one; stopping at the first wrong one leaves the trials independent.
    """
    accepted = examined = 0
    for steps in answers:
        for step in steps[1:]:
            if step.accepted is not None and step.proposed is not None:
                accepted += step.accepted
                examined += min(step.accepted + 1, step.proposed)
    if not examined:
        return None
    test = binomtest(accepted, examined, asked)
    interval = test.proportion_ci(0.95, method="exact")
    return MeasuredAlpha(
        asked, accepted, examined, accepted / examined, (float(interval.low), float(interval.high)), float(test.pvalue)
    )
