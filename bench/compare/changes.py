"""Two runs held against each other: pure functions over runs read back (readback.py), a the earlier, b the later.

Two runs are never interleaved, so what the machine did in the meantime is in every absolute figure. Three figures,
from the one that says most to the one that says least:

speed-up change    log speed-up in b - log speed-up in a, by prompt. Each speed-up is over the plain of its own run,
                   measured seconds apart, so the machine's speed cancels.
drift              plain in b / plain in a. The machine's change between the runs, or a change in plain itself: one run
                   each cannot tell these apart, and a difference of machines is in it whole.
tokens/s change    arm in b / arm in a, geometric mean over prompts of the ratios of medians. Below the drift it means
                   nothing. Its interval is over prompts and does not hold what a machine does from run to run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import fmean, median
from typing import Any, Literal

from scipy import stats

from .. import statistics as st
from ..plan import REFERENCE
from ..report import arm_label
from ..rows import Row
from .differences import Difference, differences, same_machine
from .readback import Run

Kind = Literal["ratio", "difference"]
WITHIN_DRIFT = "within drift"
DRIFT = "drift"


@dataclass(frozen=True)
class Change:
    """One figure in both runs, and b against a: b/a, or b - a where it is a share (`kind`).

    a, b: as each run's report has them; None: unknown. change: over what both runs answered. ci95, verdict: None where
    there are no rows to make them from, or where one figure a run says no more (memory). prompts: how many pair.
    """

    a: float | None
    b: float | None
    kind: Kind = "ratio"
    change: float | None = None
    ci95: st.Interval | None = None
    verdict: str | None = None
    prompts: int = 0


@dataclass(frozen=True)
class ArmChange:
    """One arm in both runs, or each run's own fastest. speedup: None for plain. tokens_per_second and ttft_ms hold the
    drift (see the module), speedup does not; identical counts whole answers."""

    arm_a: str
    arm_b: str
    label: str
    tokens_per_second: Change
    speedup: Change | None
    acceptance_rate: Change
    ttft_ms: Change
    memory_bytes: Change
    identical: Change


@dataclass(frozen=True)
class Comparison:
    """b against a. comparable: whether anything pairs; without it every change is None. drift: plain's tokens/s.
    apart_s: from a's start to b's. best: each run's own fastest arm that is not plain."""

    a: str
    b: str
    comparable: bool
    with_rows: bool
    same_machine: bool
    apart_s: float | None
    differences: list[Difference]
    drift: Change
    arms: list[ArmChange]
    best: ArmChange | None
    only_in_a: list[str]
    only_in_b: list[str]


def compare(a: Run, b: Run, arms: Sequence[str] | None = None) -> Comparison:
    """arms: names to compare, plain always among them; None: all that both runs have."""
    found = differences(a, b)
    comparable = not any(item.grade == "bars" for item in found)
    ours, theirs = ([str(arm["name"]) for arm in run.report["arms"]] for run in (a, b))
    shared = [name for name in ours if name in theirs and (arms is None or name in (REFERENCE, *arms))]
    left, right = aligned(a, b)
    described = [_arm(left, right, name, name, comparable) for name in shared]
    plain = next((arm for arm in described if arm.arm_a == REFERENCE), None)
    drift = plain.tokens_per_second if plain else Change(None, None)
    fastest = [run.report["headline"]["arm"] for run in (a, b)]
    best = None if None in fastest else _arm(left, right, fastest[0], fastest[1], comparable)
    return Comparison(
        a=a.letter,
        b=b.letter,
        comparable=comparable,
        with_rows=a.rows is not None and b.rows is not None,
        same_machine=same_machine(a, b),
        apart_s=_apart_s(a, b),
        differences=found,
        drift=drift,
        arms=[_beside_drift(arm, plain) for arm in described],
        best=best and _beside_drift(best, plain),
        only_in_a=[name for name in ours if name not in theirs],
        only_in_b=[name for name in theirs if name not in ours],
    )


