"""The two maps: the share that is right, which tokens are, and that a wrong proposal stays wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, norm

from edgespec.errors import EdgespecError
from edgespec.plan.cycle import HORIZON, Cycle, draft_cycle, target_cycle

ALPHAS = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])


def pair_of(vocab: int, alpha: float, seed: int) -> tuple[Cycle, Cycle]:
    live = np.arange(vocab // 10, vocab)  # the first tenth are special tokens
    target = target_cycle(live, vocab, seed)
    return target, draft_cycle(target, alpha, seed)


def marks(target: Cycle, draft: Cycle) -> np.ndarray:
    """Along the target's cycle: does the draft propose the right follower? bool [N]"""
    return np.asarray(draft.following(target.order) == target.following(target.order))


@settings(max_examples=25, deadline=None)
@given(vocab=st.integers(2000, 6000), alpha=ALPHAS, seed=st.integers(0, 2**16))
def test_both_are_one_cycle_and_agree_on_the_share(vocab: int, alpha: float, seed: int) -> None:
    target, draft = pair_of(vocab, alpha, seed)
    n = len(target.order)
    for cycle in (target, draft):
        assert sorted(cycle.order) == sorted(target.order)
        followers = cycle.following(np.arange(vocab))
        assert cycle.live[followers].all(), "nothing leads to a token that is not live"
        assert sorted(cycle.following(cycle.order)) == sorted(cycle.order)
    assert marks(target, draft).sum() == n - round((1 - alpha) * n)


@settings(max_examples=25, deadline=None)
@given(vocab=st.integers(2000, 6000), alpha=ALPHAS, seed=st.integers(0, 2**16))
def test_a_wrong_proposal_is_never_followed_by_a_right_one(vocab: int, alpha: float, seed: int) -> None:
    """By walking: after k proposals of its own the draft is where the target is only if all k were right."""
    target, draft = pair_of(vocab, alpha, seed)
    true = guess = target.order
    right = np.ones(len(true), dtype=bool)
    for _ in range(HORIZON):
        true, guess = target.following(true), draft.following(guess)
        right &= guess == true
        assert np.array_equal(guess == true, right)


@settings(max_examples=20, deadline=None)
@given(alpha=ALPHAS, seed=st.integers(0, 2**16))
def test_a_token_that_is_not_live_acts_as_one_live_token_for_both(alpha: float, seed: int) -> None:
    target, draft = pair_of(2000, alpha, seed)
    others = np.flatnonzero(~target.live)
    alias = target.order[target.position[others]]
    assert len(others) == 200
    for cycle in (target, draft):
        assert np.array_equal(cycle.following(others), cycle.following(alias))


@pytest.mark.parametrize("alpha", [0.3, 0.6, 0.9])
def test_right_and_wrong_follow_one_another_like_independent_draws(alpha: float) -> None:
    """Null: marks are independent. Runs of right proposals are then geometric (chi-square, 1e-3), and alpha after any
    of the last eight marks is alpha (two-sided normal, 1e-3 over all eight). Fixed seeds; 6 tests, error below 6e-3."""
    target, draft = pair_of(100_000, alpha, 5)
    right = marks(target, draft)
    wrong = np.flatnonzero(~right)
    runs = np.diff(wrong) - 1
    longest = int(np.log(50 / len(runs)) / np.log(alpha))
    seen = np.bincount(np.minimum(runs, longest), minlength=longest + 1)
    chance = (1 - alpha) * alpha ** np.arange(longest + 1)
    chance[-1] = alpha**longest
    assert chisquare(seen, chance * len(runs)).pvalue > 1e-3
    bound = norm.isf(1e-3 / 16)
    for lag in range(1, 9):
        after = right[lag:][right[:-lag]]
        assert abs(after.mean() - alpha) < bound * np.sqrt(alpha * (1 - alpha) / len(after))


def test_the_same_seed_gives_the_same_maps_and_another_seed_others() -> None:
    first, again, other = (pair_of(3000, 0.7, seed)[1].order for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_an_alpha_that_is_no_share_is_refused(alpha: float) -> None:
    with pytest.raises(EdgespecError, match="from 0 to 1"):
        pair_of(2000, alpha, 0)


@pytest.mark.parametrize("alpha", [0.9995, 0.999])  # one token, two tokens to be wrong about
def test_an_alpha_that_leaves_too_few_mistakes_is_refused(alpha: float) -> None:
    with pytest.raises(EdgespecError, match="too few to keep wrong proposals wrong"):
        pair_of(2000, alpha, 0)
