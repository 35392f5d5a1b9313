"""When a run may stop repeating, and that stopping so leaves the error rate of its verdict alone.

Null of the simulations: both arms take the same time, on a shared machine (see simulated.Machine). A 95 % verdict may
then say faster or slower in 5 % of runs; three binomial standard errors above that are allowed, which a right rule
passes by chance in 99.9 % of seeds. The draws are seeded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as some
from simulated import measured, rounds, row

from edgespec.bench import statistics as st
from edgespec.bench.rows import Load, Row
from edgespec.bench.stopping import Limits, enough, interval_width, spent, whole_rounds
from edgespec.errors import EdgespecError

RUNS = 300
ALLOWED = 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)
ARM = "draft-g2"
Rule = Callable[[list[Row], list[str]], bool]


def names(prompts: int) -> list[str]:
    return [f"p{index:02}" for index in range(prompts)]


def verdict(rows: list[Row]) -> str:
    return st.speedup(list(st.prompt_ratios(rows, ARM, "plain").values())).verdict


def stopped_by(rule: Rule, prompts: int, gain: float, most: int, runs: int = RUNS) -> dict[str, float]:
    """Share of each verdict when `rule` (rows, prompts -> stop) is asked after every repetition from the second on."""
    counted = {"faster": 0, "slower": 0, "cannot tell": 0}
    for seed in range(runs):
        rows: list[Row] = []
        for done, new in enumerate(islice(rounds({"plain": 1.0, ARM: gain}, prompts=prompts, seed=seed), most), 1):
            rows += new
            if done >= 2 and rule(rows, names(prompts)):
                break
        counted[verdict(rows)] += 1
    return {name: times / runs for name, times in counted.items()}


def the_rule(precision: float, most: int) -> Rule:
    return lambda rows, prompts: not enough(rows, [ARM], prompts, Limits(precision, most)).go_on


@pytest.mark.parametrize(("prompts", "precision"), [(4, 0.03), (8, 0.03), (28, 0.03)])
def test_equal_arms_are_told_apart_in_five_of_a_hundred_runs(prompts: int, precision: float) -> None:
    found = stopped_by(the_rule(precision, 8), prompts, 1.0, 8)
    assert found["faster"] + found["slower"] <= ALLOWED
    assert found["cannot tell"] < 1, "a verdict that never errs has no power either"


def test_a_true_gain_of_five_percent_is_found() -> None:
    found = stopped_by(the_rule(0.03, 8), 28, 1.05, 8, runs=100)
    assert found["faster"] >= 0.90
    assert found["slower"] == 0


def test_stopping_on_the_verdict_would_find_differences_that_are_not_there() -> None:
    """What the rule must not do: look after each repetition, and stop once the verdict is in."""
    found = stopped_by(lambda rows, _: verdict(rows) != "cannot tell", 8, 1.0, 8)
    assert found["faster"] + found["slower"] > ALLOWED + 0.03


def test_stopping_on_the_width_alone_would_too_with_few_prompts() -> None:
    """Why the rule asks for little noise within prompts as well: an interval is narrow by luck now and then."""

    def narrow(rows: list[Row], _: list[str]) -> bool:
        found = st.speedup(list(st.prompt_ratios(rows, ARM, "plain").values())).ci95
        return found is not None and math.log(found[1] / found[0]) / 2 <= math.log(1.03)

    found = stopped_by(narrow, 4, 1.0, 8)
    assert found["faster"] + found["slower"] > ALLOWED


@given(factor=some.floats(0.1, 10), seed=some.integers(0, 50))
def test_the_decision_does_not_see_which_arm_is_ahead(factor: float, seed: int) -> None:
    """Every answer of an arm `factor` times as slow changes no width, so no decision."""
    rows = measured({"plain": 1.0, ARM: 1.0}, prompts=5, repetitions=3, seed=seed)
    changed = [one.model_copy(update={"wall_s": (one.wall_s or 0) * factor}) if one.arm == ARM else one for one in rows]
    limits = Limits(0.05, 5)
    before, after = (enough(lines, [ARM], names(5), limits) for lines in (rows, changed))
    assert before.go_on == after.go_on
    widths = [interval_width(lines, ARM) for lines in (rows, changed)]
    assert widths[0] is not None and widths[1] is not None
    assert widths[0].now == pytest.approx(widths[1].now)


def test_noise_alone_is_told_from_prompts_that_differ() -> None:
    noisy = interval_width(measured({"plain": 1.0, ARM: 1.5}, repetitions=4), ARM)
    spread = interval_width(measured({"plain": 1.0, ARM: 1.5}, repetitions=4, spread=0.3), ARM)
    assert noisy is not None and noisy.of_noise is not None and noisy.doubled is not None
    assert spread is not None
    assert noisy.of_noise == pytest.approx(noisy.now, rel=0.4) and not noisy.saturated
    assert spread.of_noise == pytest.approx(noisy.of_noise, rel=0.1), "prompts that differ are no noise"
    assert spread.now > 0.1 and spread.saturated
    # the variance of the median of 4 normal values is 0.2982, of 8 it is 0.1683
    assert noisy.doubled / noisy.now == pytest.approx(math.sqrt(0.1683 / 0.2982), abs=0.1)


def test_prompts_that_differ_end_the_run_with_that_advice() -> None:
    rows = measured({"plain": 1.0, ARM: 1.5}, repetitions=2, spread=0.3)
    decision = enough(rows, [ARM], names(28), Limits(0.03, 8))
    assert not decision.go_on
    assert "more prompts would" in decision.reason and f"is {ARM}'s, ±" in decision.reason


def test_every_arm_has_to_be_known_well() -> None:
    rows = measured({"plain": 1.0, "draft-g1": 1.2, ARM: 1.5}, repetitions=2)
    rougher = [
        one.model_copy(update={"wall_s": (one.wall_s or 0) * (1.3 if (one.repetition + int(one.case[1:])) % 2 else 1)})
        if one.arm == ARM
        else one
        for one in rows
    ]
    limits = Limits(0.04, 8)
    assert not enough(rows, ["draft-g1", ARM], names(28), limits).go_on
    decision = enough(rougher, ["draft-g1", ARM], names(28), limits)
    assert decision.go_on
    assert ARM in decision.reason


def test_an_arm_that_never_answers_does_not_hold_the_run() -> None:
    rows = measured({"plain": 1.0, ARM: 1.5}, repetitions=2)
    rows += [row(name, "lookup", repetition, None) for name in names(28) for repetition in (0, 1)]
    decision = enough(rows, [ARM, "lookup"], names(28), Limits(0.05, 8))
    assert not decision.go_on
    assert decision.reason.startswith("every speed-up is known to within ±5.0%: ")


def test_rounds_are_whole_and_at_least_two() -> None:
    rows = measured({"plain": 1.0, ARM: 1.5}, prompts=6, repetitions=3)
    first = [one for one in rows if one.repetition == 0]
    loose = Limits(0.9, 8, budget_s=1.0)
    assert whole_rounds(rows, ["plain", ARM], names(6)) == 3
    assert whole_rounds(rows[:-1], ["plain", ARM], names(6)) == 2
    assert whole_rounds([], ["plain", ARM], names(6)) == 0
    assert enough([], [ARM], names(6), loose).reason == "0 of at least 2 repetitions are measured"
    assert enough(first, [ARM], names(6), loose, spent_s=1e9).go_on, "the budget does not undercut two repetitions"
    assert enough(rows[:-1], [ARM], names(6), loose, spent_s=1e9).reason.startswith("repetition 3 is measured in part")
    assert not enough(rows, [ARM], names(6), loose, spent_s=1e9).go_on
    assert not enough(first, [ARM], names(6), Limits(0.9, 1)).go_on, "one was asked for"


def test_the_limits_end_a_noisy_run() -> None:
    rows = measured({"plain": 1.0, ARM: 1.5}, repetitions=2)
    round_s = sum(one.wall_s or 0 for one in rows) / 2
    fine = Limits(0.001, 8, budget_s=3.5 * round_s)
    assert enough(rows, [ARM], names(28), fine, spent_s=2.2 * round_s).go_on
    decision = enough(rows, [ARM], names(28), fine, spent_s=2.6 * round_s)
    assert not decision.go_on
    assert decision.reason.startswith(f"another repetition of about {round_s:.0f} s would pass the budget of ")
    decision = enough(rows, [ARM], names(28), Limits(0.001, 2))
    assert not decision.go_on
    assert decision.reason.startswith("2 repetitions, the most allowed, are done; the widest 95 % interval is ")


def test_one_repetition_does_not_pretend_to_know_its_noise() -> None:
    rows = measured({"plain": 1.0, ARM: 1.5}, repetitions=1)
    width = interval_width(rows, ARM)
    assert width is not None and width.of_noise is None and not width.saturated
    decision = enough(rows, [ARM], names(28), Limits(0.001, 1))
    assert decision.reason.startswith("one repetition, all that was allowed, is done; the widest 95 % interval is ")


def test_nothing_to_compare_ends_the_run() -> None:
    rows = measured({"plain": 1.0, ARM: 1.5}, prompts=2)
    assert enough(rows, [], names(2), Limits()).reason == "no arm is compared with another"
    assert "fewer than three prompts" in enough(rows, [ARM], names(2), Limits()).reason


def test_what_a_run_has_taken() -> None:
    load = Load.model_construct(phase="load", load_s=2.5)
    assert spent([load, row("p00", "plain", 0, 1.5), row("p00", ARM, 0, None)]) == 4.0


@pytest.mark.parametrize("wrong", [{"precision": 0.0}, {"precision": 1.0}, {"max_repetitions": 0}, {"budget_s": 0.0}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(EdgespecError, match="must be"):
        Limits(**wrong)  # type: ignore[arg-type]