def aligned(a: Run, b: Run) -> tuple[Run, Run]:
    """Both with the rows of the cases that both answered; as they are where one has no rows."""
    if a.rows is None or b.rows is None:
        return a, b
    cases = frozenset(row.case for row in a.rows) & frozenset(row.case for row in b.rows)
    return a.on_cases(cases), b.on_cases(cases)


def speedup_change(a: Run, b: Run, arm_a: str, arm_b: str, level: float = 0.95) -> st.Speedup:
    """How many times b's speed-up over its own plain is a's, paired by prompt. Both need rows."""
    before, after = (st.prompt_ratios(run.rows or (), arm, REFERENCE) for run, arm in ((a, arm_a), (b, arm_b)))
    ratios = [after[prompt] / before[prompt] for prompt in before if prompt in after]
    return st.speedup(ratios, level, _luck(a, b, arm_a, arm_b))


def clock_change(a: Run, b: Run, arm_a: str, arm_b: str, level: float = 0.95) -> st.Speedup:
    """How many times a's tokens per second b makes, paired by prompt; the drift is in it. Both need rows."""
    logs = _log_ratios(a, b, arm_a, arm_b, st.seconds_per_token)
    return st.speedup([math.exp(-value) for value in logs.values()], level, _luck(a, b, arm_a, arm_b))


def _luck(a: Run, b: Run, arm_a: str, arm_b: str) -> st.Luck | None:
    """What the runs' processes leave to luck in a comparison of the two arms."""
    found = [st.process_luck(run.rows or (), arm, REFERENCE) for run, arm in ((a, arm_a), (b, arm_b))]
    return found[0].and_of(found[1]) if found[0] and found[1] else None


def acceptance_of(run: Run, arm: str, level: float = 0.95) -> tuple[float, st.Interval | None] | None:
    """The arm's acceptance rate and its interval over prompts; None where nothing was proposed or it is not told."""
    counts = _proposals(run.rows or (), arm)
    rate = _pooled(counts)
    if rate is None:
        return None
    return rate, st.interval_of_mean([rate + pull for pull in _influence(counts, rate).values()], level)


def share_interval(matched: int, total: int, level: float = 0.95) -> st.Interval:
    """Of a share counted over independent answers: Clopper and Pearson's, whose level is at least what it says."""
    found = stats.binomtest(matched, total).proportion_ci(level)
    return float(found.low), float(found.high)


def _arm(a: Run, b: Run, arm_a: str, arm_b: str, comparable: bool) -> ArmChange:
    before, after = a.arm(arm_a) or {}, b.arm(arm_b) or {}
    paired = comparable and a.rows is not None and b.rows is not None
    same = arm_a == arm_b
    rate = _figures(before, after, "tokens_per_second", "median")
    ttft = _figures(before, after, "ttft_ms", "median")
    gain = _figures(before, after, "speedup", "geomean")
    accepted = Change(before["acceptance_rate"], after["acceptance_rate"], "difference")
    identical = Change(_share(before["identical"]), _share(after["identical"]), "difference")
    memory = _memory(before, after)
    if comparable:
        rate, ttft, gain, memory = (_of_medians(item) for item in (rate, ttft, gain, memory))
        accepted, identical = (_of_medians(item) for item in (accepted, identical))
    if paired:
        rate = _of_speed(rate, clock_change(a, b, arm_a, arm_b))
        ttft = _of_times(ttft, list(_log_ratios(a, b, arm_a, arm_b, lambda row: row.ttft_s).values()))
        gain = _of_speed(gain, speedup_change(a, b, arm_a, arm_b))
        accepted = _acceptance(accepted, a, b, arm_a, arm_b)
        identical = _identical(identical, a, b, arm_a, arm_b)
    return ArmChange(
        arm_a=arm_a,
        arm_b=arm_b,
        label=arm_label(before) if same else f"the fastest ({arm_label(before)}; {arm_label(after)})",
        tokens_per_second=rate,
        speedup=None if same and arm_a == REFERENCE else gain,
        acceptance_rate=accepted,
        ttft_ms=ttft,
        memory_bytes=memory,
        identical=identical,
    )


