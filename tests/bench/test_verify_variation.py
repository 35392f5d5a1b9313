"""Total variation, its null distribution, and how often the verdict is wrong: seeded simulations with known truths.

Null: samples come from the exact distribution itself. A run's tests, whatever their number, may then fail it in 5 % of
runs; the test allows three binomial standard errors above that, so a right rule would fail it with a chance below
0.2 %, and never does in fact, because the draws are seeded.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgespec.bench.verify.variation import FAMILY_ALPHA, POWER, distance, draw_null, holm, resolution, total_variation

SAMPLES = 600


def some_distribution(seed: int, cells: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([[0.0], rng.dirichlet(np.full(cells, 0.5))])


def test_total_variation_by_hand() -> None:
    p = np.array([0.0, 0.5, 0.3, 0.2])
    assert total_variation(np.array([0, 5, 3, 2]), p) == pytest.approx(0)
    assert total_variation(np.array([1, 6, 3, 0]), p) == pytest.approx(0.1 + 0.1)
    assert total_variation(np.array([10, 0, 0, 0]), p) == pytest.approx(1)
    assert distance(p, np.array([0.1, 0.6, 0.3, 0.0])) == pytest.approx(0.2)


def test_the_null_of_two_cells_is_the_binomial() -> None:
    """With two cells TV is |k - n p| / n, whose chances scipy knows. 20,000 replicates: standard error 0.35 %."""
    p = np.array([0.3, 0.7])
    null = draw_null(p, 40, np.random.default_rng(1), replicates=20_000)
    counts = np.arange(41)
    chance = stats.binom.pmf(counts, 40, 0.3)
    for off in (2, 4, 6):
        exact = chance[np.abs(counts - 12) >= off].sum()
        assert null.p_value(off / 40) == pytest.approx(exact, abs=0.012)
    assert null.p_value(0.0) == 1
    assert null.p_value(1.0) == 1 / 20_001, "never zero"
    assert null.median <= null.bound95 <= null.bound(0.01)


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12))
def test_holm_is_between_bonferroni_and_no_correction(p_values: list[float]) -> None:
    passed = holm(p_values)
    for p, ok in zip(p_values, passed, strict=True):
        if p > FAMILY_ALPHA:
            assert ok
        if p <= FAMILY_ALPHA / len(p_values):
            assert not ok
    worst_that_fails = max((p for p, ok in zip(p_values, passed, strict=True) if not ok), default=0)
    assert worst_that_fails <= min((p for p, ok in zip(p_values, passed, strict=True) if ok), default=1)


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.02]) == [False, False, False]
    assert holm([0.04, 0.01, 0.03]) == [True, False, True]
    assert holm([]) == []


@pytest.mark.parametrize(("arms", "contexts", "cells"), [(1, 1, 20), (3, 2, 30)])
def test_a_right_engine_fails_in_five_of_a_hundred_runs(arms: int, contexts: int, cells: int) -> None:
    runs, failed = 200, 0
    rng = np.random.default_rng(20)
    for run in range(runs):
        p_values = []
        for context in range(contexts):
            p = some_distribution(run * contexts + context, cells)
            null = draw_null(p, SAMPLES, rng, replicates=399)
            counts = rng.multinomial(SAMPLES, p, size=arms)
            p_values += [null.p_value(total_variation(of, p)) for of in counts]
        failed += not all(holm(p_values))
    assert failed / runs <= FAMILY_ALPHA + 3 * math.sqrt(FAMILY_ALPHA * (1 - FAMILY_ALPHA) / runs)
    assert failed > 0, "a rule that never fails has no power either"


@pytest.mark.parametrize("towards_draft", [True, False])
def test_what_a_test_is_said_to_find_it_finds(towards_draft: bool) -> None:
    """At the reported distance nine of ten runs see it (400 runs: standard error 1.5 %), at a third of it few do."""
    p, draft = some_distribution(1, 40), some_distribution(2, 40)
    null = draw_null(p, SAMPLES, np.random.default_rng(3))
    bound = null.bound(0.01)
    found = resolution(p, draft if towards_draft else None, SAMPLES, bound, np.random.default_rng(4))
    assert found is not None and null.median < found < 1
    if towards_draft:
        rng = np.random.default_rng(5)

        def seen(share: float) -> float:
            mixed = (1 - share) * p + share * draft
            counts = rng.multinomial(SAMPLES, mixed, size=400)
            return float(np.mean([total_variation(of, p) > bound for of in counts]))

        share = found / distance(p, draft)
        assert seen(share) == pytest.approx(POWER, abs=0.05)
        assert seen(share / 3) < 0.3


def test_a_draft_that_says_what_the_target_says_cannot_be_told_from_it() -> None:
    p = some_distribution(1, 40)
    null = draw_null(p, SAMPLES, np.random.default_rng(3))
    nearly = p * 0.999 + some_distribution(2, 40) * 0.001
    assert resolution(p, nearly, SAMPLES, null.bound(0.05), np.random.default_rng(4)) is None
