"""What fails a continuous-integration run: conditions on b, held against a, with the evidence each has.

slower-than X      the speed-up over its own plain (or tokens/s) is below X times a's
acceptance-below X the share of proposals that the target accepts is below X
identical-below X  the share of answers equal to plain's, token for token, is below X

A condition is *established* when the whole interval meets it, *excluded* when no part of the interval does, and cannot
be excluded in between. Several arms are several chances to err, so the intervals are at 1 - 0.05/findings (Bonferroni):
whatever is looked at, a run that meets none of the conditions is failed in at most 5 % of cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgespec.errors import EdgespecError

from ..plan import REFERENCE
from ..report import arm_label
from ..statistics import Interval
from .changes import Comparison, acceptance_of, aligned, clock_change, furthest, share_interval, speedup_change
from .readback import Run

On = Literal["speedup", "tokens_per_second"]
Evidence = Literal["established", "cannot be excluded", "excluded"]
ON: tuple[On, ...] = ("speedup", "tokens_per_second")
CONDITIONS = {"slower-than": 0.95, "acceptance-below": 0.6, "identical-below": 0.9}
"""The words, each with the value that its help shows."""
BEST = "best"
"""As --arm: each run's own fastest arm that is not plain."""


@dataclass(frozen=True)
class Condition:
    """One --fail-if."""

    kind: str
    value: float

    def __str__(self) -> str:
        return f"{self.kind} {self.value:g}"


@dataclass(frozen=True)
class Finding:
    """What one condition came to for one arm. interval: at `level`."""

    condition: str
    b: str
    arm: str
    evidence: Evidence
    figure: float
    interval: Interval
    level: float
    sentence: str

    def fails(self, strict: bool) -> bool:
        return self.evidence == "established" or (strict and self.evidence == "cannot be excluded")


def parse_condition(text: str) -> Condition:
    """`slower-than 0.95` or `slower-than=0.95`. Raises EdgespecError."""
    kind, *rest = text.replace("=", " ").split() or [""]
    known = ", ".join(f"'{name} {value:g}'" for name, value in CONDITIONS.items())
    if kind not in CONDITIONS:
        raise EdgespecError(f"--fail-if got '{text}'; give one of {known}")
    try:
        (value,) = map(float, rest)
    except ValueError as error:
        raise EdgespecError(
            f"--fail-if got '{text}'; '{kind}' takes one number, such as {CONDITIONS[kind]:g}"
        ) from error
    highest = 10.0 if kind == "slower-than" else 1.0
    if not 0 < value <= highest:
        raise EdgespecError(f"--fail-if got '{text}'; the number must be above 0 and at most {highest:g}")
    return Condition(kind, value)


def judge(
    conditions: Sequence[Condition],
    pairs: Sequence[tuple[Run, Run, Comparison]],
    *,
    arms: Sequence[str] | None = None,
    on: On = "speedup",
) -> list[Finding]:
    """Every condition for every arm of every pair of runs.

    arms: names, or "best"; None: every arm that is not plain (for tokens per second plain too), and each run's fastest
    where these differ. Raises EdgespecError when a condition cannot be looked at, so that no gate passes unseen.
    """
    wanted = [
        (condition, a, b, compared, names)
        for condition in conditions
        for a, b, compared in pairs
        for names in _arms(condition, a, b, compared, arms, on)
    ]
    level = 1 - 0.05 / max(1, len(wanted))
    findings = []
    for condition, a, b, compared, (arm_a, arm_b) in wanted:
        if condition.kind == "slower-than":
            findings.append(_slower(condition, a, b, compared, arm_a, arm_b, on, level))
        elif condition.kind == "acceptance-below":
            findings.append(_acceptance(condition, b, arm_b, level))
        else:
            findings.append(_identical(condition, b, arm_b, level))
    return findings


def _arms(
    condition: Condition, a: Run, b: Run, compared: Comparison, asked: Sequence[str] | None, on: On
) -> Iterator[tuple[str, str]]:
    """The arms a condition is looked at for, as they are called in a and in b."""
    relative = condition.kind == "slower-than"
    if relative and not compared.comparable:
        barred = "; ".join(f"{item.subject}: {item.text}" for item in compared.differences if item.grade == "bars")
        raise EdgespecError(f"--fail-if {condition} needs runs that can be compared, and these cannot ({barred})")
    if relative and not compared.with_rows:
        raise EdgespecError(
            f"--fail-if {condition} needs the rows.jsonl of both runs: a report alone gives no interval"
        )
    clock = relative and on == "tokens_per_second"
    best = (compared.best.arm_a, compared.best.arm_b) if compared.best else None
    if asked is not None:
        for name in asked:
            yield _asked(condition, a if relative else b, b, name, best, clock)
        return
    usable = [arm["name"] for arm in b.report["arms"] if _has(condition, arm, clock)]
    if relative:
        usable = [name for name in usable if any(arm.arm_a == name for arm in compared.arms)]
    if not usable and not (relative and best):
        raise EdgespecError(f"--fail-if {condition} has nothing to look at: {_lacking(condition, b)}")
    yield from ((name, name) for name in usable)
    if relative and best and best[0] != best[1]:
        yield best


