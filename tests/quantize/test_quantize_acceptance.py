"""Acceptance computed from choices is that of real decoding, step for step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec.engine.native import NativeEngine
from edgespec.engine.step import acceptance_rate, block_efficiency
from edgespec.pair import Pair
from edgespec.quantize.acceptance import Text, accepted_by
from edgespec.quantize.cost import Reader
from edgespec.settings import EXACT

LENGTH = 24


def test_a_draft_that_is_always_right_and_one_that_never_is() -> None:
    text = Text((1, 2, 3), tuple(range(10, 10 + LENGTH)))
    ids = text.ids
    right, wrong = np.append(ids[1:], 0), np.zeros_like(ids)
    best = accepted_by([text], [right], 3, LENGTH)
    assert (best.acceptance_rate, best.tokens) == (1.0, LENGTH - 1)
    assert best.tau == pytest.approx((LENGTH - 1) / 6)  # 23 tokens: five steps of four and one of three
    worst = accepted_by([text], [wrong], 3, LENGTH)
    assert (worst.acceptance_rate, worst.tau) == (0.0, 1.0)


def test_one_wrong_token_ends_its_step_only() -> None:
    text = Text((5,), (10, 11, 12, 13, 14, 15, 16, 17, 18))
    choices = np.append(text.ids[1:], 0)
    choices[2] = 99  # behind token 11, which the first step reaches as its second
    found = accepted_by([text], [choices], 3, 100)
    # 10 by the prompt; 11 accepted and 12 the target's own; 13 14 15 accepted and 16; 17 18 accepted
    assert (found.steps, found.accepted, found.tokens) == (3, 1 + 3 + 2, 8)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.lists(st.integers(0, 3), min_size=40, max_size=40),
    st.integers(1, 6),
)
def test_it_is_greedy_speculative_decoding(answer: list[int], guesses: list[int], gamma: int) -> None:
    """Against the loop written out: propose, compare, emit, go on."""
    text = Text((0, 1), tuple(answer))
    choices = np.asarray(guesses[: len(text.ids)])
    found = accepted_by([text], [choices], gamma, len(answer))
    emitted, accepted, proposed, steps = 1, 0, 0, 0
    while emitted < len(answer):
        shown = min(gamma, len(answer) - emitted - 1)
        kept = 0
        while kept < shown and choices[1 + emitted + kept] == answer[emitted + kept]:
            kept += 1
        proposed, accepted, steps, emitted = proposed + shown, accepted + kept, steps + 1, emitted + kept + 1
    assert (found.proposed, found.accepted, found.steps, found.tokens) == (
        proposed,
        accepted,
        steps,
        len(answer) - 1,
    )


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
        found = accepted_by([text], draft.choices([text]), gamma, LENGTH)
        assert (found.acceptance_rate, found.tau) == (acceptance_rate(real.steps), block_efficiency(real.steps))
    engine.close()
