"""Scripted drafters and a clock that only moves when something is said to take time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from scripted_target import rows

from edgespec.engine.accept import accept
from edgespec.engine.costs import Costs, Meter, Metered
from edgespec.engine.drafters.copy import CopyDrafter
from edgespec.engine.drafters.hybrid import HybridDrafter, Member
from edgespec.engine.drafters.making import Request
from edgespec.engine.processors import Processor
from edgespec.engine.proposal import NOTHING, ROOT, Proposal, Verified, chain
from edgespec.sampling import GREEDY, Sampling

TARGET = Costs({1: 30.0, 2: 31.0, 4: 34.0, 8: 44.0, 16: 75.0})
VOCABULARY = 50


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Scripted:
    """Knows the answer, and gets each token right with chance `alpha`; each proposed token takes `seconds`. Silent
    where `speaks` says so."""

    def __init__(
        self, name: str, clock: Clock, answer: Sequence[int], alpha: float, seconds: float = 0.0, speaks: float = 1.0
    ) -> None:
        self.name, self._clock, self._answer, self._seconds = name, clock, answer, seconds
        self.alpha, self.speaks = alpha, speaks
        self._rng = np.random.default_rng(len(name))
        self.begin(())

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self._said = 0

    def propose(self, budget: int) -> Proposal:
        if self._rng.random() >= self.speaks or self._said >= len(self._answer):
            return NOTHING
        tokens = [
            token if self._rng.random() < self.alpha else (token + 1) % VOCABULARY
            for token in self._answer[self._said : self._said + budget]
        ]
        self._clock.now += self._seconds * len(tokens)
        return chain(tokens)

    def observe(self, verified: Verified) -> None:
        self._said += len(verified.emitted)

    def close(self) -> None:
        self._said = -1


def decode(
    hybrid: HybridDrafter,
    clock: Clock,
    answer: Sequence[int],
    most: int = 16,
    change: float = 0.0,
    lengths: list[int] | None = None,
) -> float:
    """Seconds an answer takes; every pass takes what TARGET says, and `change` when it is not as long as the last.
    lengths: told each pass's."""
    lengths = [] if lengths is None else lengths
    processor, rng = Processor(GREEDY, VOCABULARY), np.random.default_rng(0)
    hybrid.begin([0])
    started = clock.now
    hybrid.observe(Verified(NOTHING, (), answer[0], rows(NOTHING, answer, 0, VOCABULARY)))
    said = 1
    while said < len(answer):
        room = min(most, len(answer) - said - 1)
        proposal = hybrid.propose(room)
        assert len(proposal) + proposal.padding <= room
        length = len(proposal) + 1 + proposal.padding
        clock.now += TARGET.target(length) + (change if lengths and length != lengths[-1] else 0.0)
        lengths.append(length)
        logits = rows(proposal, answer, said, VOCABULARY)
        path, bonus = accept(proposal, logits, processor, [0, *answer[:said]], rng)
        hybrid.observe(Verified(proposal, path, bonus, logits))
        said += len(path) + 1
    return clock.now - started


def answer_of(n: int) -> list[int]:
    return np.random.default_rng(0).integers(0, VOCABULARY, n).tolist()


def test_the_cheapest_good_drafter_is_used() -> None:
    clock, answer = Clock(), answer_of(400)
    copy, model = Scripted("copy", clock, answer, 0.9), Scripted("model", clock, answer, 0.9, 3.0)
    hybrid = HybridDrafter([Member(model, per_node=True), Member(copy)], clock=clock)
    seconds = decode(hybrid, clock, answer)
    assert hybrid.proposals["copy"] > 6 * hybrid.proposals["model"]
    assert seconds < 0.4 * 400 * TARGET.target(1)


def test_the_model_fills_in_where_there_is_nothing_to_copy() -> None:
    clock, answer = Clock(), answer_of(600)
    copy, model = Scripted("copy", clock, answer, 0.95, speaks=0.3), Scripted("model", clock, answer, 0.8, 2.0)
    hybrid = HybridDrafter([Member(copy), Member(model, per_node=True)], clock=clock)
    together = decode(hybrid, clock, answer)
    assert min(hybrid.proposals.values()) > 25
    alone = decode(HybridDrafter([Member(model, per_node=True)], clock=clock), clock, answer)
    assert together < alone


