"""What fails a continuous-integration run: established, cannot be excluded, excluded; and nothing passes unseen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulated import Machine, measured, whole_run

from edgespec.bench.compare.changes import compare
from edgespec.bench.compare.gates import BEST, CONDITIONS, Condition, Finding, judge, parse_condition
from edgespec.bench.compare.readback import Run, run_of
from edgespec.bench.rows import Header
from edgespec.errors import EdgespecError

ARM = "draft-g2"
QUIET = Machine(noise=0.01, hiccups=0.0, drift=0.01)
RUNS = 200
Make = Callable[..., Run]


@pytest.fixture
def make(make_header: Callable[..., Header]) -> Make:
    def build(letter: str, gains: dict[str, float] | None = None, **how: Any) -> Run:
        how = {"seed": letter, "prompts": 16, "machine": QUIET, **how}
        return run_of(whole_run(make_header, gains or {"plain": 1.0, ARM: 1.5}, **how), letter, Path(letter))

    return build


def judged(a: Run, b: Run, *texts: str, arms: Sequence[str] | None = None, **how: Any) -> list[Finding]:
    conditions = [parse_condition(text) for text in texts]
    return judge(conditions, [(a, b, compare(a, b))], arms=arms, **how)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("slower-than 0.95", "slower-than", 0.95),
        ("acceptance-below=0.6", "acceptance-below", 0.6),
        ("identical-below  1", "identical-below", 1),
    ],
)
def test_conditions_are_read(text: str, kind: str, value: float) -> None:
    assert parse_condition(text) == Condition(kind, value)


@pytest.mark.parametrize("text", [*(f"{name} {value}" for name, value in CONDITIONS.items())])
def test_the_examples_of_the_help_are_read(text: str) -> None:
    assert str(parse_condition(text)) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("faster-than 1", "--fail-if got 'faster-than 1'; give one of 'slower-than 0.95', 'acceptance-below 0.6'"),
        ("", "give one of"),
        ("slower-than", "'slower-than' takes one number, such as 0.95"),
        ("slower-than 0.9 0.8", "takes one number"),
        ("slower-than much", "takes one number"),
        ("slower-than 0", "must be above 0 and at most 10"),
        ("acceptance-below 60", "must be above 0 and at most 1"),
        ("identical-below nan", "must be above 0 and at most 1"),
    ],
)
def test_mistakes_are_sentences(text: str, complaint: str) -> None:
    with pytest.raises(EdgespecError) as caught:
        parse_condition(text)
    assert complaint in str(caught.value)


def test_slower_is_established_between_and_excluded(make: Make) -> None:
    """B gains 11 % less. On a quiet machine that is below 0.95 of A, and not below 0.82; on a noisy one who knows."""
    a, b = make("A", {"plain": 1.0, ARM: 1.5}), make("B", {"plain": 1.0, ARM: 1.33})
    (below,) = judged(a, b, "slower-than 0.95")
    (above,) = judged(a, b, "slower-than 0.82")
    assert (below.evidence, above.evidence) == ("established", "excluded")
    assert below.fails(strict=False) and not above.fails(strict=True)
    assert below.sentence.startswith("B, draft gamma 2: speed-up over its own plain 0.88")
    assert "'slower-than 0.95' is established" in below.sentence
    noisy = Machine(noise=0.2)
    rough = [make(letter, {"plain": 1.0, ARM: gain}, machine=noisy) for letter, gain in (("A", 1.5), ("B", 1.33))]
    (between,) = judged(*rough, "slower-than 0.95")
    assert between.evidence == "cannot be excluded"
    assert not between.fails(strict=False) and between.fails(strict=True)


def test_acceptance_and_sameness_are_b_s_own(make: Make) -> None:
    a = make("A", acceptance={ARM: 0.8})
    b = make("B", acceptance={ARM: 0.5})
    evidence = [item.evidence for item in judged(a, b, "acceptance-below 0.7", "acceptance-below 0.3")]
    assert evidence == ["established", "excluded"]
    changed = tuple(
        one.model_copy(update={"token_ids": [7]}) if one.arm == ARM and one.case < "p08" else one
        for one in b.rows or ()
    )
    report: Any = dict(b.report)
    report["arms"] = [
        {**arm, "identical": {"matched": 8, "total": 16, "first_divergence": []}} if arm["name"] == ARM else arm
        for arm in report["arms"]
    ]
    half = replace(b, rows=changed, report=report)
    assert [item.evidence for item in judged(a, half, "identical-below 0.9")] == ["established"]
    (whole,) = judged(a, b, "identical-below 1")
    assert whole.evidence == "cannot be excluded", "16 of 16 do not show that no answer ever differs"
    (whole,) = judged(a, b, "identical-below 0.75")
    assert whole.evidence == "excluded" and "16 of 16 answers are identical" in whole.sentence


def test_several_arms_share_the_error(make: Make) -> None:
    gains = {"plain": 1.0, ARM: 1.5, "draft-g3": 1.4, "draft-g5": 1.2}
    a, b = make("A", gains), make("B", gains)
    findings = judged(a, b, "slower-than 0.95", "identical-below 0.5")
    assert [item.arm for item in findings] == [ARM, "draft-g3", "draft-g5"] * 2
    assert {item.level for item in findings} == {1 - 0.05 / 6}
    (only,) = judged(a, b, "slower-than 0.95", arms=["draft-g3"])
    assert (only.arm, only.level) == ("draft-g3", 0.95)


def test_each_run_s_fastest(make: Make) -> None:
    a = make("A", {"plain": 1.0, ARM: 1.5, "draft-g3": 1.2})
    b = make("B", {"plain": 1.0, ARM: 1.0, "draft-g3": 1.6})
    (best,) = judged(a, b, "slower-than 0.95", arms=[BEST])
    assert best.evidence == "excluded" and best.sentence.startswith("B, draft-g3 (in A: draft-g2)")
    assert [item.evidence for item in judged(a, b, "slower-than 0.95")] == ["established", "excluded", "excluded"]


def test_on_the_clock_what_plain_shows_too_is_not_established(make: Make) -> None:
    a, b = make("A"), make("B", slowdown=1.25)
    plain, draft = judged(a, b, "slower-than 0.95", on="tokens_per_second")
    assert (plain.arm, plain.evidence, draft.evidence) == ("plain", "established", "cannot be excluded")
    assert "so this may be the machine's drift" in draft.sentence
    assert [item.evidence for item in judged(a, b, "slower-than 0.95")] == ["excluded"]
    worse = make("B", {"plain": 1.0, ARM: 1.0}, slowdown=1.1)
    assert judged(a, worse, "slower-than 0.95", on="tokens_per_second", arms=[ARM])[0].evidence == "established"


def test_no_condition_passes_unseen(make: Make) -> None:
    a, b = make("A"), make("B")
    bare = replace(b, rows=None)
    elsewhere = make("B", header={"prompts_sha256": "00" * 32})
    plain = make("B", {"plain": 1.0})
    few = [make(letter, prompts=2) for letter in "AB"]
    for left, right, text, arms, complaint in (
        (a, bare, "slower-than 0.95", None, "needs the rows.jsonl of both runs"),
        (a, elsewhere, "slower-than 0.95", None, "needs runs that can be compared, and these cannot (prompts: "),
        (a, b, "acceptance-below 0.5", None, "run B does not tell how many proposals were accepted"),
        (a, b, "acceptance-below 0.5", [ARM], "cannot be looked at for 'draft-g2'"),
        (a, bare, "slower-than 0.95", ["draft-g9"], "needs the rows.jsonl"),
        (a, b, "slower-than 0.95", ["draft-g9"], "which run A does not have; it has plain, draft-g2"),
        (a, plain, "slower-than 0.95", None, "has nothing to look at"),
        (a, plain, "slower-than 0.95", [BEST], "a run has no arm beside plain"),
        (a, b, "slower-than 0.95", ["plain"], "plain has no speed-up"),
        (*few, "slower-than 0.95", None, "an interval needs three"),
    ):
        with pytest.raises(EdgespecError) as caught:
            judged(left, right, text, arms=arms)
        assert complaint in str(caught.value)


def test_reports_alone_still_tell_of_sameness(make: Make) -> None:
    a, b = (replace(make(letter), rows=None) for letter in "AB")
    assert [item.evidence for item in judged(a, b, "identical-below 0.75")] == ["excluded"]
    with pytest.raises(EdgespecError, match=r"needs its rows\.jsonl"):
        judged(a, replace(make("B", acceptance={ARM: 0.5}), rows=None), "acceptance-below 0.5")


def test_equal_runs_seldom_fail(make: Make) -> None:
    """Null: five arms, equal in both runs, on a shared machine. 'slower-than 1' is the condition at its very edge; over
    all arms together it may be established in 5 % of pairs, and three standard errors above that are allowed."""
    gains = {"plain": 1.0} | {f"draft-g{gamma}": 1.2 for gamma in (1, 2, 3, 5, 8)}
    a, b = make("A", gains, prompts=12), make("B", gains, prompts=12)
    compared, failed = compare(a, b), 0
    for seed in range(RUNS):
        rows = [tuple(measured(gains, prompts=12, seed=f"{letter}{seed}")) for letter in "AB"]
        pair = replace(a, rows=rows[0]), replace(b, rows=rows[1]), compared
        failed += any(item.fails(strict=False) for item in judge([Condition("slower-than", 1.0)], [pair]))
    assert failed / RUNS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)
