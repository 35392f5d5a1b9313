"""A comparison in words: for a terminal, as Markdown and as a JSON document. What forbids or explains comes first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgespec.console import Terminal

from ..markdown import DASH, bullets, grid, literal
from .changes import DRIFT, WITHIN_DRIFT, Change, Comparison
from .gates import Finding
from .readback import Run

SCHEMA = "edgespec.compare/1"
GRADES = {
    "bars": "cannot be compared",
    "explains": "differs, and may explain the difference",
    "weakens": "weakens what is found",
}
ARROW = "\u2192"


def print_comparison(terminal: Terminal, runs: Sequence[Run], compared: Sequence[Comparison]) -> None:
    """Everything about the comparisons, to stderr."""
    for run in runs:
        terminal.say(heading(run))
    for one in compared:
        for line in reservations(one):
            terminal.say(line)
        for title, columns, rows in tables(one):
            if rows:
                terminal.table(title, columns, rows)
        for sentence in sentences(one):
            terminal.say(sentence)


def print_findings(terminal: Terminal, findings: Sequence[Finding], strict: bool) -> None:
    for finding in findings:
        terminal.say(f"{'FAILED' if finding.fails(strict) else 'passed'}  {finding.sentence}")


def comparison_markdown(
    runs: Sequence[Run], compared: Sequence[Comparison], findings: Sequence[Finding], strict: bool
) -> str:
    """compare.md."""
    parts = ["# Runs compared", bullets(heading(run) for run in runs)]
    for one in compared:
        parts.append(f"## {one.b} against {one.a}")
        for grade, words in GRADES.items():
            texts = [f"{item.subject}: {item.text}" for item in one.differences if item.grade == grade]
            if texts:
                parts.append(f"**{words[0].upper()}{words[1:]}**\n\n{bullets(texts)}")
        for title, columns, rows in tables(one):
            if not rows:
                continue
            table = grid([literal(column) for column in columns], [[literal(cell) for cell in row] for row in rows])
            parts.append(f"### {literal(title)}\n\n{table}")
        parts.append(bullets(sentences(one)))
    if findings:
        lines = (f"{'FAILED' if item.fails(strict) else 'passed'}: {item.sentence}" for item in findings)
        parts.append(f"## Conditions\n\n{bullets(lines)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def document(
    runs: Sequence[Run], compared: Sequence[Comparison], findings: Sequence[Finding], strict: bool
) -> dict[str, Any]:
    """compare.json (schema edgespec.compare/1). Unknown is null."""
    return {
        "schema": SCHEMA,
        "runs": [
            {
                "letter": run.letter,
                "path": _path(run.path),
                "pair": run.report["pair"].get("name"),
                "device": run.report["device"],
                "started_at": run.report["run"]["started_at"],
                "with_rows": run.rows is not None,
            }
            for run in runs
        ],
        "comparisons": [asdict(one) | {"sentences": sentences(one)} for one in compared],
        "findings": [asdict(item) | {"failed": item.fails(strict)} for item in findings],
        "strict": strict,
        "failed": any(item.fails(strict) for item in findings),
    }


def heading(run: Run) -> str:
    report = run.report
    when = str(report["run"]["started_at"])[:16].replace("T", " ")
    prompts, times = report["prompts"]["count"], report["run"].get("repetitions")
    repeated = "1 repetition" if times == 1 else f"{times} repetitions"
    return (
        f"{run.letter}  {_path(run.path)}: {report['pair'].get('name')} on {report['device']}, {when}, "
        f"{prompts} prompts of {report['prompts']['suite']}, {repeated}"
    )


def reservations(one: Comparison) -> list[str]:
    """One line for each difference, what forbids the comparison first."""
    return [f"{GRADES[item.grade]}: {item.subject}: {item.text}" for item in one.differences]


Table = tuple[str, Sequence[str], list[list[str]]]


def tables(one: Comparison) -> list[Table]:
    """The speed-ups, which the drift leaves alone; the clock, which it does not; what stands beside: title, columns,
    rows."""
    arms = [*one.arms]
    if one.best and one.best.arm_a != one.best.arm_b:
        arms.append(one.best)
    beside = [
        [
            arm.label,
            _both(arm.acceptance_rate, ".0%") + _marked(arm.acceptance_rate),
            _both(arm.ttft_ms, ".0f") + _marked(arm.ttft_ms),
            _both(arm.memory_bytes, ".2f", 1e9),
            _both(arm.identical, ".0%") + _marked(arm.identical),
        ]
        for arm in arms
    ]
    title = f"{one.b} against {one.a}"
    ratio = f"{one.b}/{one.a}" + (" [95 %]" if one.with_rows and one.comparable else "")
    columns = ("arm", one.a, one.b, ratio, "")
    return [
        (
            f"{title}: speed-up over the plain of its own run",
            columns,
            [_speed(arm.label, arm.speedup, ".2f") for arm in arms if arm.speedup],
        ),
        (
            f"{title}: tokens per second",
            columns,
            [_speed(arm.label, arm.tokens_per_second, ".1f") for arm in arms],
        ),
        (f"{title}: beside it", ("arm", "accepted", "TTFT ms", "memory GB", "identical"), beside),
    ]


def _speed(label: str, change: Change, form: str) -> list[str]:
    cells = [DASH if value is None else f"{value:{form}}" for value in (change.a, change.b)]
    verdict = change.verdict or ("no interval" if change.change is not None else "")
    return [label, *cells, _ratio(change), verdict]


def _both(change: Change, form: str, unit: float = 1.0) -> str:
    shown = [DASH if value is None else f"{value / unit:{form}}" for value in (change.a, change.b)]
    return DASH if shown == [DASH, DASH] else f"{shown[0]} {ARROW} {shown[1]}"


def _ratio(change: Change) -> str:
    if change.change is None:
        return DASH
    interval = f" [{change.ci95[0]:.2f}, {change.ci95[1]:.2f}]" if change.ci95 else ""
    return f"{change.change:.2f}{interval}"


def _marked(change: Change) -> str:
    """The verdict, where it says that something changed."""
    silent = (None, "cannot tell", "the same", DRIFT, WITHIN_DRIFT)
    return "" if change.verdict in silent else f" ({change.verdict})"


def sentences(one: Comparison) -> list[str]:
    """What may be concluded, and what may not."""
    if not one.comparable:
        return ["Nothing is held against anything here: the runs asked different things. Each run's own figures stand."]
    said = [_said_of_best(one), _said_of_drift(one)]
    if not one.with_rows:
        said.append(
            "There are no intervals without the rows of both runs: medians alone cannot tell chance from change."
        )
    contenders = [arm for arm in one.arms if arm.speedup is not None and arm.speedup.ci95]
    if len(contenders) > 1:
        said.append(
            f"{len(contenders)} arms are compared at 95 % each, so a difference in one of them alone may be chance."
        )
    for letter, names in ((one.a, one.only_in_a), (one.b, one.only_in_b)):
        if names:
            said.append(f"Only {letter} has {', '.join(names)}.")
    return [sentence for sentence in said if sentence]


def _said_of_best(one: Comparison) -> str:
    best = one.best
    if best is None or best.speedup is None or best.speedup.change is None:
        return ""
    found = best.speedup
    which = f"{one.b}'s fastest arm is {best.arm_b} ({_times(found.b)} plain)"
    which += f" and {one.a}'s {best.arm_a} ({_times(found.a)})"
    if found.ci95 is None:
        return f"{which}: {found.change:.2f} times the speed-up, with no interval."
    interval = f"95 % interval {found.ci95[0]:.2f} to {found.ci95[1]:.2f}"
    conclusion = {
        "faster": f"{one.b} gains more over plain than {one.a}",
        "slower": f"{one.b} gains less over plain than {one.a}",
    }.get(found.verdict or "", "these runs cannot tell which gains more over plain")
    return f"{which}: {found.change:.3f} times the speed-up ({interval}, {found.prompts} prompts); {conclusion}."


def _times(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}x"


def _said_of_drift(one: Comparison) -> str:
    drift = one.drift
    if drift.change is None:
        return ""
    interval = f" (95 % interval {drift.ci95[0]:.2f} to {drift.ci95[1]:.2f})" if drift.ci95 else ""
    said = f"Plain itself makes {drift.change:.2f} times the tokens per second in {one.b}{interval}"
    if not one.same_machine:
        return (
            f"{said}: the machines differ by that much. Tokens per second compare the machines; the speed-ups compare "
            "what speculation gains on each."
        )
    explains = any(item.grade == "explains" for item in one.differences)
    cause = ", or what one of the differences above did to plain: these runs cannot tell which" if explains else ""
    return (
        f"{said}: what the machine drifted by{_later(one.apart_s)}{cause}. Runs are not interleaved with one another, "
        "so differences in tokens per second that are no larger mean nothing; the speed-ups, each over the plain "
        "of its own run, do not hold the drift."
    )


def _later(seconds: float | None) -> str:
    if not seconds:
        return " between the runs"
    size = abs(seconds)
    value, unit = (size / 60, "minutes") if size < 7200 else (size / 3600, "hours")
    if size >= 172800:
        value, unit = size / 86400, "days"
    return f" between the runs, {value:.0f} {unit} apart"


def _path(path: Path) -> str:
    return path.as_posix()


def findings_summary(findings: Iterable[Finding], strict: bool) -> str:
    found = list(findings)
    failed = sum(item.fails(strict) for item in found)
    how = "established or cannot be excluded (--strict)" if strict else "established"
    return f"{failed} of {len(found)} conditions looked at are {how}" if failed else f"no condition is {how}"
