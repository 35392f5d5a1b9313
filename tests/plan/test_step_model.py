"""The step-time model: the formula's own identities, what fitting recovers, and break-even where it is known."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgespec.plan.step_model import (
    GAMMAS,
    Answer,
    StepModel,
    Timed,
    alpha_of_rate,
    beyond_passes,
    compared,
    fitted,
    residuals,
    tau,
)
from edgespec.plan.trees import best_tree, grown, rho_needed

IDEAL = StepModel({1: 1.0, 2: 1.0}, {1: 0.1, 2: 0.2})  # a pass takes 1 s whatever its length, a draft pass 0.1


@settings(deadline=None)
@given(alpha=st.floats(0.01, 0.99), gamma=st.integers(1, 12))
def test_tau_is_leviathans(alpha: float, gamma: int) -> None:
    assert tau(alpha, gamma) == pytest.approx((1 - alpha ** (gamma + 1)) / (1 - alpha))
    assert tau([alpha] * gamma, gamma) == pytest.approx(tau(alpha, gamma))


def test_tau_by_position_goes_on_with_the_last() -> None:
    assert tau([0.5, 0.8], 3) == pytest.approx(1 + 0.5 + 0.5 * 0.8 + 0.5 * 0.8 * 0.8)


@pytest.mark.parametrize(("rate", "alpha"), [(0.307, 0.52), (0.369, 0.58), (0.562, 0.74), (0.649, 0.80)])
def test_published_rates_are_not_alphas(rate: float, alpha: float) -> None:
    assert alpha_of_rate(rate, 3) == pytest.approx(alpha, abs=0.01)
    assert (tau(alpha_of_rate(rate, 3), 3) - 1) / 3 == pytest.approx(rate)
    assert alpha_of_rate(0, 3) == 0 and alpha_of_rate(1, 3) == 1


@settings(deadline=None)
@given(alpha=st.floats(0.05, 0.95), gamma=st.integers(1, 8))
def test_with_free_verification_it_is_the_usual_formula(alpha: float, gamma: int) -> None:
    passes = gamma + alpha**gamma  # one more behind a full acceptance
    assert IDEAL.speedup(alpha, gamma) == pytest.approx(tau(alpha, gamma) / (1 + 0.1 * passes))
    assert IDEAL.c == pytest.approx(0.1)


def test_break_even_is_where_nothing_is_gained() -> None:
    """v = 1: at gamma 1 (1 + alpha) / (1 + c) is 1 at alpha = c (Leviathan, corollary 3.9); with the pass that a full
    acceptance adds, (1 + alpha) / (1 + c (1 + alpha)) at alpha = c / (1 - c)."""
    assert IDEAL.breakeven(1) == pytest.approx(0.1 / 0.9, abs=1e-4)
    assert IDEAL.breakeven() == pytest.approx(0.1 / 0.9, abs=1e-4)
    assert IDEAL.breakeven(8) is not None and IDEAL.breakeven(8) > IDEAL.breakeven(1)  # type: ignore[operator]
    assert StepModel({1: 1.0, 2: 1.5}, {1: 2.0}).breakeven() is None
    dear = StepModel({1: 1.0, 2: 1.5}, {1: 2.0})
    assert dear.best_gamma(0.9) == 0 and dear.best(0.9) == 1.0


@settings(deadline=None)
@given(alpha=st.floats(0.2, 0.95))
def test_the_best_gamma_is_the_best(alpha: float) -> None:
    best = IDEAL.best_gamma(alpha)
    assert IDEAL.best(alpha) == pytest.approx(max(IDEAL.speedup(alpha, gamma) for gamma in GAMMAS))
    assert best in GAMMAS and IDEAL.best_gamma(min(0.99, alpha + 0.2)) >= best


FIT = [(0.7, 1), (0.7, 4)]


def answer_of(true: StepModel, alpha: float, gamma: int, *, step: float = 1.0) -> Answer:
    """On a machine of `true`'s times. step: what a speculative step takes of what it should."""
    return Answer(
        Timed(alpha, gamma, round(1000 * tau(alpha, gamma)), 1000, step * true.seconds(gamma, alpha)),
        Timed(alpha, 0, 1000, 1000, true.seconds(0)),
        StepModel(true.target, true.draft),
    )


def test_fitting_finds_the_overheads_and_leaves_held_back_points_alone() -> None:
    true = StepModel({1: 1.0, 2: 1.1, 8: 1.7}, {1: 0.1, 3: 0.3, 7: 0.7}, overhead=0.05, plain_overhead=0.02)
    answers = [answer_of(true, alpha, gamma) for alpha, gamma in (*FIT, (0.8, 3), (0.5, 2))]
    found = fitted(answers, FIT)
    assert (found.overhead, found.plain_overhead) == (pytest.approx(0.05), pytest.approx(0.02))
    points = compared(found, answers, FIT)
    assert [(p.alpha, p.gamma, p.held_back, p.answers) for p in points] == [
        (0.5, 2, True, 1), (0.7, 1, False, 1), (0.7, 4, False, 1), (0.8, 3, True, 1),
    ]  # fmt: skip
    assert max(abs(p.error) for p in points) < 0.01
    before = beyond_passes(answers, FIT)
    answers[2:] = [answer_of(true, 0.8, 3, step=2.0), answer_of(true, 0.5, 2, step=3.0)]
    disturbed = fitted(answers, FIT)
    assert disturbed == found and beyond_passes(answers, FIT) == before, "what is held back has no part in the model"
    worse = compared(disturbed, answers, FIT)
    assert worse[3].error == pytest.approx(1.0, abs=0.01), "an error is shown, not fitted away"
    assert worse[0].error == pytest.approx(2.0, abs=0.02)