def test_a_cheap_drafter_that_is_wrong_gives_way_to_a_model_that_is_right() -> None:
    clock, answer = Clock(), answer_of(500)
    copy, model = Scripted("copy", clock, answer, 0.05), Scripted("model", clock, answer, 0.85, 2.0)
    hybrid = HybridDrafter([Member(copy), Member(model, per_node=True)], clock=clock)
    together = decode(hybrid, clock, answer)
    alone = decode(HybridDrafter([Member(model, per_node=True)], clock=clock), clock, answer)
    assert together < 1.05 * alone


def test_hopeless_members_cost_little_over_plain_decoding() -> None:
    clock, answer = Clock(), answer_of(600)
    copy, model = Scripted("copy", clock, answer, 0.0), Scripted("model", clock, answer, 0.0, 3.0)
    hybrid = HybridDrafter([Member(copy), Member(model, per_node=True)], clock=clock)
    assert decode(hybrid, clock, answer) < 1.03 * 600 * TARGET.target(1)


def test_an_unused_chosen_drafter_is_judged_by_what_the_target_said() -> None:
    """Wrong at first, so laid aside; once it becomes right it is taken up without a single wasted pass."""
    clock, answer = Clock(), answer_of(300)
    copy = Scripted("copy", clock, answer, 0.0)
    hybrid = HybridDrafter([Member(copy)], clock=clock)
    decode(hybrid, clock, answer)
    wrong = hybrid.proposals["copy"]
    assert wrong < 12
    copy.alpha = 1.0
    seconds = decode(hybrid, clock, answer)
    assert seconds < 0.5 * 300 * TARGET.target(1)


class Sure(Scripted):
    """Sure of itself half of the time, and right only then."""

    grade = 0

    def propose(self, budget: int) -> Proposal:
        self.grade = 0 if self._rng.random() < 0.5 else 9
        self.alpha = 0.95 if self.grade else 0.0
        return super().propose(budget)


def test_proposals_are_judged_by_how_sure_the_drafter_is() -> None:
    clock, answer = Clock(), answer_of(600)
    hybrid = HybridDrafter([Member(Sure("sure", clock, answer, 0.0))], clock=clock)
    hybrid.begin([0])
    decode(hybrid, clock, answer)
    shown, wasted = 0, 0
    hybrid.begin([0])
    for _ in range(200):
        proposal = hybrid.propose(8)
        shown += len(proposal) > 0
        wasted += len(proposal) > 0 and hybrid._seats[0].member.drafter.grade == 0  # type: ignore[attr-defined]
        hybrid._handed_over = None
        hybrid.observe(Verified(NOTHING, (), answer[0], np.zeros((1, VOCABULARY), np.float32)))
        hybrid._seats[0].member.drafter._said = 0  # type: ignore[attr-defined]
    assert shown > 60 and wasted == 0


class Drawn(Scripted):
    """Hands over a q, and notes the budgets it was asked for."""

    def propose(self, budget: int) -> Proposal:
        self.budgets = [*getattr(self, "budgets", []), budget]
        whole = Proposal(np.asarray([1, 2]), np.asarray([ROOT, 0], np.int32), {ROOT: np.full(50, 0.02)})
        return whole if budget > 1 else chain([1], {ROOT: np.full(50, 0.02)})


def test_a_drawn_proposal_is_used_as_it_comes() -> None:
    clock = Clock()
    drawn = Drawn("drawn", clock, answer_of(10), 0.5)
    hybrid = HybridDrafter([Member(drawn, chosen=False, most=2)], clock=clock)
    hybrid.begin([0])
    assert not len(hybrid.propose(8))  # the engine's first step is plain
    clock.now += 30.0
    hybrid.observe(Verified(NOTHING, (), 7, np.zeros((1, VOCABULARY), np.float32)))
    proposal = hybrid.propose(8)
    assert drawn.budgets == [2] and len(proposal) == 2
    for _ in range(60):  # refused until it is no longer asked, but for tries
        proposal = hybrid.propose(8)
        clock.now += TARGET.target(len(proposal) + 1)
        hybrid.observe(Verified(proposal, (), 7, np.zeros((3, 50), np.float32)))
    assert set(drawn.budgets[8:]) == {1} and len(drawn.budgets) < 40


