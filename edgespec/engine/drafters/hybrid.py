"""Several drafters in one: at every step the proposal that promises most tokens a second, plain decoding among them.

Cheap drafters are asked first, and a dearer one only where it promises more than what is already on the table; so a
draft model fills in where there is nothing to copy. What a drafter is worth is learned as it goes, by how sure it is
(its `grade`, when it has one), and what things last is read off a clock: from a proposal to the target's word on it is
a target pass. With one member it is that drafter under a controller.

Keeping the target's distribution: whether a drawn proposal is used is settled before it is drawn, and whether it gets
one more token before that token is. Chosen ones may be looked at, cut, and laid aside; what the target then said still
tells how good they would have been.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..controller import Acceptance, Controller, Shape, best_length
from ..costs import Meter, Metered
from ..proposal import NOTHING, ROOT, Drafter, Proposal, Unfolding, Verified
from .making import Request

_DEAR = 0.02
"""Share of a plain step from which a proposal's own time counts as worth saving."""
_LEAN = 10.0
"""Trials that all steps count for against those with, or without, something cheaper on offer."""
_PATIENCE = 32
"""Steps after which a drafter that promised too little is asked again, to be compared with what the target says."""


@dataclass(frozen=True)
class Member:
    """A drafter and what is known of it beforehand.

    cost: seconds a proposal, or a node where per_node (a model, one pass a token); None to learn it. most: nodes at
    most. chosen: its proposals are never drawn (they carry no q), whatever the request.
    """

    drafter: Drafter
    shape: Shape = "chain"
    most: int = 8
    cost: float | None = None
    per_node: bool = False
    chosen: bool = True


class _Seat:
    """A member with what was learned of it, apart for steps in which a cheaper member had something to offer (those
    are the easy ones, and what it is worth there says little about the others) and by how warm the answers are."""

    def __init__(self, member: Member, meter: Meter) -> None:
        self.member = member
        self.unfolding = member.drafter if isinstance(member.drafter, Unfolding) else None
        self.prices = Metered(meter, per_node=member.per_node, own=member.cost)
        self.passed_over = 0
        self.warmth = 0
        self._everywhere: dict[int, Acceptance] = {}
        self._overall: dict[tuple[int, bool], Acceptance] = {}
        self._controllers: dict[tuple[int, bool, int], Controller] = {}

    def controller(self, opposed: bool) -> Controller:
        """For the proposal just made, or about to be made: by how sure the drafter is, in powers of two."""
        grade = min(int(getattr(self.member.drafter, "grade", 0)).bit_length(), 5) if self.member.chosen else 0
        key = self.warmth, opposed, grade
        if key not in self._controllers:
            acceptance = self._all(opposed)
            if hasattr(self.member.drafter, "grade"):
                acceptance = Acceptance(self.member.shape, within=acceptance)
            self._controllers[key] = Controller(self.prices, self.member.most, self.member.shape, acceptance=acceptance)
            self._controllers[key].begin()
        return self._controllers[key]

    def _all(self, opposed: bool) -> Acceptance:
        """Of all texts; what little is known of steps with an opponent leans on those without, and the other way round:
        a drafter that was refused there twice would else never be asked again."""
        key = self.warmth, opposed
        if key not in self._overall:
            everywhere = self._everywhere.setdefault(self.warmth, Acceptance(self.member.shape))
            self._overall[key] = Acceptance(self.member.shape, weight=_LEAN, within=everywhere)
        return self._overall[key]

    def begin(self) -> None:
        """A new text."""
        self.prices.begin()
        for controller in self._controllers.values():
            controller.begin()

    def promise(self, opposed: bool) -> float:
        """Tokens a second that its proposals bring on the whole."""
        return best_length(self.prices, self._all(opposed).shares(self.member.most))[1]


