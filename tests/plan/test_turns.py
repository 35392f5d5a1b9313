"""An answer decoded by turns: who speaks when, which steps count, and what both kinds took."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from edgespec.engine.model import ModelSequence
from edgespec.engine.native import NativeEngine
from edgespec.engine.proposal import NOTHING, Proposal, Verified, chain
from edgespec.engine.step import Step
from edgespec.pair import Pair
from edgespec.plan.session import NativeRunner
from edgespec.plan.step_model import tau
from edgespec.plan.turns import TURN, Alternating, counts, speculates, steps_of, timed
from edgespec.plan.walks import ALPHAS, Walks

VOCAB = 16_000


class Noting:
    """Proposes one token each time it is asked; a proposal takes it 1 s of the clock that it moves."""

    name = "noting"

    def __init__(self, clock: list[float]) -> None:
        self.asked, self.heard, self.clock = 0, 0, clock

    def begin(self, prompt_ids: object) -> None:
        self.asked = self.heard = 0

    def propose(self, budget: int) -> Proposal:
        self.asked += 1
        self.clock[0] += 1.0
        return chain([7])

    def observe(self, verified: Verified) -> None:
        self.heard += 1

    def close(self) -> None:
        pass


def test_a_drafter_is_silent_in_every_other_turn_and_hears_all() -> None:
    clock, between = [0.0], []

    def pause() -> None:
        between.append(inner.asked)
        clock[0] += 100.0

    inner = Noting(clock)
    drafter = Alternating(inner, pause, clock=lambda: clock[0])
    logits = np.zeros((2, 9), np.float32)
    for _ in range(2):  # a second text begins with a speculative turn again
        drafter.begin([1])
        drafter.observe(Verified(NOTHING, (), 7, logits))
        lengths = []
        for _ in range(steps_of(2)):
            proposal = drafter.propose(3)
            lengths.append(len(proposal))
            clock[0] += 0.5
            drafter.observe(Verified(proposal, (), 7, logits))
            clock[0] += 0.25
        assert lengths == ([1] * TURN + [0] * TURN) * 2
        assert (inner.asked, inner.heard) == (2 * TURN, steps_of(2) + 1)
        assert between == [TURN], "once, in the middle of two pairs, and in no step's time"
        between.clear()
        # the last step ends with what the drafter heard, the others with the next one's beginning
        expected = ([1.75] * TURN + [0.75] * TURN) * 2
        expected[-1] = 0.5
        assert drafter.seconds == pytest.approx(expected)


def test_the_first_step_of_a_turn_counts_for_neither() -> None:
    steps = [Step((1, 2, 3)) if speculates(at) else Step((1,)) for at in range(steps_of(2))]
    seconds = [(9.0 if not counts(at) else 0.3 if speculates(at) else 0.2) for at in range(steps_of(2))]
    speculative, plain = timed(0.7, 3, steps, seconds)
    own = 2 * (TURN - 1)
    assert (speculative.gamma, speculative.steps, speculative.tokens) == (3, own, 3 * own)
    assert (plain.gamma, plain.steps, plain.tokens) == (0, own, own)
    assert speculative.step_s == 0.3 and plain.step_s == 0.2
    assert speculative.token_s == pytest.approx(0.1) and plain.token_s == 0.2
    seconds[1] = seconds[8] = 5.0  # somebody else's
    assert timed(0.7, 3, steps, seconds) == (speculative, plain)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("gamma", "pairs"), [(1, 2), (3, 2), (6, 3)])
def test_an_answer_by_turns_has_the_expected_tau(alpha: float, gamma: int, pairs: int) -> None:
    walk = Walks(VOCAB).by_turns(alpha, gamma, pairs)
    assert walk.tau == pytest.approx(tau(alpha, gamma), rel=0.04), "as near as so few tokens come"
    assert walk.steps == steps_of(pairs) and walk == Walks(VOCAB).by_turns(alpha, gamma, pairs)


def test_real_twins_take_the_turns_that_were_foreseen(twins: Callable[[str], Pair], twin_walks: Walks) -> None:
    """And say by turns, with passes of other text between, what they say otherwise."""
    pair = twins("int4")
    walks = [(alpha, gamma, twin_walks.by_turns(alpha, gamma, 2)) for alpha, gamma in ((0.5, 2), (0.8, 4), (0.95, 6))]
    runner = NativeRunner(pair, "CPU", None, {"INFERENCE_PRECISION_HINT": "f32"})
    try:
        for alpha, gamma, walk in walks:
            answer = runner.answer(walk, alpha, gamma, (1, 2, 4))
            speculative, plain = answer.speculative, answer.plain
            assert (speculative.steps, plain.steps) == (2 * (TURN - 1), 2 * (TURN - 1)), "no more steps than foreseen"
            assert speculative.tokens / speculative.steps == pytest.approx(walk.tau)
            assert plain.tokens == plain.steps and min(speculative.step_s, plain.step_s) > 0
            assert (
                answer.passes is not None
                and list(answer.passes.target) == [1, 2, 4]
                and list(answer.passes.draft) == [1, 3]
            )
            assert min(*answer.passes.target.values(), *answer.passes.draft.values(), answer.passes.wide) > 0
            assert runner.answer(walk, alpha, gamma, ()).passes is None
    finally:
        runner.close()
    said: list[list[list[int]]] = []
    for by_turns in (True, False):
        native = NativeEngine(pair, device="CPU", mode="draft", settings={"INFERENCE_PRECISION_HINT": "f32"})
        if by_turns:
            beside = native.timing_sequence()

            def between(beside: ModelSequence = beside) -> None:
                beside.reset()
                beside.feed([5, 6, 7, 8], rows=4)

            native.watch_drafter(partial(Alternating, between=between))
        said.append([native.generate(walk.prompt, walk.tokens, gamma=gamma).token_ids for _, gamma, walk in walks])
        native.close()
    assert said[0] == said[1]