def test_a_meter_learns_one_scale_then_each_length() -> None:
    meter = Meter(Costs({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.9}))
    assert meter.target(4) == 1.3
    meter.add(2, 22.0)
    assert [meter.target(n) for n in (1, 2, 8)] == pytest.approx([20, 22, 38])
    for _ in range(15):
        meter.add(8, 76.0)
        meter.add(2, 22.0)
    assert meter.target(8) == pytest.approx(76, rel=0.04) and meter.target(2) == pytest.approx(22, rel=0.06)
    assert 1.3 * 20 < meter.target(4) < 1.3 * 40


def test_a_meter_is_not_misled_by_single_passes() -> None:
    meter = Meter(Costs({1: 1.0, 8: 2.0}))
    for seconds in (10.0, 10.0, 10.0, 10.0, 900.0):
        meter.add(1, seconds)
    assert meter.target(1) == pytest.approx(10)  # one slow pass is not the machine
    meter.add(3, 500.0)  # the first of its length pays for what is done once
    meter.add(3, 13.0)
    assert meter.target(3) == pytest.approx(13, rel=0.1)
    for _ in range(2):
        meter.add(4, 1.0)  # and one lucky pass is not a fast one
    assert meter.target(4) > 7


def test_a_meter_tells_a_pass_from_the_change_to_it() -> None:
    meter = Meter(Costs({1: 1.0, 4: 1.2}))
    for _ in range(6):
        for n, seconds in ((1, 15.0), (1, 10.0), (4, 17.0), (4, 12.0), (4, 12.0)):
            meter.add(n, seconds)
    assert meter.target(1) == pytest.approx(10) and meter.target(4) == pytest.approx(12)
    assert meter.change == pytest.approx(5)
    assert meter.coming(4) == pytest.approx(12)
    assert meter.coming(1) == pytest.approx(10 + 5 / 8)  # to stay is dearer: 12 a pass
    assert meter.coming(5) > meter.target(5)
    meter.begin()
    assert meter.coming(5) == meter.target(5)  # behind a prompt every length is a change


def test_a_short_pass_is_padded_until_that_has_cost_a_change() -> None:
    meter = Meter(Costs({1: 1.0, 4: 1.2}))
    for _ in range(4):
        for n, seconds in ((1, 15.0), (1, 10.0), (4, 17.0), (4, 12.0), (4, 12.0)):
            meter.add(n, seconds)
    lengths = []
    for _ in range(6):
        lengths.append(meter.settle(1))
        meter.add(lengths[-1], 10.0 if lengths[-1] == 1 else 12.0)
    assert lengths == [4, 4, 1, 1, 1, 1]  # 2 a pass wasted, 5 a change
    assert meter.settle(4) == 4


def test_where_a_change_of_length_is_dear_lengths_are_kept() -> None:
    def run(change: float) -> tuple[float, int]:
        clock, answer, lengths = Clock(), answer_of(600), list[int]()
        copy, model = Scripted("copy", clock, answer, 0.9, speaks=0.3), Scripted("model", clock, answer, 0.7, 1.0)
        hybrid = HybridDrafter([Member(copy), Member(model, per_node=True)], clock=clock)
        seconds = decode(hybrid, clock, answer, change=change, lengths=lengths)
        return seconds, sum(one != other for one, other in pairwise(lengths))

    cheap, often = run(0.0)
    dear, seldom = run(30.0)
    assert seldom < often / 2
    assert dear < cheap + 0.75 * often * 30.0