def test_no_overhead_below_zero_is_fitted_and_what_is_left_is_told() -> None:
    """A plan of a 3.8 B target once took -112 ms for an overhead, and predicted with it."""
    passes = StepModel({1: 0.172, 2: 0.322, 6: 0.397}, {1: 0.008, 4: 0.022})
    plain_steps = Timed(0.7, 0, 17, 17, 0.176)
    answers = [
        Answer(Timed(0.7, 1, 17, 10, 0.198), plain_steps, passes),
        Answer(Timed(0.7, 4, 22, 8, 0.285), plain_steps, passes),
    ]
    plain, speculative = beyond_passes(answers, FIT)
    assert plain == pytest.approx(0.004) and speculative < -0.1
    found = fitted(answers, FIT)
    assert found.overhead == 0 and found.plain_overhead == pytest.approx(0.004)
    steps = residuals(found, answers, FIT)
    assert [(step.alpha, step.gamma) for step in steps] == [(0.0, 0), (0.7, 1), (0.7, 4)]
    assert steps[0].error == pytest.approx(0) and steps[1].measured_s == pytest.approx(0.198)
    assert steps[1].error == pytest.approx((0.322 + 0.008 + 0.7 * (0.022 - 0.008) / 3) / 0.198 - 1)


def test_behind_a_full_acceptance_the_draft_reads_its_own_last_token_too() -> None:
    model = StepModel({1: 1.0, 8: 1.0}, {1: 0.1, 8: 0.8})
    assert model.seconds(2, 0.5) == pytest.approx(1.0 + 0.1 * (2 + 0.25))
    assert model.seconds(2, [0.5, 0.8]) == pytest.approx(1.0 + 0.1 * (2 + 0.4))
    assert model.seconds(3, 1.0) == pytest.approx(1.4) and model.seconds(0, 0.9) == 1.0


def test_a_speed_up_is_over_the_plain_steps_of_all_answers() -> None:
    """One answer's plain steps were disturbed, and say nothing of its speculative ones."""
    model = StepModel({1: 1.0, 2: 1.0}, {1: 0.0})
    answers = [answer_of(model, 0.7, gamma) for gamma in (1, 1, 2)]
    answers[0] = replace(answers[0], plain=replace(answers[0].plain, step_s=2 * answers[0].plain.step_s))
    first, second = compared(model, answers, [])
    assert first.measured_speedup == pytest.approx(1.7) == first.predicted_speedup and first.answers == 2
    assert second.measured_speedup == pytest.approx(tau(0.7, 2)) and second.answers == 1


def test_passes_between_and_beyond_the_timed_ones() -> None:
    model = StepModel({1: 1.0, 4: 1.6}, {1: 0.2, 3: 0.4})
    assert model.drafting(2) == pytest.approx(0.3) and model.drafting(5) == pytest.approx(0.6)
    assert model.v(2) == pytest.approx(1.2)


def test_a_tree_takes_the_likeliest_nodes() -> None:
    """Against every set of nodes that holds its nodes' parents, of a tree of four children a node, two levels deep."""
    alpha, rho = 0.6, 0.4
    shares = [alpha, 0.4 * rho, 0.4 * 0.6 * rho, 0.4 * 0.36 * rho]
    chances = {(a,): shares[a] for a in range(4)} | {(a, b): shares[a] * shares[b] for a in range(4) for b in range(4)}
    for nodes in (1, 2, 3, 4):
        whole = [
            chosen
            for chosen in combinations(chances, nodes)
            if all(len(node) == 1 or node[:1] in chosen for node in chosen)
        ]
        best = max(sum(chances[node] for node in chosen) for chosen in whole)
        assert sum(chance for chance, _ in grown(alpha, rho, nodes, depth=2)) == pytest.approx(best)


def test_a_tree_with_no_second_guess_is_a_chain_and_a_good_one_pays_where_passes_are_flat() -> None:
    flat = StepModel({1: 1.0, 16: 1.05}, {1: 0.05, 8: 0.4})
    chainlike = best_tree(flat, 0.7, 1e-9)
    assert chainlike.speedup == pytest.approx(max(flat.speedup(0.7, g) for g in (2, 3, 4, 6, 8)), rel=1e-3)
    needed = rho_needed(flat, 0.7)
    assert needed is not None and needed < 0.2
    assert best_tree(flat, 0.7, 0.5).speedup > flat.best(0.7)
    steep = StepModel({1: 1.0, 2: 2.0}, {1: 0.05, 8: 0.4})
    assert rho_needed(steep, 0.7) is None and math.isfinite(best_tree(steep, 0.7, 0.5).speedup)
