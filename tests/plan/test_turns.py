"""An answer decoded by turns: who speaks when, which steps count, and what both kinds took."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgespec.engine.native import NativeEngine
from edgespec.engine.proposal import NOTHING, Proposal, Verified, chain
from edgespec.engine.step import Step
from edgespec.pair import Pair
from edgespec.plan.session import NativeRunner
from edgespec.plan.step_model import tau
from edgespec.plan.turns import TURN, Alternating, counts, speculates, steps_of, timed
from edgespec.plan.walks import ALPHAS, Walk, Walks

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
    clock = [0.0]
    inner = Noting(clock)
    drafter = Alternating(inner, lambda: clock[0])
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
        # the last step ends with what the drafter heard, the others with the next one's beginning
        expected = ([1.75] * TURN + [0.75] * TURN) * 2
        expected[-1] = 0.5
        assert drafter.seconds == pytest.approx(expected)


def test_the_first_step_of_a_turn_counts_for_neither() -> None:
    steps = [Step((1, 2, 3)) if speculates(at) else Step((1,)) for at in range(steps_of(2))]
    seconds = [(9.0 if not counts(at) else 0.3 if speculates(at) else 0.2) for at in range(steps_of(2))]
    speculative, plain = timed(0.7, 3, steps, seconds)
    own = 2 * (TURN - 1)
    assert (speculative.gamma, speculative.steps, speculative.tokens) == (3, own, 1 + 3 * own)
    assert (plain.gamma, plain.steps, plain.tokens) == (0, own, 1 + own)
    assert speculative.seconds == pytest.approx(0.3 * own) and plain.seconds == pytest.approx(0.2 * own)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("gamma", "pairs"), [(1, 2), (3, 2), (6, 3)])
def test_an_answer_by_turns_has_the_expected_tau(alpha: float, gamma: int, pairs: int) -> None:
    walk = Walks(VOCAB).by_turns(alpha, gamma, pairs)
    assert walk.tau == pytest.approx(tau(alpha, gamma), rel=0.04), "as near as so few tokens come"
    assert walk.steps == steps_of(pairs) and walk == Walks(VOCAB).by_turns(alpha, gamma, pairs)


def test_a_real_engine_takes_turns_and_says_what_it_says_plainly(tiny_pair: Path) -> None:
    """A tiny pair accepts little; the engine's steps are cut into turns all the same."""
    pair = Pair.open(tiny_pair)
    prompt, tokens = [5, 6, 7, 8], 40
    runner = NativeRunner(pair, "CPU", None, {"INFERENCE_PRECISION_HINT": "f32"})
    try:
        whole = runner.run(Walk(prompt, tokens, 0, 1.0), 0.7, 0)
        assert whole.gamma == 0 and whole.steps == whole.tokens - 1
        speculative, plain = runner.by_turns(Walk(prompt, tokens, 0, 1.0), 0.7, 2)
    finally:
        runner.close()
    assert plain.tokens == 1 + plain.steps and plain.steps >= TURN - 1
    assert TURN - 1 <= speculative.steps <= speculative.tokens - 1 <= 3 * speculative.steps
    assert min(speculative.seconds, plain.seconds, whole.seconds) > 0
    answers = []
    for turning in (False, True):
        native = NativeEngine(pair, device="CPU", mode="draft", settings={"INFERENCE_PRECISION_HINT": "f32"})
        if turning:
            native.watch_drafter(Alternating)
        answers.append(native.generate(prompt, tokens, gamma=2).token_ids)
        native.close()
    assert answers[0] == answers[1]