def _figures(before: Mapping[str, Any], after: Mapping[str, Any], key: str, centre: str) -> Change:
    return Change(before[key][centre], after[key][centre])


def _of_medians(change: Change) -> Change:
    """The change of the two reports' own figures, with no interval."""
    if change.a is None or change.b is None:
        return change
    if change.kind == "difference":
        return replace(change, change=change.b - change.a)
    return replace(change, change=change.b / change.a) if change.a else change


def _of_speed(change: Change, found: st.Speedup) -> Change:
    return replace(change, change=found.geomean, ci95=found.ci95, verdict=found.verdict, prompts=found.prompts)


def _of_times(change: Change, logs: Sequence[float]) -> Change:
    """For a time, of which less is better."""
    if not logs:
        return change
    interval = st.interval_of_mean(logs)
    ends = interval and (math.exp(interval[0]), math.exp(interval[1]))
    verdict = _verdict(ends, 1.0, "shorter", "longer")
    return replace(change, change=math.exp(fmean(logs)), ci95=ends, verdict=verdict, prompts=len(logs))


def _verdict(interval: st.Interval | None, middle: float, below: str, above: str) -> str:
    if interval is None or interval[0] <= middle <= interval[1]:
        return "the same" if interval == (middle, middle) else "cannot tell"
    return above if interval[0] > middle else below


def _log_ratios(a: Run, b: Run, arm_a: str, arm_b: str, measure: st.Measure) -> dict[str, float]:
    """log(b / a) by prompt: of medians over repetitions, the mean over the prompt's cases."""
    before, after = _medians(a.rows or (), arm_a, measure), _medians(b.rows or (), arm_b, measure)
    logs: dict[str, list[float]] = {}
    for (prompt, case), value in before.items():
        if (prompt, case) in after:
            logs.setdefault(prompt, []).append(math.log(after[prompt, case] / value))
    return {prompt: fmean(values) for prompt, values in logs.items()}


def _medians(rows: Sequence[Row], arm: str, measure: st.Measure) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.arm == arm and (value := measure(row)):
            found.setdefault((row.prompt, row.case), []).append(value)
    return {key: median(values) for key, values in found.items()}


def _acceptance(change: Change, a: Run, b: Run, arm_a: str, arm_b: str) -> Change:
    """Difference of the pooled rates; its interval over prompts by each prompt's pull on them (linearised)."""
    before, after = _proposals(a.rows or (), arm_a), _proposals(b.rows or (), arm_b)
    shared = sorted(before.keys() & after.keys())
    before, after = ({prompt: counts[prompt] for prompt in shared} for counts in (before, after))
    rates = _pooled(before), _pooled(after)
    if rates[0] is None or rates[1] is None:
        return change
    pulls = _influence(before, rates[0]), _influence(after, rates[1])
    found = rates[1] - rates[0]
    interval = st.interval_of_mean([found + pulls[1][prompt] - pulls[0][prompt] for prompt in shared])
    verdict = _verdict(interval, 0.0, "lower", "higher")
    return replace(change, change=found, ci95=interval, verdict=verdict, prompts=len(shared))


