"""Zones of several alphas on one cycle, and answers whose tau is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from edgespec.errors import EdgespecError
from edgespec.plan.cycle import HORIZON, draft_cycle, target_cycle, zone_bounds
from edgespec.plan.tokenizer import synthetic_vocabulary
from edgespec.plan.walks import ALPHAS, Walks

VOCAB = 16_000


def test_each_zone_has_its_own_share_and_a_wrong_proposal_stays_wrong() -> None:
    target = target_cycle(np.arange(100, 6000), 6000, 2)
    draft = draft_cycle(target, (0.2, 0.9, 0.5), 2)
    right = draft.following(target.order) == target.following(target.order)
    for alpha, (start, end) in zip((0.2, 0.9, 0.5), zone_bounds(len(right), 3), strict=True):
        assert right[start:end].sum() == (end - start) - round((1 - alpha) * (end - start))
    assert sorted(draft.order) == sorted(target.order)
    true = guess = target.order
    still = np.ones(len(true), dtype=bool)
    for _ in range(HORIZON):
        true, guess = target.following(true), draft.following(guess)
        still &= guess == true
        assert np.array_equal(guess == true, still)


def test_a_single_alpha_is_one_zone() -> None:
    target = target_cycle(np.arange(2000), 2000, 1)
    assert np.array_equal(draft_cycle(target, 0.7, 1).order, draft_cycle(target, (0.7,), 1).order)


def test_an_alpha_of_a_zone_that_is_no_share_is_refused() -> None:
    with pytest.raises(EdgespecError, match=r"from 0 to 1, not 1.5"):
        draft_cycle(target_cycle(np.arange(2000), 2000, 1), (0.5, 1.5), 1)


def test_drawn_answers_share_no_token_and_lie_in_their_zone() -> None:
    walks = Walks(VOCAB)
    target = target_cycle(synthetic_vocabulary(VOCAB).live, VOCAB, 0)
    bounds = dict(zip(ALPHAS, zone_bounds(len(target.order), len(ALPHAS)), strict=True))
    seen: set[int] = set()
    for alpha in ALPHAS:
        for prompt in walks.drawn(alpha, 100, 12, seed=4):
            start = int(target.position[prompt[-1]])
            answered = set(range(start, start + 100))
            assert bounds[alpha][0] <= start and start + 100 <= bounds[alpha][1]
            assert not answered & seen
            seen |= answered


def test_what_the_twins_do_not_have_is_refused() -> None:
    walks = Walks(2048)
    with pytest.raises(EdgespecError, match=r"no answers at alpha 0.42, only at 0.3, 0.5"):
        walks.by_turns(0.42, 3, 2)
    with pytest.raises(EdgespecError, match=r"an answer of 601 tokens is longer than the 2"):
        walks.by_turns(0.5, 3, 20)
    with pytest.raises(EdgespecError, match=r"room for \d answers of 100 tokens at alpha 0.5, not for 9"):
        walks.drawn(0.5, 100, 9)
