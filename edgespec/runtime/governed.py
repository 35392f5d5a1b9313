"""A native drafter under watch: the governor may silence it for a step, and which tokens it gave is noted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..engine.proposal import NOTHING, Drafter, Proposal, Verified
from .governor import Governor


class Watch:
    """What is seen of one engine's answers. Hand `wrap` to the engine, call `begin` before each answer.

    from_draft: of each token emitted so far, whether it was proposed and accepted.
    """

    def __init__(self, governor: Governor | None, clock: Callable[[], float] = time.perf_counter) -> None:
        """governor: None lets the drafter always speak, as an explicit mode asks."""
        self.governor = governor
        self.clock = clock
        self.from_draft: list[bool] = []

    def begin(self) -> None:
        self.from_draft = []
        if self.governor is not None:
            self.governor.begin()

    def wrap(self, drafter: Drafter) -> Drafter:
        return _Governed(drafter, self)


class _Governed:
    """See Drafter."""

    def __init__(self, drafter: Drafter, watch: Watch) -> None:
        self.name = drafter.name
        self._drafter = drafter
        self._watch = watch
        self._speculated = False
        self._began: float | None = None
        self._emitted = 0

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self._drafter.begin(prompt_ids)

    def propose(self, budget: int) -> Proposal:
        governor = self._watch.governor
        if governor is None:
            return self._drafter.propose(budget)
        now = self._watch.clock()  # from one proposal to the next: all that a step costs, the caller's part too
        if self._began is not None:
            governor.saw(self._emitted, now - self._began, speculated=self._speculated)
        self._began = now
        if budget < 1:  # the last token of an answer: nothing can be proposed, and nothing learned
            self._began = None
            return NOTHING
        self._speculated = governor.speculate()
        return self._drafter.propose(budget) if self._speculated else NOTHING

    def observe(self, verified: Verified) -> None:
        self._emitted = len(verified.emitted)
        self._watch.from_draft += [True] * len(verified.path) + [False]
        self._drafter.observe(verified)

    def close(self) -> None:
        self._drafter.close()
