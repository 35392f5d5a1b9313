"""Two runs held against each other: a known difference is found, none is found where there is none, and what makes
runs incomparable is said first.

Null of the simulations: both runs measure the same arms on a shared machine (simulated.Machine) that also drifts from
run to run. A 95 % verdict may err in 5 % of pairs; three binomial standard errors above that are allowed. Seeded.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulated import TOKENS, measured, row, whole_run

from edgespec.bench import statistics as st
from edgespec.bench.compare.changes import (
    acceptance_of,
    clock_change,
    compare,
    share_interval,
    speedup_change,
)
from edgespec.bench.compare.differences import differences
from edgespec.bench.compare.readback import Run, run_of
from edgespec.bench.compare.telling import comparison_markdown, document, reservations, sentences, tables
from edgespec.bench.rows import Header, Row

RUNS = 300
ALLOWED = 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)
ARM = "draft-g2"
MakeHeader = Callable[..., Header]
Make = Callable[..., Run]


@pytest.fixture
def make(make_header: MakeHeader) -> Make:
    """A simulated run, by letter and true speed-ups."""

    def build(letter: str, gains: dict[str, float] | None = None, **how: Any) -> Run:
        how = {"seed": letter, "prompts": 16, **how}
        lines = whole_run(make_header, gains or {"plain": 1.0, ARM: 1.5}, **how)
        return run_of(lines, letter, Path(f"runs/{letter}"))

    return build


def bare(rows: list[Row], letter: str = "A") -> Run:
    return Run(letter, Path(letter), {}, tuple(rows))


def wrong(change: Callable[..., st.Speedup], **how: Any) -> float:
    """Share of pairs of equal runs that `change` tells apart."""
    found = 0
    for seed in range(RUNS):
        gains = {"plain": 1.0, ARM: 1.5}
        a, b = (bare(measured(gains, prompts=12, seed=f"{side}{seed}", spread=0.2, **how)) for side in "ab")
        found += change(a, b, ARM, ARM).verdict != "cannot tell"
    return found / RUNS


def test_equal_runs_are_told_apart_in_five_of_a_hundred_pairs() -> None:
    assert 0 < wrong(speedup_change) <= ALLOWED


def test_on_the_clock_equal_runs_would_be_told_apart_far_more_often() -> None:
    """Why tokens per second stand beside the drift: the machine's speed differs from run to run."""
    assert wrong(clock_change) > 0.3


def test_a_known_difference_is_found_through_a_slower_machine(make: Make) -> None:
    """B's draft gains 10 % more on a machine that ran a fifth slower: the speed-up tells, the clock the reverse."""
    a = make("A", {"plain": 1.0, ARM: 1.50, "draft-g3": 1.2}, prompts=28, spread=0.15)
    b = make("B", {"plain": 1.0, ARM: 1.65, "draft-g3": 1.2}, prompts=28, spread=0.15, slowdown=1.25)
    found = compare(a, b)
    assert found.comparable and found.with_rows and found.same_machine
    plain, draft, third = found.arms
    assert draft.speedup is not None and draft.speedup.ci95 is not None and third.speedup is not None
    assert draft.speedup.change == pytest.approx(1.10, abs=0.03)
    assert draft.speedup.ci95[0] <= 1.10 <= draft.speedup.ci95[1]
    assert (draft.speedup.verdict, third.speedup.verdict) == ("faster", "cannot tell")
    assert found.drift.change == pytest.approx(0.8, abs=0.15)
    assert plain.speedup is None and plain.tokens_per_second.verdict == "drift"
    assert draft.tokens_per_second.change is not None and draft.tokens_per_second.change < 0.97
    assert draft.tokens_per_second.verdict == "within drift"
    assert found.best is not None and (found.best.arm_a, found.best.arm_b) == (ARM, ARM)
    said = " ".join(sentences(found))
    assert "B gains more over plain than A" in said
    assert "differences in tokens per second that are no larger mean nothing" in said
    assert "2 arms are compared at 95 % each" in said