class HybridDrafter:
    """See Drafter. `begin` starts a new text; what was learned of the members and the machine stays."""

    def __init__(
        self,
        members: Sequence[Member],
        *,
        name: str = "hybrid",
        meter: Meter | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name = name
        self._meter = meter or Meter()
        self._clock = clock
        self._seats = [_Seat(member, self._meter) for member in members]
        self._seats.sort(key=lambda seat: (seat.member.per_node, not seat.member.chosen, seat.member.cost or 0.0))
        self.proposals = {seat.member.drafter.name: 0 for seat in self._seats}
        """By drafter, how often its proposal was shown to the target."""
        self._tried = False
        self._settle()

    def _settle(self) -> None:
        self._committed: Controller | None = None  # of a drawn or costly proposal that is shown
        self._sure: list[float] = []  # how sure its drafter was of its tokens
        self._seen: list[tuple[Controller, Proposal]] = []  # chosen proposals, uncut, whether shown or laid aside
        self._declined: list[Controller] = []
        self._handed_over: float | None = None

    def serve(self, request: Request) -> HybridDrafter:
        """Itself, for `request`: what greedy answers taught is not held against sampled ones, which are harder, nor
        what one temperature taught against another's, to the nearest half."""
        processor = request.processor
        for seat in self._seats:
            seat.warmth = 0 if processor.greedy else 1 + round(2 * processor.sampling.temperature)
        return self

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self._tried = False
        self._settle()
        self._meter.begin()
        for seat in self._seats:
            seat.begin()
            seat.member.drafter.begin(prompt_ids)

    def propose(self, budget: int) -> Proposal:
        self._settle()
        if not self._meter.knows_plain:
            budget = 0  # the engine's first step is plain: what a proposal costs is told by what it adds to one
        best, proposal, owner = 1 / self._meter.coming(1), NOTHING, None
        offer: tuple[Controller | None, Proposal, float] | None
        for seat in self._seats if budget > 0 else ():
            if seat.member.chosen and not seat.member.per_node:
                offer = self._look(seat, budget, best, owner is not None)
            else:
                offer = self._commit(seat, budget, best, owner is not None)
            if offer is not None:
                self._committed, proposal, best = offer
                owner = seat
        if owner is not None:
            self.proposals[owner.member.drafter.name] += 1
        tried, self._tried = self._tried, self._committed is not None and self._committed.trying
        if owner is not None or not tried:  # behind a try that came to nothing plain steps follow, of their own length
            longer = min(self._meter.settle(len(proposal) + 1) - 1, budget) - len(proposal)
            if longer > 0:
                proposal = replace(proposal, padding=longer)
        self._handed_over = self._clock()
        return proposal

    def _look(self, seat: _Seat, budget: int, best: float, opposed: bool) -> tuple[None, Proposal, float] | None:
        """Ask for a chosen proposal, and cut it to what is worth its while; None when that is nothing."""
        dear = seat.prices.own(1) > _DEAR * self._meter.target(1)
        if dear and seat.passed_over < _PATIENCE and seat.promise(opposed) <= best:
            seat.passed_over += 1
            return None
        seat.passed_over = 0
        proposal = self._ask(seat, min(budget, seat.member.most))
        if not len(proposal):
            return None
        controller = seat.controller(opposed)
        self._seen.append((controller, proposal))
        n, rate = best_length(seat.prices, controller.acceptance.shares(len(proposal)))
        return (None, _first(proposal, n), rate) if n and rate > best else None

    def _commit(
        self, seat: _Seat, budget: int, best: float, opposed: bool
    ) -> tuple[Controller, Proposal, float] | None:
        """Settle how much a drawn or costly proposal should be, then ask for it and use it as it comes."""
        controller = seat.controller(opposed)
        n = controller.budget(budget)
        if not n:
            self._declined.append(controller)
            return None
        if controller.rate <= best and (opposed or not controller.trying):
            return None
        proposal = self._ask(seat, n, controller)
        return (controller, proposal, controller.rate) if len(proposal) else None

    def _ask(self, seat: _Seat, budget: int, controller: Controller | None = None) -> Proposal:
        """controller: of a proposal that will be shown, and that may end before or after its budget."""
        started = self._clock()
        if controller is not None and seat.unfolding is not None:
            proposal, self._sure = seat.unfolding.unfold(controller.limit, controller.more)
        else:
            proposal = seat.member.drafter.propose(budget)
        if len(proposal) or not seat.member.per_node:
            seat.prices.add(len(proposal), self._clock() - started)
        return proposal

    def observe(self, verified: Verified) -> None:
        if self._handed_over is None:  # the prompt's pass, or one that a governor kept plain
            self._meter.begin()
        else:
            length = len(verified.proposal) + 1 + verified.proposal.padding
            self._meter.add(length, self._clock() - self._handed_over)
            if self._committed is not None:
                self._committed.observe(verified.proposal, verified.path, self._sure)
            for controller, proposal in self._seen:
                agreed = _agreed(proposal, verified.emitted)
                controller.acceptance.observe(proposal, agreed, known=len(verified.emitted))
            if not len(verified.proposal):
                for controller in self._declined:
                    controller.observe(NOTHING, ())
        self._settle()
        for seat in self._seats:
            seat.member.drafter.observe(verified)

    def close(self) -> None:
        for seat in self._seats:
            seat.member.drafter.close()


def _first(proposal: Proposal, n: int) -> Proposal:
    """Its first n nodes, which are a tree too, as parents stand first."""
    if n == len(proposal):
        return proposal
    parents = proposal.parents[:n]
    q = {parent: proposal.q[parent] for parent in set(parents.tolist()) if parent in proposal.q}
    return Proposal(proposal.tokens[:n], parents, q, proposal.replaced)


def _agreed(proposal: Proposal, emitted: Sequence[int]) -> list[int]:
    """The nodes of a chosen proposal along which the text then went."""
    path: list[int] = []
    last = ROOT
    for node, parent in enumerate(proposal.parents.tolist()):
        if parent == last and len(path) < len(emitted) and proposal.tokens[node] == emitted[len(path)]:
            path.append(node)
            last = node
    return path