def test_a_pass_that_nobody_timed_is_not_padded_to() -> None:
    """A governor that keeps a step plain asks no drafter, and tells what the target said."""
    clock, answer = Clock(), answer_of(300)
    meter = Meter(Costs({1: 1.0, 4: 1.2}))
    for _ in range(4):
        for n, seconds in ((1, 510.0), (1, 10.0), (4, 512.0), (4, 12.0), (4, 12.0)):
            meter.add(n, seconds)
    hybrid = HybridDrafter(
        [Member(Scripted("model", clock, answer, 0.9, 0.1), per_node=True)], meter=meter, clock=clock
    )
    said = Verified(NOTHING, (), answer[0], np.zeros((1, VOCABULARY), np.float32))
    hybrid.begin([0])
    hybrid.observe(said)
    shown = hybrid.propose(3)
    assert shown.tokens.size
    clock.now += 12.0
    hybrid.observe(Verified(shown, (), 7, np.zeros((4, VOCABULARY), np.float32)))
    assert meter.settle(1) == len(shown) + 1
    hybrid.observe(said)  # kept plain
    assert meter.settle(1) == 1


@pytest.mark.parametrize("tokens", [200, 201, 202])
def test_padding_stays_within_what_is_asked_for(tokens: int) -> None:
    clock, answer, lengths = Clock(), answer_of(tokens), list[int]()
    hybrid = HybridDrafter([Member(Scripted("model", clock, answer, 0.9, 0.1), per_node=True)], clock=clock)
    decode(hybrid, clock, answer, change=200.0, lengths=lengths)  # which checks every proposal
    assert max(lengths) > 4


class Knowing(Scripted):
    """Says how sure it is: 0.95 of most right tokens, 0.2 of most wrong ones."""

    def unfold(self, budget: int, more: Callable[[Sequence[float]], bool]) -> tuple[Proposal, list[float]]:
        tokens: list[int] = []
        sure: list[float] = []
        for right in self._answer[self._said : self._said + budget]:
            hit = self._rng.random() < self.alpha
            tokens.append(right if hit else (right + 1) % VOCABULARY)
            sure.append(0.95 if hit == (self._rng.random() < 0.95) else 0.2)
            if not more(sure):
                break
        self._clock.now += self._seconds * len(tokens)
        return chain(tokens), sure


def test_a_draft_that_knows_when_it_is_unsure_is_worth_more() -> None:
    seconds = {}
    for kind in (Scripted, Knowing):
        clock, answer = Clock(), answer_of(800)
        hybrid = HybridDrafter([Member(kind("model", clock, answer, 0.7, 6.0), most=16, per_node=True)], clock=clock)
        seconds[kind] = decode(hybrid, clock, answer)
    assert seconds[Knowing] < 0.93 * seconds[Scripted]


def test_a_text_counts_more_than_those_before_it() -> None:
    """Texts of which the draft knows all or nothing, in turn: near to what one who knew which would do."""
    clock = Clock()
    model = Scripted("model", clock, (), 0.0, 3.0)
    hybrid = HybridDrafter([Member(model, most=16, per_node=True)], clock=clock)
    took = {0.98: 0.0, 0.1: 0.0}
    for turn in range(16):
        model._answer = answer = answer_of(120)
        model.alpha = list(took)[turn % 2]
        took[model.alpha] += decode(hybrid, clock, answer) / 8 / 120
    assert took[0.98] < 10.4 and took[0.1] < 1.05 * TARGET.target(1)


class SlowStart(Scripted):
    """Reads the prompt at its first proposal of a text, which takes long."""

    def propose(self, budget: int) -> Proposal:
        if not self._said or self._said == 1:
            self._clock.now += 2000.0
        return super().propose(budget)


def test_reading_the_prompt_is_not_taken_for_the_price_of_a_proposal() -> None:
    clock, answer = Clock(), answer_of(200)
    model = SlowStart("model", clock, answer, 0.9, 2.0)
    hybrid = HybridDrafter([Member(model, per_node=True)], clock=clock)
    for _ in range(2):
        assert decode(hybrid, clock, answer) < 2000.0 + 0.6 * 200 * TARGET.target(1)