def test_each_run_s_own_fastest_arms_are_compared(make: Make) -> None:
    a = make("A", {"plain": 1.0, ARM: 1.5, "draft-g3": 1.2}, prompts=28)
    b = make("B", {"plain": 1.0, ARM: 1.5, "draft-g3": 2.0}, prompts=28)
    found = compare(a, b)
    assert found.best is not None and found.best.speedup is not None
    assert (found.best.arm_a, found.best.arm_b) == (ARM, "draft-g3")
    assert found.best.speedup.change == pytest.approx(2.0 / 1.5, rel=0.05)
    assert found.best.label == "the fastest (draft gamma 2; draft gamma 3)"
    assert found.best.label in [cells[0] for cells in tables(found)[0][2]]


def test_only_the_arms_asked_for(make: Make) -> None:
    a, b = (make(letter, {"plain": 1.0, ARM: 1.5, "draft-g3": 1.2}) for letter in "AB")
    assert [arm.arm_a for arm in compare(a, b, ["draft-g3"]).arms] == ["plain", "draft-g3"]
    c = make("C", {"plain": 1.0, "draft-g5": 1.2})
    found = compare(a, c)
    assert (found.only_in_a, found.only_in_b) == ([ARM, "draft-g3"], ["draft-g5"])
    assert "Only C has draft-g5." in sentences(found)


def test_prompts_that_one_run_lacks_do_not_pair(make_header: MakeHeader) -> None:
    """B was killed after a few blocks: what both answered is compared, and the run is called unfinished."""
    gains = {"plain": 1.0, ARM: 1.5}
    a = run_of(whole_run(make_header, gains, prompts=16, seed=1), "A", Path("a"))
    b = run_of(whole_run(make_header, gains, prompts=16, seed=2)[: 2 + 2 * 9], "B", Path("b"))
    found = compare(a, b)
    assert found.arms[1].speedup is not None and found.arms[1].speedup.prompts == 9
    assert found.arms[1].tokens_per_second.prompts == 9
    assert "weakens what is found: unfinished: 18 of 64 rows were measured in B" in reservations(found)


def test_acceptance_is_compared_by_prompt(make: Make) -> None:
    a = make("A", prompts=28, acceptance={ARM: 0.6})
    b = make("B", prompts=28, acceptance={ARM: 0.75})
    change = compare(a, b).arms[1].acceptance_rate
    assert change.ci95 is not None and change.change is not None
    assert change.verdict == "higher" and 0 < change.ci95[0] < change.change < change.ci95[1]
    assert change.change == pytest.approx((change.b or 0) - (change.a or 0)), (
        "same prompts: the pooled rates' difference"
    )
    again = compare(a, replace(a, letter="B")).arms[1].acceptance_rate
    assert (again.change, again.verdict) == (0.0, "the same")
    assert compare(a, b).arms[0].acceptance_rate.change is None, "plain proposes nothing"


def test_the_interval_of_a_pooled_rate_holds_its_level() -> None:
    """Null: the true rate is 0.6, prompts differ, and so do their steps, tenfold. Student's interval (8 prompts)."""
    draw, missed = random.Random(5), 0
    for _ in range(RUNS):
        rows = []
        for index in range(8):
            steps = draw.randrange(4, 40)
            chance = draw.betavariate(6, 4)
            kept = [sum(draw.random() < chance for _ in range(3)) for _ in range(steps)]
            shown = {"emitted": [1] * (steps + 1), "proposed": [0] + [3] * steps, "accepted": [0, *kept]}
            rows.append(row(f"p{index:02}", ARM, **shown))
        found = acceptance_of(bare(rows), ARM)
        assert found is not None and found[1] is not None
        missed += not found[1][0] <= 0.6 <= found[1][1]
    assert missed / RUNS <= ALLOWED + 0.02, "linearised: a little narrow with few, uneven prompts"


def test_answers_that_changed_are_tested_as_pairs(make: Make) -> None:
    a, b = make("A", prompts=28), make("B", prompts=28)
    lost = {f"p{index:02}" for index in range(8)}
    other = list(range(1, TOKENS + 1))
    changed = tuple(
        one.model_copy(update={"token_ids": other}) if one.arm == ARM and one.case in lost else one
        for one in b.rows or ()
    )
    change = compare(a, replace(b, rows=changed)).arms[1].identical
    assert change.change == pytest.approx(-8 / 28)
    assert change.verdict == "lower", "8 of 8 changed for the worse: p = 2/256"
    few = tuple(
        one.model_copy(update={"token_ids": other}) if one.arm == ARM and one.case in sorted(lost)[:5] else one
        for one in b.rows or ()
    )
    assert compare(a, replace(b, rows=few)).arms[1].identical.verdict == "cannot tell", "5 of 5: p = 0.0625"
    assert compare(a, b).arms[1].identical.verdict == "the same"


