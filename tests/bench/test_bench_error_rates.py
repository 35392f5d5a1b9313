"""How often the verdict is wrong, and how often it finds a true gain: seeded simulations.

Null: both arms take the same time, with lognormal noise on every row. The verdict may then say faster or slower in 5 %
of runs; a test allows three binomial standard errors above that (1.5 % more in 2,000 runs), so a right verdict would
fail it with a chance below 0.2 %, and never does in fact, because the draws are seeded.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from simulated import Machine, measured

from edgespec.bench import statistics as st
from edgespec.bench.report import build_report
from edgespec.bench.rows import Line

RUNS = 2000
ALLOWED = 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)


def verdicts(prompts: int, gain: float, noise: float, hiccups: float = 0.0, runs: int = RUNS) -> dict[str, float]:
    """Share of each verdict. Two repetitions; noise is the sigma of the logarithm of every row's time, hiccups the
    share of rows that something else slows by a fifth on average (exponential)."""
    draw = random.Random(f"{prompts}/{gain}/{noise}/{hiccups}")

    def disturbed() -> float:
        return draw.gauss(0, noise) + (draw.expovariate(5) if draw.random() < hiccups else 0)

    counted = {"faster": 0, "slower": 0, "cannot tell": 0}
    for _ in range(runs):
        ratios = []
        for _prompt in range(prompts):
            logs = [disturbed() - disturbed() + math.log(gain) for _ in range(2)]
            ratios.append(math.exp(sum(logs) / 2))
        counted[st.speedup(ratios).verdict] += 1
    return {verdict: count / runs for verdict, count in counted.items()}


@pytest.mark.parametrize("hiccups", [0.0, 0.05])
@pytest.mark.parametrize("prompts", [4, 8, 12, 28, 60])
def test_equal_arms_are_told_apart_in_five_of_a_hundred_runs(prompts: int, hiccups: float) -> None:
    found = verdicts(prompts, gain=1.0, noise=0.05, hiccups=hiccups)
    assert found["faster"] + found["slower"] <= ALLOWED
    assert found["cannot tell"] < 1, "a verdict that never errs has no power either"


def test_a_true_gain_of_five_percent_is_found() -> None:
    # 28 prompts, 2 repetitions, sigma 0.05: standard error 0.05 * sqrt(2 / 56) = 0.0094, gain log(1.05) = 5.2 of these
    found = verdicts(28, gain=1.05, noise=0.05, runs=60)
    assert found["faster"] >= 0.95
    assert found["slower"] == 0


def told_apart(machine: Machine, prompts: int, repetitions: int, runs: int, learn: bool = True) -> float:
    """Share of runs of equal arms that are called different."""
    wrong = 0
    for seed in range(runs):
        rows = measured(
            {"plain": 1.0, "equal": 1.0}, prompts=prompts, repetitions=repetitions, machine=machine, seed=seed
        )
        luck = st.process_luck(rows, "equal", "plain") if learn else None
        found = st.speedup(list(st.prompt_ratios(rows, "equal", "plain").values()), luck=luck)
        wrong += found.verdict != "cannot tell"
    return wrong / runs


@pytest.mark.parametrize(("prompts", "repetitions"), [(8, 2), (28, 2), (28, 4)])
def test_what_stays_with_a_process_is_allowed_for(prompts: int, repetitions: int) -> None:
    """Two processes of equal work whose ratio has sigma 2.1 %: what was measured on real machines."""
    machine, runs = Machine(luck=0.015), 300
    assert told_apart(machine, prompts, repetitions, runs) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    if prompts == 28:
        assert told_apart(machine, prompts, repetitions, runs, learn=False) > 0.1, (
            "without it, luck is taken for a gain"
        )


def test_a_luckier_machine_is_learned() -> None:
    """Ratios of sigma 5 %, two and a half times what a run starts from."""
    machine = Machine(noise=0.03, luck=0.035)
    found = [
        luck.error * math.sqrt(6)
        for seed in range(40)
        if (
            luck := st.process_luck(
                measured({"plain": 1.0, "x": 1.0}, repetitions=6, machine=machine, seed=seed), "x", "plain"
            )
        )
    ]
    assert len(found) == 40
    mean = math.sqrt(sum(sigma**2 for sigma in found) / len(found))
    expected = (8 * 0.02**2 + 5 * 2 * 0.035**2) / 13
    assert mean == pytest.approx(math.sqrt(expected), rel=0.12)


def test_the_best_of_five_equal_arms_is_seldom_called_faster(make_lines: Callable[..., list[Line]]) -> None:
    """The headline is the best of several: uncorrected, it would be called faster in more than 5 % of runs."""
    gains = dict.fromkeys(["plain", "draft-g1", "draft-g2", "draft-g3", "draft-g5", "draft-g8"], 1.0)
    wrong, uncorrected, runs = 0, 0, 120
    for run in range(runs):
        headline = build_report(make_lines(gains, noise=0.08, seed=run))["headline"]
        wrong += headline["verdict"] == "faster"
        uncorrected += headline["ci95"][0] > 1
    assert wrong / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert uncorrected > wrong