def _asked(
    condition: Condition, a: Run, b: Run, name: str, best: tuple[str, str] | None, clock: bool
) -> tuple[str, str]:
    if name == BEST:
        if best is None:
            raise EdgespecError("--arm best: a run has no arm beside plain that gave an answer")
        return best
    for run in (a, b):
        if run.arm(name) is None:
            there = ", ".join(str(arm["name"]) for arm in run.report["arms"])
            raise EdgespecError(f"--arm got '{name}', which run {run.letter} does not have; it has {there}")
    if not _has(condition, b.arm(name) or {}, clock):
        raise EdgespecError(f"--fail-if {condition} cannot be looked at for '{name}': {_lacking(condition, b)}")
    return name, name


def _has(condition: Condition, arm: Mapping[str, Any], clock: bool) -> bool:
    if condition.kind == "slower-than":
        answered = arm["speedup"]["geomean"] is not None
        return bool(answered and (clock or arm["mode"] != "plain"))
    if condition.kind == "acceptance-below":
        return arm["mode"] != "plain" and arm["acceptance_rate"] is not None
    return arm["mode"] != "plain" and bool(arm["identical"] and arm["identical"]["total"])


def _lacking(condition: Condition, b: Run) -> str:
    return {
        "slower-than": f"no arm beside plain answered in both runs, and plain has no speed-up (run {b.letter})",
        "acceptance-below": f"run {b.letter} does not tell how many proposals were accepted",
        "identical-below": f"run {b.letter} has no answers compared with plain's, token for token",
    }[condition.kind]


def _slower(
    condition: Condition,
    a: Run,
    b: Run,
    compared: Comparison,
    arm_a: str,
    arm_b: str,
    on: On,
    level: float,
) -> Finding:
    change = clock_change if on == "tokens_per_second" else speedup_change
    found = change(*aligned(a, b), arm_a, arm_b, level)
    if found.geomean is None or found.ci95 is None:
        raise EdgespecError(
            f"--fail-if {condition}: {arm_b} answered {found.prompts} prompts in both runs, and an interval needs three"
        )
    evidence = _evidence(found.ci95, condition.value)
    what = "tokens per second" if on == "tokens_per_second" else "speed-up over its own plain"
    name = arm_b if arm_a == arm_b else f"{arm_b} (in {a.letter}: {arm_a})"
    beside = ""
    if on == "tokens_per_second":
        beside, evidence = _with_drift(compared, arm_a, arm_b, found.geomean, evidence)
    sentence = (
        f"{_named(b, name)}: {what} {found.geomean:.3f} times {a.letter}'s "
        f"{_shown(found.ci95, level)}: {_words(evidence, condition)}{beside}"
    )
    return Finding(str(condition), b.letter, arm_b, evidence, found.geomean, found.ci95, level, sentence)


def _with_drift(compared: Comparison, arm_a: str, arm_b: str, found: float, evidence: Evidence) -> tuple[str, Evidence]:
    """On the clock, plain's own change is the drift: what plain shows too is not established for another arm."""
    drift = compared.drift
    if drift.change is None:
        return "", evidence
    if arm_a == arm_b == REFERENCE:
        return "; for plain that is the machine's drift between the runs, or a change of plain itself", evidence
    said = f"; plain itself made {drift.change:.3f} times"
    within = abs(math.log(found)) <= furthest(drift)
    if within and evidence == "established":
        return said + ", so this may be the machine's drift", "cannot be excluded"
    return said, evidence


def _acceptance(condition: Condition, b: Run, arm: str, level: float) -> Finding:
    found = acceptance_of(b, arm, level)
    rate, interval = found or (0.0, None)
    if interval is None:
        why = "needs its rows.jsonl" if b.rows is None else "needs three prompts"
        raise EdgespecError(f"--fail-if {condition}: the interval of {arm}'s acceptance in run {b.letter} {why}")
    evidence = _evidence(interval, condition.value)
    sentence = f"{_named(b, arm)}: acceptance {rate:.3f} {_shown(interval, level)}: {_words(evidence, condition)}"
    return Finding(str(condition), b.letter, arm, evidence, rate, interval, level, sentence)


def _identical(condition: Condition, b: Run, arm: str, level: float) -> Finding:
    same = (b.arm(arm) or {})["identical"]
    matched, total = same["matched"], same["total"]
    interval = share_interval(matched, total, level)
    evidence = _evidence(interval, condition.value)
    sentence = (
        f"{_named(b, arm)}: {matched} of {total} answers are identical to plain's "
        f"{_shown(interval, level)}: {_words(evidence, condition)}"
    )
    return Finding(str(condition), b.letter, arm, evidence, matched / total, interval, level, sentence)


def _evidence(interval: Interval, value: float) -> Evidence:
    if interval[1] < value:
        return "established"
    return "cannot be excluded" if interval[0] < value else "excluded"


def _words(evidence: Evidence, condition: Condition) -> str:
    return {
        "established": f"'{condition}' is established",
        "cannot be excluded": f"'{condition}' is not established and cannot be excluded",
        "excluded": f"'{condition}' is excluded",
    }[evidence]


def _named(run: Run, arm: str) -> str:
    described = run.arm(arm)
    return f"{run.letter}, {arm_label(described) if described else arm}"


def _shown(interval: Interval, level: float) -> str:
    return f"({level * 100:.4g} % interval {interval[0]:.3f} to {interval[1]:.3f})"
