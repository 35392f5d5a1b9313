"""Figures against cases worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from edgespec.bench import statistics as st
from edgespec.bench.rows import Row

MakeRow = Callable[..., Row]


def test_ratios_pair_within_a_repetition(make_row: MakeRow) -> None:
    # the machine is twice as slow in repetition 1; paired, the ratio is 2 and 3 all the same
    rows = [
        make_row("plain", "p0", 0, 2.0),
        make_row("fast", "p0", 0, 1.0),
        make_row("plain", "p0", 1, 4.0),
        make_row("fast", "p0", 1, 2.0),
        make_row("plain", "p1", 0, 3.0),
        make_row("fast", "p1", 0, 1.0),
        make_row("fast", "p1", 1, 1.0),  # plain has no such repetition
        make_row("fast", "p2", 0, 1.0),  # nor such a prompt
    ]
    assert st.prompt_ratios(rows, "fast", "plain") == pytest.approx({"p0": 2.0, "p1": 3.0})


def test_median_over_three_repetitions_shrugs_off_a_hiccup(make_row: MakeRow) -> None:
    rows = [make_row("plain", "p0", r, 2.0) for r in range(3)]
    rows += [make_row("fast", "p0", r, s) for r, s in enumerate((1.0, 50.0, 1.0))]
    assert st.prompt_ratios(rows, "fast", "plain") == pytest.approx({"p0": 2.0})


def test_answers_of_other_length_compare_by_token(make_row: MakeRow) -> None:
    rows = [make_row("plain", seconds=2.0), make_row("short", seconds=0.5, tokens=5)]
    assert st.prompt_ratios(rows, "short", "plain") == pytest.approx({"p0": 2.0})
    assert st.tpot_s(make_row("plain", seconds=2.0)) == pytest.approx((2.0 - 0.2) / 9)
    assert st.tpot_s(make_row("plain", seconds=2.0, tokens=1)) is None
    assert st.seconds_per_token(make_row("plain", seconds=2.0, tokens=0)) is None


def test_speedup_is_a_geometric_mean() -> None:
    assert st.speedup([2.0, 0.5]).geomean == pytest.approx(1.0)
    assert st.speedup([]) == st.Speedup(None, None, "cannot tell", 0)
    assert st.speedup([2.0]).verdict == "cannot tell"
    assert st.speedup([1.5] * 8) == st.Speedup(pytest.approx(1.5), pytest.approx((1.5, 1.5)), "faster", 8)
    assert st.speedup([0.8, 0.81, 0.79, 0.8, 0.82, 0.8]).verdict == "slower"


def test_luck_of_processes_by_hand(make_row: MakeRow) -> None:
    # round means 0.1 and 0 without any noise inside: variance 0.005; with 8 rounds' worth of 0.02: (8*0.0004+0.005)/9
    rows = [make_row("plain", f"p{i}", r, math.exp(0.1 * (r == 0))) for i in range(4) for r in (0, 1)]
    rows += [make_row("fast", f"p{i}", r, 1.0) for i in range(4) for r in (0, 1)]
    luck = st.process_luck(rows, "fast", "plain")
    assert luck == st.Luck(pytest.approx(math.sqrt((8 * 0.0004 + 0.005) / 9 / 2)), 9.0)
    one = st.process_luck([row for row in rows if row.repetition == 0], "fast", "plain")
    assert one == st.Luck(pytest.approx(0.02), 8.0), "one round leaves what was known beforehand"
    assert st.process_luck(rows, "absent", "plain") is None
    assert one is not None
    both = one.and_of(one)
    assert (both.error, both.degrees) == (pytest.approx(0.02 * math.sqrt(2)), pytest.approx(16.0))
    low, high = st.speedup([1.5] * 8, luck=one).ci95 or (0, 0)
    assert math.log(high / low) / 2 == pytest.approx(2.306 * 0.02, rel=1e-3), "t(0.975, 8)"


def test_fewer_than_twelve_prompts_get_students_interval() -> None:
    # mean 0.1, standard deviation 0.1, t(0.975, 2) = 4.3027: 0.1 +- 4.3027 * 0.1 / sqrt(3)
    low, high = st.interval_of_mean([0.0, 0.1, 0.2]) or (0, 0)
    assert (low, high) == pytest.approx((0.1 - 0.24842, 0.1 + 0.24842), abs=1e-4)


def test_the_interval_of_thirty_is_students_too() -> None:
    values = [math.sin(i * 12.9898) * 0.1 for i in range(30)]
    interval = st.interval_of_mean(values)
    mean = sum(values) / 30
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / 29)
    half = 2.0452 * spread / math.sqrt(30)
    assert interval == pytest.approx((mean - half, mean + half), abs=half * 1e-4)


def test_a_stricter_level_is_a_wider_interval() -> None:
    ratios = [1.0 + 0.01 * (i % 7) for i in range(20)]
    usual, strict = st.speedup(ratios).ci95, st.speedup(ratios, 0.99).ci95
    assert usual
    assert strict
    assert strict[0] < usual[0] < usual[1] < strict[1]


@pytest.mark.parametrize(
    ("ours", "theirs", "place"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 9, 3], [1, 2, 3], 1), ([1, 2], [1, 2, 3], 2), ([], [1], 0), ([], [], None)],
)
def test_first_divergence(ours: list[int], theirs: list[int], place: int | None) -> None:
    assert st.first_divergence(ours, theirs) == place


def test_sameness_counts_prompts_and_says_where(make_row: MakeRow) -> None:
    other = [0, 1, 2, 3, 99, 5, 6, 7, 8, 9]
    rows = [make_row("plain", p, r) for p in ("p0", "p1") for r in (0, 1)]
    rows += [make_row("fast", "p0", 0), make_row("fast", "p0", 1), make_row("fast", "p1", 0)]
    rows += [make_row("fast", "p1", 1, token_ids=other)]
    found = st.sameness(rows, "fast", "plain")
    assert found == st.Identical(1, 2, [st.Divergence("p1", 4, 10)])
    assert st.sameness(rows, "plain", "plain") == st.Identical(2, 2, [])  # the control: repetition 1 against 0
    assert st.sameness(rows, "absent", "plain") is None
    single = [make_row("plain", "p0", 0)]
    assert st.sameness(single, "plain", "plain") is None, "one repetition gives no control"


def test_acceptance_by_hand(make_row: MakeRow) -> None:
    # gamma 3; accepted 3, 1, 0, 2: rate 6/12; 3 of 4 passed the first place, 2 of 3 the second, 1 of 2 the third
    row = make_row(
        "draft", emitted=[1, 4, 2, 1, 3], proposed=[0, 3, 3, 3, 3], accepted=[0, 3, 1, 0, 2], token_ids=list(range(11))
    )
    found = st.drafting([row, row])
    assert found.acceptance_rate == pytest.approx(0.5)
    assert found.alpha == pytest.approx([3 / 4, 2 / 3, 1 / 2])
    assert found.block_efficiency == pytest.approx(2.5)
    assert found.mean_proposed == pytest.approx(3)


def test_what_the_back_end_does_not_tell_stays_unknown(make_row: MakeRow) -> None:
    row = make_row("lookup", emitted=[1, 4, 5], proposed=[0, None, None], accepted=[0, 3, 4])
    found = st.drafting([row])
    assert (found.acceptance_rate, found.alpha, found.mean_proposed) == (None, [], None)
    assert found.block_efficiency == pytest.approx(4.5)
    assert st.drafting([]).block_efficiency is None


def test_cost_of_passes_and_prediction() -> None:
    slices = [{1: 0.010, 2: 0.011, 4: 0.012, 6: 0.015}, {1: 0.020, 2: 0.022, 4: 0.024, 6: 0.030}]  # a slow moment
    costs = st.pass_costs(slices)
    assert costs == pytest.approx({1: 1.0, 2: 1.1, 4: 1.2, 6: 1.5})
    assert st.cost_at(costs, 3) == pytest.approx(1.15)
    assert st.cost_at(costs, 7) is None
    assert st.predicted_speedup(2.5, 3, costs, 0.1) == pytest.approx(2.5 / (1.2 + 0.3))
    assert st.predicted_speedup(2.5, 3, costs, None) is None
    assert st.predicted_speedup(2.5, 7, costs, 0.1) is None
    assert st.pass_costs([{2: 0.1}, {}]) == {}
    drafting = st.draft_costs([{1: 0.002, 3: 0.003}, {1: 0.004, 3: 0.006}], slices)
    assert drafting == pytest.approx({1: 0.2, 3: 0.3})
    assert st.draft_cost(drafting, 3) == pytest.approx(0.1)
    assert st.draft_cost(drafting, 2) == pytest.approx(0.125), "between 0.2 and 0.3 for both passes"
    assert st.draft_cost(drafting, 6) == pytest.approx(0.1) and st.draft_cost(drafting, None) == pytest.approx(0.2)
    assert st.draft_cost({}, 3) is None
    assert st.mbsu(2.5, 3, 0.1) == pytest.approx(2.5 / 1.3)
    assert st.mbsu(2.5, None, 0.0) == 2.5
    assert st.mbsu(2.5, None, 0.1) is None


def test_median_of_few_values_has_no_interval() -> None:
    assert st.interval_of_median([1.0] * 5) is None
    assert st.interval_of_median([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) is not None


def test_repetition_by_hand() -> None:
    assert st.repetition([1, 2, 3, 4, 5, 6, 7, 8]) == 0
    assert st.repetition([1, 2] * 10) == pytest.approx(1 - 2 / 17)
    assert st.repetition([1, 2, 3, 4, 5, 6]) is None