def test_what_drafting_costs_is_learned() -> None:
    meter = Meter()
    meter.add(1, 10.0)
    model, copy = Metered(meter, per_node=True), Metered(meter, per_node=False)
    assert model.own(3) == pytest.approx(3.0) and copy.own(3) == 0.0
    model.add(4, 8.0)
    copy.add(4, 8.0)
    assert model.own(3) == pytest.approx(6.0) and copy.own(3) == pytest.approx(8.0)
    for n in (2, 6, 3, 6, 2, 9, 4, 9):  # 3 a proposal and half a second a token
        model.add(n, 3.0 + 0.5 * n)
    assert model.own(12) == pytest.approx(9.0, rel=0.1) and model.own(1) == pytest.approx(3.5, rel=0.15)
    assert model.step(0) == 10.0
    noisy = Metered(meter, per_node=True)
    for seconds in (1.0, 9.0, 2.0, 8.0):
        noisy.add(int(seconds), 9.0 - seconds)
    assert 0.0 <= noisy.own(1) <= noisy.own(9)  # more is never taken to be cheaper


def test_a_real_copy_drafter_under_the_hybrid_says_the_answer() -> None:
    clock, passage = Clock(), list(range(20))
    answer = [*passage, 30, *passage, 31, *passage]
    hybrid = HybridDrafter([Member(CopyDrafter(shortest=2))], clock=clock)
    assert decode(hybrid, clock, answer) < 0.75 * len(answer) * TARGET.target(1)
    hybrid.close()


class Coin:
    """A model each of whose tokens is right with chance `alpha`, and takes `seconds` and some noise."""

    name = "model"

    def __init__(self, clock: Clock, seconds: float, rng: np.random.Generator) -> None:
        self._clock, self._seconds, self._rng = clock, seconds, rng

    def begin(self, prompt_ids: Sequence[int]) -> None: ...

    def propose(self, budget: int) -> Proposal:
        self._clock.now += self._seconds * budget * self._rng.lognormal(0, NOISE)
        return chain([1] * budget)

    def observe(self, verified: Verified) -> None: ...

    def close(self) -> None: ...


NOISE = 0.2
FLAT = {1: 10.0, 2: 10.1, 4: 10.3, 8: 11.0, 16: 13.0}
STEEP = {1: 10.0, 2: 15.0, 4: 24.0, 8: 42.0, 16: 80.0}


def seconds_of_answers(target: Costs, own: float, alpha: float, gamma: int | None, seed: int) -> float:
    """Twenty answers of 64 tokens on a noisy machine where a change of length costs 3; gamma: fixed, None: learned."""
    clock, rng, last = Clock(), np.random.default_rng(seed), 0
    model = Coin(clock, own, rng)
    learned = HybridDrafter([Member(model, per_node=True)], clock=clock)
    for _ in range(20):
        learned.begin([0])
        learned.observe(Verified(NOTHING, (), 1, np.zeros((1, VOCABULARY), np.float32)))
        left = 63
        while left > 0:
            most = min(8 if gamma is None else gamma, left - 1)
            proposal = learned.propose(most) if gamma is None else model.propose(most) if most else NOTHING
            length = len(proposal) + 1 + proposal.padding
            clock.now += (target.target(length) + 3.0 * (length != last)) * rng.lognormal(0, NOISE)
            last = length
            right = int(np.cumprod(rng.random(len(proposal)) < alpha).sum())
            token = 1 if right == len(proposal) else 2
            if gamma is None:
                verified = Verified(proposal, tuple(range(right)), token, np.zeros((1, VOCABULARY), np.float32))
                learned.observe(verified)
            left -= right + 1
    return clock.now


@pytest.mark.parametrize("table", [FLAT, dict(TARGET.t_target), STEEP], ids=["flat", "twin", "steep"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.75, 0.92])
def test_what_a_clock_teaches_comes_near_the_best_fixed_length(table: dict[int, float], alpha: float) -> None:
    """Learning and all, of every machine the same way: where the best is plain, too."""

    def mean(gamma: int | None) -> float:
        target = Costs(table)
        return float(np.mean([seconds_of_answers(target, 0.1 * target.target(1), alpha, gamma, s) for s in range(8)]))

    assert min(mean(gamma) for gamma in range(9)) / mean(None) > 0.93