def test_share_intervals_are_clopper_and_pearson_s() -> None:
    assert share_interval(28, 28) == pytest.approx((1 - 0.12344, 1.0), abs=1e-4)
    assert share_interval(0, 3)[0] == 0


HEADER_CHANGES: list[tuple[dict[str, Any], str, str, str]] = [
    ({"prompts_sha256": "00" * 32}, "bars", "prompts", "16 of code (sha256 00000000) in B"),
    ({"device": "GPU"}, "explains", "device", "CPU in A, GPU in B"),
    ({"draft_devices": ["GPU"]}, "explains", "draft device", "CPU in A, GPU in B"),
    ({"machine": {"cpu": "Other CPU", "logical_cores": 2, "memory_bytes": 8 << 30}}, "explains", "processor", "Other"),
    ({"versions": {"edgespec": "0.1.0", "openvino": "2026.5.0"}}, "explains", "version of openvino", "2026.5.0 in B"),
    ({"max_new_tokens": 64}, "explains", "length of answers", "32 tokens in A, 64 tokens in B"),
    ({"sampling": {"temperature": 0.8}}, "explains", "sampling", "temperature 0.0 in A, temperature 0.8 in B"),
    ({"contexts": [1024]}, "explains", "lengths of context", "none in A, 1024 in B"),
    (
        {"settings": "f32", "candidates": {"f32": {"INFERENCE_PRECISION_HINT": "f32"}}},
        "explains",
        "settings",
        "INFERENCE_PRECISION_HINT=f32 in B",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "grade", "subject", "words"), HEADER_CHANGES)
def test_what_differs_is_graded_and_named(
    make: Make, change: dict[str, Any], grade: str, subject: str, words: str
) -> None:
    found = differences(make("A"), make("B", header={"started_at": "2026-11-22T10:00:00.000+00:00", **change}))
    assert (grade, subject) in [(item.grade, item.subject) for item in found]
    assert any(words in item.text for item in found if item.subject == subject)


def test_runs_alike_have_no_differences(make: Make) -> None:
    assert differences(make("A"), make("B", header={"started_at": "2026-11-22T10:00:00.000+00:00"})) == []


def test_another_pair_is_told_by_what_differs(make: Make, make_header: MakeHeader) -> None:
    pair = make_header().pair
    smaller = pair | {"sha256": "00" * 32, "target": pair["target"] | {"precision": "int4_sym_g128"}}
    found = differences(make("A"), make("B", header={"pair": smaller}))
    assert [(item.subject, item.grade) for item in found] == [("target", "explains")]
    assert "int8_asym in A" in found[0].text and "int4_sym_g128 in B" in found[0].text
    (only,) = differences(make("A"), make("B", header={"pair": pair | {"sha256": "00" * 32}}))
    assert only.subject == "pair", "the same description, other files"


def test_weak_runs_are_named(make: Make) -> None:
    b = make("B", header={"started_at": "2026-11-22T10:00:00.000+00:00"})
    report: dict[str, Any] = json.loads(json.dumps(b.report))
    report["complete"] = False
    report["run"]["sessions"] = 2
    report["conditions"] |= {
        "on_battery": True,
        "drift": 1.2,
        "disturbed": {"blocks_repeated": 3, "rows_still_disturbed": 4, "mostly_by": "other programs"},
        "other_load": {"median": 0.3, "p95": 0.4},
        "cpu_mhz": {"median": 1200, "min": 1, "max": 1},
    }
    report["arms"][1]["errors"] = {"count": 2, "first": "it broke"}
    a = make("A")
    ours = json.loads(json.dumps(a.report))
    ours["conditions"] |= {
        "other_load": {"median": 0.01, "p95": 0.1},
        "cpu_mhz": {"median": 2400, "min": 1, "max": 1},
        "on_battery": False,
    }
    found = differences(replace(a, report=ours), replace(b, report=report))
    assert [(item.grade, item.subject) for item in found] == [
        ("explains", "power"),
        ("explains", "other programs"),
        ("explains", "processor clock"),
        ("weakens", "unfinished"),
        ("weakens", "disturbed"),
        ("weakens", "other programs"),
        ("weakens", "interrupted"),
        ("weakens", "drift"),
        ("weakens", "failures"),
    ]