def _proposals(rows: Sequence[Row], arm: str) -> dict[str, tuple[int, int]]:
    """Accepted and proposed by prompt, over the passes after the prefill; empty where the back end does not tell."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row.arm != arm or not row.tokens:
            continue
        known = [(kept, shown) for kept, shown in zip(row.accepted[1:], row.proposed[1:], strict=True) if shown]
        kept = sum(kept for kept, _ in known if kept is not None)
        shown = sum(shown for kept, shown in known if kept is not None and shown is not None)
        before = found.get(row.prompt, (0, 0))
        found[row.prompt] = before[0] + kept, before[1] + shown
    return found


def _pooled(counts: Mapping[str, tuple[int, int]]) -> float | None:
    proposed = sum(shown for _, shown in counts.values())
    return sum(kept for kept, _ in counts.values()) / proposed if proposed else None


def _influence(counts: Mapping[str, tuple[int, int]], rate: float) -> dict[str, float]:
    """How far each prompt pulls a pooled rate; the pulls add up to nothing (Cochran, Sampling Techniques, 6.3)."""
    usual = fmean(shown for _, shown in counts.values())
    return {prompt: (kept - rate * shown) / usual for prompt, (kept, shown) in counts.items()}


def _identical(change: Change, a: Run, b: Run, arm_a: str, arm_b: str) -> Change:
    """Shares over the answers compared in both runs; the verdict by McNemar's exact test over those that changed."""
    if change.a is None or change.b is None:
        return change
    before, after = _sames(a.rows or (), arm_a), _sames(b.rows or (), arm_b)
    shared = before.keys() & after.keys()
    if not shared:
        return change
    lost = sum(before[case] and not after[case] for case in shared)
    won = sum(after[case] and not before[case] for case in shared)
    verdict = "the same"
    if lost + won:
        told = stats.binomtest(won, lost + won).pvalue < 0.05
        verdict = ("higher" if won > lost else "lower") if told else "cannot tell"
    return replace(change, change=(won - lost) / len(shared), verdict=verdict, prompts=len(shared))


def _sames(rows: Sequence[Row], arm: str) -> dict[str, bool]:
    """Whether each case's answer equals plain's (plain's: its own in its first repetition)."""
    found = st.sameness(rows, arm, REFERENCE)
    if found is None:
        return {}
    differing = {item.prompt for item in found.first_divergence}
    reference = {(row.case, row.repetition) for row in rows if row.arm == REFERENCE and row.tokens}
    own = arm == REFERENCE
    compared = {
        row.case
        for row in rows
        if row.arm == arm and row.tokens and (row.case, row.repetition) in reference and (not own or row.repetition)
    }
    return {case: case not in differing for case in compared}


def _share(identical: Mapping[str, Any] | None) -> float | None:
    return identical["matched"] / identical["total"] if identical and identical["total"] else None


def _memory(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    """The peak of the arm's process; what it held once loaded where one run does not know the peak."""
    for key in ("peak_rss_bytes", "loaded_rss_bytes"):
        if before.get(key) and after.get(key):
            return Change(before[key], after[key])
    return Change(None, None)


def _beside_drift(arm: ArmChange, plain: ArmChange | None) -> ArmChange:
    """Absolute differences that plain shows as well are no differences of the arm."""
    if plain is None:
        return arm
    return replace(
        arm,
        tokens_per_second=_judged(arm, arm.tokens_per_second, plain.tokens_per_second),
        ttft_ms=_judged(arm, arm.ttft_ms, plain.ttft_ms),
    )


def _judged(arm: ArmChange, change: Change, of_plain: Change) -> Change:
    if change.verdict in (None, "cannot tell", "the same") or change.change is None:
        return change
    if arm.arm_a == arm.arm_b == REFERENCE:
        return replace(change, verdict=DRIFT)
    return replace(change, verdict=WITHIN_DRIFT) if abs(math.log(change.change)) <= furthest(of_plain) else change


def furthest(drift: Change) -> float:
    """How far, in logarithm, the drift may reach: the end of its interval that is further from none."""
    ends = drift.ci95 or ((drift.change, drift.change) if drift.change else ())
    return max((abs(math.log(end)) for end in ends), default=0.0)


def _apart_s(a: Run, b: Run) -> float | None:
    try:
        before, after = (datetime.fromisoformat(str(run.report["run"]["started_at"])) for run in (a, b))
        return (after - before).total_seconds()
    except (ValueError, TypeError):
        return None
