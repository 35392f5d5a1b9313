"""The report for a terminal: one line an arm, then what weakens the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgespec.console import Terminal

from .plan import kinds
from .promise import PROMISE_COLUMNS, PROMISE_TITLE, promise_cells
from .report import arm_label

COLUMNS = ("arm", "tok/s", "speed-up [95 %]", "tau", "accepted", "identical")


def print_arms(terminal: Terminal, report: Mapping[str, Any]) -> None:
    """The table of arms and the report's notes, to stderr."""
    title = f"{report['pair']['name']} on {report['device']}"
    terminal.table(title, COLUMNS, [_cells(arm) for arm in report["arms"]])
    if report.get("promise"):
        print_promise(terminal, report["promise"])
    for note in report["notes"]:
        terminal.say(f"note: {note}")


def print_promise(terminal: Terminal, held: Sequence[Mapping[str, Any]]) -> None:
    """What `auto` promises, by category: a line each, to stderr."""
    terminal.table(PROMISE_TITLE, PROMISE_COLUMNS, promise_cells(held))


def kinds_listed() -> str:
    """What --arms can name, a line each."""
    swept = {"gamma": "one for each --gamma", "threshold": "one for each --threshold", "": ""}
    lines = []
    for name, kind in kinds().items():
        remarks = "; ".join(filter(None, [swept[kind.swept], "" if kind.samples else "greedy only"]))
        lines.append(f"{name:<20} {kind.meaning}" + (f" ({remarks})" if remarks else ""))
    return "\n".join(lines)


def _cells(arm: Mapping[str, Any]) -> list[str]:
    speedup, same = arm["speedup"], arm["identical"]
    interval = "[{:.2f}, {:.2f}]".format(*speedup["ci95"]) if speedup["ci95"] else ""
    return [
        arm_label(arm),
        _number(arm["tokens_per_second"]["median"], ".1f"),
        "failed" if speedup["geomean"] is None else f"{speedup['geomean']:.2f}x {interval}".rstrip(),
        _number(arm["block_efficiency"], ".2f"),
        _number(arm["acceptance_rate"], ".0%"),
        "-" if same is None else f"{same['matched']}/{same['total']}",
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