class Reads(Coin):
    """Reads the prompt at its first proposal of a text, which takes long."""

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self._behind = True
        self.reads = getattr(self, "reads", 0)

    def propose(self, budget: int) -> Proposal:
        self._clock.now += 40.0 * self._behind
        self.reads += self._behind
        self._behind = False
        return super().propose(budget)


def test_a_try_in_a_new_text_is_paid_for_with_the_prompt_that_it_reads() -> None:
    """A hopeless draft is asked in about every second answer of 64 tokens, not in each."""
    clock = Clock()
    model = Reads(clock, 1.0, np.random.default_rng(0))
    hybrid = HybridDrafter([Member(model, per_node=True)], clock=clock)
    for answer in range(30):
        if answer == 10:
            known = model.reads
        hybrid.begin([0])
        hybrid.observe(Verified(NOTHING, (), 1, np.zeros((1, VOCABULARY), np.float32)))
        for _ in range(63):
            proposal = hybrid.propose(8)
            clock.now += TARGET.target(len(proposal) + 1 + proposal.padding)
            hybrid.observe(Verified(proposal, (), 2, np.zeros((1, VOCABULARY), np.float32)))
    earned = 20 * 64 * 0.015 * TARGET.target(1)
    assert 3 < model.reads - known < earned / 40.0


def test_behind_a_refused_try_plain_steps_are_not_padded() -> None:
    """They will be plain for long, and a change is paid for anyway. On a 99 M target up to 34 plain steps in a row were
    padded behind a try (LOG.md, 2026-11-29)."""
    clock, lengths = Clock(), [1]
    hybrid = HybridDrafter([Member(Coin(clock, 0.5, np.random.default_rng(0)), per_node=True)], clock=clock)
    hybrid.begin([0])
    hybrid.observe(Verified(NOTHING, (), 1, np.zeros((1, VOCABULARY), np.float32)))
    for _ in range(2000):
        proposal = hybrid.propose(8)
        length = len(proposal) + 1 + proposal.padding
        clock.now += TARGET.target(length) + 8.0 * (length != lengths[-1])
        lengths.append(length)
        hybrid.observe(Verified(proposal, (), 2, np.zeros((1, VOCABULARY), np.float32)))
    late = lengths[90:]  # once it is known to be hopeless
    tries = [at for at, length in enumerate(late[:-1]) if length > 1]
    assert len(tries) > 3 and all(late[at + 1] == 1 for at in tries)


def test_what_is_known_of_a_drafter_with_nothing_else_on_offer_outlives_bad_luck_beside_another() -> None:
    """Right four times in five: two refusals where something cheap was on offer, too, do not end it."""
    hybrid = HybridDrafter([Member(Scripted("model", Clock(), (), 0.8), per_node=True)])
    seat = hybrid._seats[0]
    for step in range(100):
        seat.controller(False).acceptance.observe(chain([1]), (0,) if step % 5 else ())
    for _ in range(2):
        seat.controller(True).acceptance.observe(chain([1]), ())
    assert 0.55 < seat.controller(True).acceptance.alpha < 0.8
    for _ in range(60):
        seat.controller(True).acceptance.observe(chain([1]), ())
    assert seat.controller(True).acceptance.alpha < 0.15


def test_greedy_answers_teach_nothing_about_sampled_ones() -> None:
    model = Scripted("model", Clock(), (), 0.8)
    hybrid = HybridDrafter([Member(model, per_node=True)])

    def alpha_at(temperature: float) -> float:
        how = Sampling(temperature=temperature)
        hybrid.serve(Request(Processor(how, VOCABULARY), np.random.default_rng(0)))
        return hybrid._seats[0].controller(False).acceptance.alpha

    unknown = alpha_at(0.0)
    for _ in range(100):
        hybrid._seats[0].controller(False).acceptance.observe(chain([1]), (0,))
    assert alpha_at(0.0) > 0.95
    assert alpha_at(0.6) == alpha_at(1.5) == unknown
