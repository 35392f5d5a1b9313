"""A machine's pace moves while it is measured, and not as a whole: one token waits for memory, several compute.

On a shared machine plain steps went from 67 to 132 ms from one answer to the next while passes over several tokens
stayed where they were, and at another time both moved (LOG.md, 2026-11-29). So there are two paces, each smoothed over
neighbouring answers: of plain steps, and of target passes over several tokens. What an answer took is put at the usual
pace of its kind: plain steps and passes over one token by the first, all else by the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import geometric_mean, median

from .session import CHAINS
from .step_model import Answer

WINDOW = 11
"""Answers of which a pace is the median, half of them before and half behind where there are so many."""
EVERY = 3
"""One answer of so many has passes timed in its midst, so a window is never of fewer. Passes are the same for all
points, so there are soon many of them; steps are each point's own."""
_SHARE = 3
"""A window is at most one in so many of the answers, or a plan of few would have one pace."""
MOVED = 1.25
"""A machine one of whose paces was at its slowest this many times what it was at its fastest is told of."""


@dataclass(frozen=True)
class Pace:
    """What moves with the machine, of each answer, smoothed: seconds of a plain step, and of a target pass over several
    tokens (the geometric mean over those of CHAINS)."""

    plain_s: Sequence[float]
    several_s: Sequence[float]

    @property
    def moved(self) -> bool:
        return any(max(pace) > MOVED * min(pace) for pace in (self.plain_s, self.several_s))


def pace_of(answers: Sequence[Answer]) -> Pace:
    """answers: in the order they were given, one at least."""
    return Pace(_smoothed(answers, _plain), _smoothed(answers, _several))


def steady(answers: Sequence[Answer]) -> list[Answer]:
    """All of them at the usual pace. answers: in the order they were given, one at least."""
    pace = pace_of(answers)
    plain_s, several_s = (median(_known(map(kind, answers))) for kind in (_plain, _several))
    return [
        _scaled(answer, plain_s / own_plain_s, several_s / own_several_s)
        for answer, own_plain_s, own_several_s in zip(answers, pace.plain_s, pace.several_s, strict=True)
    ]


def _plain(answer: Answer) -> float:
    return answer.plain.step_s


def _several(answer: Answer) -> float | None:
    if answer.passes is None:
        return None
    return geometric_mean(answer.passes.target[n] for n in CHAINS if n > 1)


def _known(each: Iterable[float | None]) -> list[float]:
    return [seconds for seconds in each if seconds is not None]


def _smoothed(answers: Sequence[Answer], kind: Callable[[Answer], float | None]) -> list[float]:
    """Of each answer, the median of `kind` over those nearest to it, itself among them."""
    each = list(map(kind, answers))
    window = min(len(each), WINDOW, max(EVERY, len(each) // _SHARE))
    starts = [min(max(0, at - window // 2), len(each) - window) for at in range(len(each))]
    return [median(_known(each[start : start + window])) for start in starts]


def _scaled(answer: Answer, plain: float, several: float) -> Answer:
    passes = answer.passes
    return Answer(
        replace(answer.speculative, step_s=several * answer.speculative.step_s),
        replace(answer.plain, step_s=plain * answer.plain.step_s),
        passes
        and replace(
            passes,
            target={n: (plain if n == 1 else several) * seconds for n, seconds in passes.target.items()},
            draft={g: several * seconds for g, seconds in passes.draft.items()},
        ),
    )