def test_the_same_run_twice_is_said(make: Make) -> None:
    a = make("A")
    found = compare(a, replace(a, letter="B"))
    assert any("are the same run" in line for line in reservations(found))


def test_other_prompts_leave_nothing_to_compare(make: Make) -> None:
    found = compare(make("A"), make("B", header={"prompts_sha256": "00" * 32}))
    assert not found.comparable
    assert reservations(found)[0].startswith("cannot be compared: prompts: 16 of code (sha256 cdcdcdcd) in A, ")
    arm = found.arms[1]
    assert arm.speedup is not None and arm.speedup.a is not None and arm.speedup.b is not None
    assert (arm.speedup.change, arm.speedup.verdict, arm.tokens_per_second.change) == (None, None, None)
    assert sentences(found)[0].startswith("Nothing is held against anything here")


def test_prompts_dropped_for_one_draft_do_not_bar_the_rest(make: Make) -> None:
    names = [f"p{index:02}" for index in range(16)]
    fewer = {"prompts_sha256": "00" * 32, "prompt_ids": names[:14], "dropped_prompts": names[14:]}
    a, b = make("A"), make("B", prompts=14, header=fewer)
    found = compare(a, b)
    assert found.comparable
    assert found.arms[1].speedup is not None and found.arms[1].speedup.prompts == 14
    assert any("each run dropped those its draft was trained on" in line for line in reservations(found))
    own_file = {"suite": "mine.jsonl"}
    assert not compare(make("A", header=own_file), make("B", prompts=14, header=fewer | own_file)).comparable
    elsewhere = make("B", prompts=14, header=fewer | {"versions": {"edgespec": "0.2.0", "openvino": "2026.4.1"}})
    assert not compare(a, elsewhere).comparable, "another version may bring other texts"


def test_reports_alone_give_medians_and_no_interval(make: Make) -> None:
    a, b = (replace(make(letter), rows=None, prompt_ids=None, why_no_rows="it is not there") for letter in "AB")
    found = compare(a, b)
    arm = found.arms[1]
    assert arm.speedup is not None and arm.speedup.a and arm.speedup.b
    assert arm.speedup.change == pytest.approx(arm.speedup.b / arm.speedup.a)
    assert (arm.speedup.ci95, arm.speedup.verdict, arm.tokens_per_second.ci95) == (None, None, None)
    assert any("There are no intervals without the rows" in sentence for sentence in sentences(found))
    assert tables(found)[0][2][0][-1] == "no interval"


def test_on_another_machine_the_clock_compares_machines(make: Make) -> None:
    machine = {"cpu": "Other CPU", "logical_cores": 8, "memory_bytes": 16 << 30}
    found = compare(make("A"), make("B", header={"machine": machine}, slowdown=0.5))
    assert not found.same_machine
    assert any("the machines differ by that much" in sentence for sentence in sentences(found))


def test_markdown_and_document(make: Make) -> None:
    a, b = make("A"), make("B", header={"device": "GPU", "started_at": "2026-11-21T13:00:00.000+00:00"})
    found = compare(a, b)
    text = comparison_markdown([a, b], [found], [], False)
    assert text.index("**Differs, and may explain the difference**") < text.index("| arm | A | B |")
    assert "between the runs, 3 hours apart" in text
    record = json.loads(json.dumps(document([a, b], [found], [], False), allow_nan=False))
    assert record["schema"] == "edgespec.compare/1" and record["failed"] is False
    assert record["comparisons"][0]["arms"][1]["speedup"]["prompts"] == 16
    assert record["comparisons"][0]["differences"][0] == {
        "grade": "explains", "subject": "device", "text": "CPU in A, GPU in B"
    }  # fmt: skip
