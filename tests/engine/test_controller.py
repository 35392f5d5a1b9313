"""The controller against scripted acceptance: each proposed token is accepted with chance alpha, by a seeded draw, and
time is what `Costs` says, so every figure is exact and none is timed.

Costs in milliseconds: `f32` and `bf16` are the 1 B int4 target measured in design notes with a draft at c near 0.03,
`gpu` an integrated GPU with a mixture-of-experts target (v(4) near 2), `small` a 2 ms target whose fixed cost a step is
a quarter of it, `copy` drafts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgespec.engine.controller import Acceptance, Controller, Share, best_length
from edgespec.engine.costs import Costs
from edgespec.engine.proposal import NOTHING, ROOT, Proposal, chain
from edgespec.errors import EdgespecError

F32 = {1: 32.0, 2: 33.5, 3: 34.3, 4: 37.1, 6: 43.7, 8: 48.5, 16: 81.0}
COSTS = {
    "f32": Costs(F32, 1.0, 0.7),
    "bf16": Costs({1: 45.1, 2: 52.3, 3: 61.1, 4: 70.7, 6: 89.2, 8: 92.8, 16: 104.0}, 1.5, 0.7),
    "gpu": Costs({1: 30.0, 4: 59.4, 6: 67.5, 8: 75.6, 16: 110.0}, 2.0, 0.5),
    "small": Costs({1: 2.0, 2: 2.2, 3: 2.4, 4: 2.6, 6: 3.0, 8: 3.5, 16: 5.5}, 0.3, 0.5),
    "copy": Costs(F32, 0.0, 0.1),
}
MOST = 12


def fixed(costs: Costs, alpha: float, gamma: int) -> float:
    """Tokens a second with a fixed gamma."""
    return sum(alpha**i for i in range(gamma + 1)) / costs.step(gamma)


def simulate(costs: Costs, alpha: Callable[[float], float], tokens: int, seed: int) -> tuple[float, list[int]]:
    """(tokens a second, budgets) of one answer; alpha is given by the share of the answer that is done.

    Tokens are counted as their mean for the budget taken: the luck of the draw reaches the decisions, not the count.
    """
    rng = np.random.default_rng(seed)
    controller = Controller(costs, MOST)
    seconds, done, expected, budgets = 0.0, 0, 0.0, []
    while done < tokens:
        n, accepted, chance = controller.budget(), 0, alpha(done / tokens)
        while accepted < n and rng.random() < chance:
            accepted += 1
        controller.observe(chain([0] * n) if n else NOTHING, range(accepted))
        seconds += costs.step(n)
        done += accepted + 1
        expected += sum(chance**i for i in range(n + 1))
        budgets.append(n)
    return expected / seconds, budgets


@pytest.mark.parametrize("costs", COSTS.values(), ids=COSTS.keys())
def test_it_reaches_97_percent_of_the_best_fixed_gamma(costs: Costs) -> None:
    for alpha in (0.0, 0.15, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95):
        best = max(fixed(costs, alpha, gamma) for gamma in range(MOST + 1))
        got = np.mean([simulate(costs, lambda _, alpha=alpha: alpha, 1000, seed)[0] for seed in range(3)])
        assert got >= 0.97 * best, (alpha, got / best)


@pytest.mark.parametrize("costs", COSTS.values(), ids=COSTS.keys())
@pytest.mark.parametrize("tokens", [128, 1000])
def test_a_draft_that_is_always_wrong_costs_at_most_3_percent(costs: Costs, tokens: int) -> None:
    got, budgets = simulate(costs, lambda _: 0.0, tokens, 0)
    assert got >= 0.97 / costs.step(0)
    assert max(budgets[20:]) <= 1 and sum(budgets[20:]) > 0  # plain but for a try now and then


def test_a_draft_refused_three_times_in_a_row_is_tried_half_as_often_until_it_is_right() -> None:
    controller = Controller(COSTS["bf16"], MOST)
    tries = [0]
    for step in range(2500):
        n = controller.budget()
        if controller.trying:
            tries.append(step)
        controller.observe(chain([0] * n) if n else NOTHING, ())
    waits = np.diff(tries[1:])
    assert len(waits) > 6 and waits[3:] == pytest.approx(2 * waits[1], rel=0.1)
    while not controller.budget():
        controller.observe(NOTHING, ())
    assert controller.trying
    controller.observe(chain([0]), (0,))  # right once
    later = []
    for step in range(1000):
        n = controller.budget()
        if controller.trying:
            later.append(step)
        controller.observe(chain([0] * n) if n else NOTHING, ())
    assert np.diff(later)[0] < 1.5 * waits[1]


def test_where_drafting_pays_at_large_a_text_that_looks_hopeless_is_tried_sooner() -> None:
    """A streak of bad luck would else make a short answer plain to its end."""

    def wait(before: float) -> int:
        controller, rng = Controller(COSTS["bf16"], MOST), np.random.default_rng(0)
        for _ in range(300):
            n = controller.budget()
            luck = rng.random(n) < before
            controller.observe(chain([0] * n) if n else NOTHING, range(n if luck.all() else int(luck.argmin())))
        controller.begin()
        while (n := controller.budget()) and not controller.trying:
            controller.observe(chain([0] * n), ())
        tries = []
        for step in range(2000):
            n = controller.budget()
            if n:
                tries.append(step)
            controller.observe(chain([0] * n) if n else NOTHING, ())
        return int(np.diff(tries)[0])

    assert wait(0.85) < wait(0.0) / 3


@pytest.mark.parametrize("costs", COSTS.values(), ids=COSTS.keys())
@pytest.mark.parametrize(("early", "late"), [(0.0, 0.8), (0.8, 0.0), (0.3, 0.9)])
def test_a_shift_midway_is_followed(costs: Costs, early: float, late: float) -> None:
    """Better than any gamma kept throughout, and near one that knew both."""
    together = [2 / (1 / fixed(costs, early, gamma) + 1 / fixed(costs, late, gamma)) for gamma in range(MOST + 1)]
    knowing = 2 / sum(1 / max(fixed(costs, alpha, gamma) for gamma in range(MOST + 1)) for alpha in (early, late))
    got = np.mean([simulate(costs, lambda at: early if at < 0.5 else late, 1000, seed)[0] for seed in range(3)])
    assert got >= max(together)
    assert got >= 0.88 * knowing


def test_decisions_follow_from_observations_alone() -> None:
    assert simulate(COSTS["f32"], lambda _: 0.6, 300, 7) == simulate(COSTS["f32"], lambda _: 0.6, 300, 7)


def test_costs_are_interpolated_and_go_on_with_the_last_slope() -> None:
    costs = Costs({1: 10.0, 4: 16.0, 8: 20.0}, t_draft=2.0, overhead=1.0)
    assert [costs.target(n) for n in (1, 2, 4, 6, 8, 10)] == [10, 12, 16, 18, 20, 22]
    assert costs.step(0) == 10 and costs.step(3) == 1 + 6 + 16
    assert Costs({1: 10.0}).target(5) == 10.0


@pytest.mark.parametrize("wrong", [{2: 1.0}, {1: 0.0}, {1: 1.0, 2: -1.0}])
def test_costs_that_cannot_be_are_a_sentence(wrong: dict[int, float]) -> None:
    with pytest.raises(EdgespecError, match="seconds"):
        Costs(wrong)
    with pytest.raises(EdgespecError, match="room"):
        Controller(Costs({1: 1.0}), 0)


def test_the_best_length_by_hand() -> None:
    costs = Costs({1: 1.0, 2: 1.2, 3: 1.4, 4: 2.8})
    assert best_length(costs, [0.8, 0.6, 0.5]) == (2, pytest.approx(2.4 / 1.4))  # 1.8/1.2, 2.4/1.4, 2.9/2.8
    assert best_length(costs, [0.1, 0.05, 0.01]) == (0, pytest.approx(1.0))


def test_a_node_leans_on_its_own_trials() -> None:
    """First tokens are always right, second ones never: the budget settles at 1, though alpha over all is a half."""
    controller = Controller(Costs({1: 1.0, 8: 1.7}, 0.05), 6)
    for _ in range(200):
        n = controller.budget()
        controller.observe(chain([0] * n), range(min(n, 1)))
    assert controller.budget() == 1


def test_a_trees_nodes_are_worth_what_they_turned_out_to_be() -> None:
    """Three children of the root, of which the first two share all hits: the third is not proposed for long."""
    controller = Controller(Costs({1: 1.0, 8: 2.4}), 6, shape="tree")
    for step in range(300):
        n = controller.budget()
        hit = step % 2
        controller.observe(Proposal(np.zeros(n, np.int64), np.full(n, ROOT, np.int32)), (hit,) if hit < n else ())
    assert controller.budget() == 2
    shares = controller.acceptance.shares(3)
    assert shares[0] == pytest.approx(0.5, abs=0.12) and shares[2] < 0.3


def test_more_is_drafted_while_the_draft_is_sure_and_right() -> None:
    controller = Controller(COSTS["f32"], 8)
    assert controller.more([0.95]) and controller.more([0.95, 0.95])
    assert not controller.more([0.02])
    assert not controller.more([0.99] * 8)
    for _ in range(40):  # sure, and wrong
        controller.observe(chain([0, 0]), (), [0.97, 0.97])
    assert not controller.more([0.97])


def test_a_short_remainder_bounds_the_budget() -> None:
    controller = Controller(COSTS["copy"], 8)
    assert controller.budget(0) == 0 and controller.budget(1) == 1


def test_a_share_follows_a_change_at_once_and_ignores_noise() -> None:
    share = Share()
    rng = np.random.default_rng(0)
    for _ in range(500):
        share.add(bool(rng.random() < 0.6))
    assert share.trials > 100 and share.mean(0.5, 1.0) == pytest.approx(0.6, abs=0.12)
    for _ in range(12):
        share.add(False)
    assert share.mean(0.5, 1.0) < 0.35


def test_what_lies_beyond_the_known_text_is_judged_by_what_it_hangs_from() -> None:
    """Two answers in turn, a hard one (first token wrong) of which one token is known, and an easy one known in full:
    the second node is right half of the time. Leaving it out where it is not known would make it always right."""
    for shape in ("chain", "tree"):
        acceptance = Acceptance(shape)  # type: ignore[arg-type]
        for _ in range(300):
            acceptance.observe(chain([0, 0]), (), known=1)
            acceptance.observe(chain([0, 0]), (0, 1), known=2)
        assert acceptance.shares(2) == pytest.approx([0.5, 0.5], abs=0.13)
    open_end = Acceptance()
    for _ in range(300):
        open_end.observe(chain([0, 0]), (0,), known=1)  # the first is right, of the second nothing is known
    assert open_end.shares(2) == pytest.approx([1.0, 1.0], abs=0.05)  # as alpha says


def test_acceptance_starts_from_its_prior() -> None:
    assert Acceptance(prior=0.6).shares(3) == pytest.approx([0.6, 0.36, 0.216])
