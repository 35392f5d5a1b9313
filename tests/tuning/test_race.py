"""Successive elimination: the best arm is lost no more often than stated, and slow arms go early."""

from __future__ import annotations

import random

from edgespec.tuning.race import ERROR_RATE, Race, surely_above_zero

ARMS = 16
STAGES = (3, 3, 2)


def run(best: float, others: float, *, spread: float, noise: float, luck: float, seed: int) -> tuple[Race, int]:
    """A race of ARMS arms with these true mean log leads, and how many answers it took.

    Every arm's engine has its luck (sigma `luck`), a way's gain differs over prompts (`spread`), an answer is noisy,
    and so is the reference's of the same block.
    """
    draw = random.Random(f"race/{seed}")
    names = [f"a{number:02}" for number in range(ARMS)]
    means = {name: (best if name == "a00" else others) + draw.gauss(0, luck) for name in names}
    race = Race(draw.sample(names, ARMS), len(STAGES))
    answers = 0
    for stage, prompts in enumerate(STAGES):
        for prompt in range(prompts):
            reference = draw.gauss(0, noise)
            for name in race.left:
                lead = means[name] + draw.gauss(0, spread) + draw.gauss(0, noise) - reference
                race.leads[name][f"{stage}/{prompt}"] = lead
                answers += 1
        race.stage()
    return race, answers


def test_the_best_is_lost_no_more_often_than_stated() -> None:
    """An arm that is 1 % better than 15 others, with noise of 6 % and gains that differ by 8 % over prompts: as hard as
    it gets. At a rate of 5 % more than 29 of 400 races would lose it with a chance of 2 %."""
    lost = sum("a00" in run(0.01, 0.0, spread=0.08, noise=0.06, luck=0.011, seed=seed)[0].out for seed in range(400))
    assert lost <= 29 and ERROR_RATE == 0.05


def test_an_arm_far_ahead_is_found_at_a_fraction_of_the_cost() -> None:
    everything = ARMS * sum(STAGES)
    found = [run(0.5, 0.0, spread=0.08, noise=0.06, luck=0.011, seed=seed) for seed in range(100)]
    assert all("a00" not in race.out for race, _ in found)
    assert sum(race.left == ["a00"] for race, _ in found) >= 95
    assert sum(answers for _, answers in found) / 100 < 0.75 * everything


def test_small_differences_stay_in_the_race() -> None:
    found = [run(0.03, 0.0, spread=0.08, noise=0.06, luck=0.011, seed=seed) for seed in range(50)]
    assert sum(len(race.left) for race, _ in found) / 50 > 0.6 * ARMS


def test_fewer_than_three_prompts_put_nobody_out() -> None:
    race = Race(["fast", "slow"], 1)
    race.leads["fast"].update({"p0": 1.0, "p1": 1.0})
    race.leads["slow"].update({"p0": -1.0, "p1": -1.0})
    assert race.stage() == [] and race.left == ["fast", "slow"]
    race.leads["fast"]["p2"], race.leads["slow"]["p2"] = 1.0, -1.0
    assert race.stage() == ["slow"]
    assert race.out["slow"] == "0.14x of fast, surely slower"


def test_arms_are_compared_on_the_prompts_that_both_answered() -> None:
    race = Race(["a", "b"], 1)
    race.leads["a"].update({"p0": 0.1, "p1": 0.1, "p2": 0.1, "hard": -3.0})
    race.leads["b"].update({"p0": 0.0, "p1": 0.0, "p2": 0.0})
    assert race.lead_over("a", "b") is not None and abs((race.lead_over("a", "b") or 0) - 0.1) < 1e-12
    race.leads["c"] = {"p0": 1.0, "p1": 1.0}
    assert race.lead_over("c", "a") is None, "two prompts are too few"


def test_halving_keeps_the_fastest_and_says_that_time_was_short() -> None:
    race = Race(["a", "b", "c"], 1)
    for arm, lead in (("a", 0.1), ("b", 0.3), ("c", 0.2)):
        race.leads[arm]["p0"] = lead
    assert race.halve(2, "time grew short") == ["a"]
    assert race.left == ["b", "c"] and race.out == {"a": "time grew short"}
    assert race.halve(0, "no time at all") == ["c"], "one always stays"


def test_one_that_failed_is_out_whatever_it_measured() -> None:
    race = Race(["a", "b"], 1)
    race.leads["a"].update(dict.fromkeys(("p0", "p1", "p2"), 1.0))
    race.leads["b"].update(dict.fromkeys(("p0", "p1", "p2"), 0.0))
    race.fail("a", "its process ended")
    assert race.left == ["b"] and race.measured == ["b"] and race.leader == "b"
    assert race.out["a"] == "failed: its process ended"


def test_the_luck_of_processes_is_allowed_for() -> None:
    """However many prompts agree on 2 %, two processes may differ by that for no reason."""
    assert not surely_above_zero([0.02, 0.02, 0.021, 0.019] * 50, 1e-4, 0.01)
    assert surely_above_zero([0.06, 0.06, 0.061, 0.059] * 50, 1e-4, 0.01)
