"""Speculation and plain decoding by turns within one answer, in some of them passes alone between the turns: all at the
pace that the machine has at that moment.

Whole runs beside one another lie minutes apart, and on a shared machine the same run took from 0.9 to 1.4 times as long
from one minute to the next, and passes over several tokens moved otherwise than those over one (LOG.md, 2026-11-29). A
turn is a second or two.

The first step of a turn counts for neither: its pass has another length than the one before, which the plugin prepares
for, and a draft reads there what plain steps wrote.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from edgespec.engine.proposal import NOTHING, Drafter, Proposal, Verified
from edgespec.engine.step import Step

from .step_model import Timed

TURN = 6
"""Steps of a turn; the first turn is a speculative one. Not fewer than the largest gamma that is measured: the last
turn, a plain one, is what keeps an answer's end from cutting the last proposals."""


def speculates(step: int) -> bool:
    """Whether the step, counted from the first behind the prompt's, is one of a speculative turn."""
    return step // TURN % 2 == 0


def counts(step: int) -> bool:
    return step % TURN > 0


def steps_of(pairs: int) -> int:
    """Steps of an answer with so many turns of each kind."""
    return 2 * TURN * pairs


def pairs_of(steps: int) -> int:
    return steps // steps_of(1)


class Alternating:
    """A drafter that is silent in every other turn, and whose model then does not run. between: called once a text, in
    no step's time, behind so many pairs of turns as `pause` says. See Drafter."""

    def __init__(
        self,
        drafter: Drafter,
        between: Callable[[], object] = lambda: None,
        pause: int = 1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name = drafter.name
        self._drafter = drafter
        self._between = between
        self._pause = steps_of(pause)
        self._clock = clock
        self._began: list[float] = []
        self._ended: list[float] = []
        self._observed = 0.0

    @property
    def seconds(self) -> list[float]:
        """Of each step behind the prompt's, from its proposal until the next one is asked for; of the last, until its
        outcome was heard."""
        return [end - began for began, end in zip(self._began, [*self._ended, self._observed], strict=False)]

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self._began, self._ended = [], []
        self._drafter.begin(prompt_ids)

    def propose(self, budget: int) -> Proposal:
        step = len(self._began)
        if step:
            self._ended.append(self._clock())
            if step == self._pause:
                self._between()
        self._began.append(self._clock())
        return self._drafter.propose(budget) if speculates(step) else NOTHING

    def observe(self, verified: Verified) -> None:
        self._drafter.observe(verified)
        self._observed = self._clock()

    def close(self) -> None:
        self._drafter.close()


def timed(alpha: float, gamma: int, steps: Sequence[Step], seconds: Sequence[float]) -> tuple[Timed, Timed]:
    """The speculative steps and the plain ones that count, of an answer's behind the prompt's: their medians, so that
    what disturbs a step now and then, and would disturb passes as well, of which medians are taken too, is no part."""
    runs: list[Timed] = []
    for speculative in (True, False):
        own = [at for at in range(len(steps)) if counts(at) and speculates(at) is speculative]
        tokens = sum(len(steps[at].tokens) for at in own)
        runs.append(Timed(alpha, gamma if speculative else 0, tokens, len(own), median(seconds[at] for at in own)))
    return runs[0], runs[1]
