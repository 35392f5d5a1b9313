"""Acceptance computed from two models' distributions is that of real decoding: greedily step for step, sampled in the
mean."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from edgespec.engine.native import NativeEngine
from edgespec.engine.step import acceptance_rate, block_efficiency
from edgespec.pair import Pair
from edgespec.quantize.acceptance import Text, accepted_by, chances
from edgespec.quantize.reading import Reader
from edgespec.sampling import Sampling
from edgespec.settings import EXACT

LENGTH = 24


def test_a_draft_that_is_always_right_and_one_that_never_is() -> None:
    best = accepted_by([np.ones(LENGTH)], 3, LENGTH)
    assert (best.acceptance_rate, best.tokens) == (1.0, LENGTH - 1)
    assert best.tau == pytest.approx((LENGTH - 1) / 6)  # 23 tokens: five steps of four and one of three
    worst = accepted_by([np.zeros(LENGTH)], 3, LENGTH)
    assert (worst.acceptance_rate, worst.tau) == (0.0, 1.0)


def test_one_wrong_token_ends_its_step_only() -> None:
    own = np.ones(9)
    own[2] = 0
    found = accepted_by([own], 3, 100)
    # the first by the prompt; one accepted and the target's own; three accepted and its own; two accepted, the end
    assert (found.steps, found.accepted, found.tokens) == (3, 1 + 3 + 2, 8)


def test_an_answer_of_one_token_has_no_step() -> None:
    found = accepted_by([np.ones(1)], 3, 1)
    assert (found.acceptance_rate, found.tau, found.tokens) == (None, None, 0)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 6), st.integers(0, 3))
def test_it_is_greedy_speculative_decoding(right: list[bool], gamma: int, unused: int) -> None:
    """Against the loop written out: propose, compare, emit, go on. unused: how far the end of text was from the
    limit."""
    limit = len(right) + unused
    found = accepted_by([np.asarray(right, dtype=np.float64)], gamma, limit)
    assert (found.proposed, found.accepted, found.steps, found.tokens) == decoded(right, gamma, limit)


def decoded(right: list[bool], gamma: int, limit: int) -> tuple[int, int, int, int]:
    emitted, accepted, proposed, steps = 1, 0, 0, 0
    while emitted < len(right):
        shown = min(gamma, limit - emitted - 1)
        kept = 0
        while kept < shown and emitted + kept < len(right) and right[emitted + kept]:
            kept += 1
        proposed, accepted, steps, emitted = proposed + shown, accepted + kept, steps + 1, emitted + kept + 1
    return proposed, accepted, steps, len(right) - 1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=7), st.integers(1, 4))
def test_chances_are_averaged_over_what_may_be_drawn(own: list[float], gamma: int) -> None:
    """Against every way the draws may fall, each with its chance."""
    expected = np.zeros(3)
    for right in product([False, True], repeat=len(own)):
        chance = float(np.prod([a if is_right else 1 - a for a, is_right in zip(own, right, strict=True)]))
        expected += chance * np.asarray(decoded(list(right), gamma, len(own))[:3])
    found = accepted_by([np.asarray(own)], gamma, len(own))
    assert [found.proposed, found.accepted, found.steps] == pytest.approx(expected.tolist())


def test_a_sampled_token_is_the_drafts_own_by_min_p_q() -> None:
    rng = np.random.default_rng(0)
    p_logits, logits = rng.normal(size=5), rng.normal(size=(3, 5)).astype(np.float32)
    text = Text((1, 2), (3, 0), (float(log_softmax(p_logits)[3]), float(log_softmax(p_logits)[0])))
    p, q = softmax(p_logits), softmax(logits.astype(np.float64), axis=-1)
    assert chances(text, logits) == pytest.approx([min(1, q[1, 3] / p[3]), min(1, q[2, 0] / p[0])])


@pytest.mark.parametrize("gamma", [1, 3, 5])
def test_the_native_engine_accepts_what_is_computed(tiny_pair: Path, gamma: int) -> None:
    pair = Pair.open(tiny_pair)
    assert pair.draft is not None
    engine = NativeEngine(pair, device="CPU", mode="draft", settings=EXACT)
    prompts = [engine.encode(text) for text in ("def add(a, b):", "class Stack:\n    def", "for i in range(")]
    target, draft = Reader(pair.target, engine.vocab_size), Reader(pair.draft, engine.vocab_size)
    for prompt in prompts:
        text = target.answer(prompt, LENGTH)
        real = engine.generate(prompt, LENGTH, gamma=gamma)
        assert tuple(real.token_ids) == text.answer[: len(real.token_ids)]
        found = accepted_by(draft.chances([text]), gamma, LENGTH)
        assert (found.acceptance_rate, found.tau) == (acceptance_rate(real.steps), block_efficiency(real.steps))
    engine.close()


def test_at_temperature_1_the_native_engine_accepts_what_is_computed(tiny_pair: Path) -> None:
    """Null: both means of accepted tokens an answer are of one distribution. Two-sided, 4.4 standard errors: wrong in
    1 of 100,000 runs, were the seeds drawn anew; they are fixed."""
    pair = Pair.open(tiny_pair)
    assert pair.draft is not None
    engine = NativeEngine(pair, device="CPU", mode="draft", settings=EXACT)
    prompt = engine.encode("def add(a, b):")
    target, draft = Reader(pair.target, engine.vocab_size), Reader(pair.draft, engine.vocab_size)
    computed, real = [], []
    for seed in range(150):
        found = accepted_by(draft.chances([target.answer(prompt, 16, seed)]), 3, 16)
        computed.append(found.accepted)
        steps = engine.generate(prompt, 16, gamma=3, sampling=Sampling(temperature=1.0, top_p=1.0, seed=seed)).steps
        real.append(sum(step.accepted or 0 for step in steps))
    engine.close()
    error = np.sqrt((np.var(computed) + np.var(real)) / len(real))
    assert np.mean(real) > 5 * error  # something is accepted at all, so that the comparison says something
    assert abs(np.mean(computed) - np.mean(real)) < 4.4 * error
