"""A machine's pace moves while it is measured; the plain turns of neighbouring answers say where it is.

What an answer took, its passes too, is put at the pace that plain decoding has on the whole: multiplied by the usual
plain step over the plain step around it, the median of WINDOW answers. Not over the answer's own: a plain step waits
for memory, which a neighbour on a shared machine takes for seconds (67 to 132 ms from one answer to the next, while
steps over several tokens, which compute, stayed within a few per cent: LOG.md, 2026-11-29).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .step_model import Answer

WINDOW = 11
"""Answers, half of them before and half behind; about a minute."""
MOVED = 1.25
"""A machine whose plain step, so smoothed, was at its slowest this many times what it was at its fastest is told of."""


@dataclass(frozen=True)
class Pace:
    """Seconds of a plain step, medians of WINDOW answers: the fastest, the slowest, and the median of all answers."""

    fastest_s: float
    usual_s: float
    slowest_s: float

    @property
    def moved(self) -> bool:
        return self.slowest_s > MOVED * self.fastest_s


def pace_of(answers: Sequence[Answer]) -> Pace:
    """answers: in the order they were given. Raises ValueError without one."""
    around = _around(answers)
    return Pace(min(around), median(answer.plain.step_s for answer in answers), max(around))


def steady(answers: Sequence[Answer]) -> list[Answer]:
    """All of them at the usual pace. answers: in the order they were given."""
    usual_s = median(answer.plain.step_s for answer in answers)
    return [answer.scaled(usual_s / around_s) for answer, around_s in zip(answers, _around(answers), strict=True)]


def _around(answers: Sequence[Answer]) -> list[float]:
    """Of each answer, the median plain step of the WINDOW nearest, itself among them."""
    steps = [answer.plain.step_s for answer in answers]
    last = max(0, len(steps) - WINDOW)
    starts = [min(max(0, at - WINDOW // 2), last) for at in range(len(steps))]
    return [median(steps[start : start + WINDOW]) for start in starts]
