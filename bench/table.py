"""The report for a terminal: one line an arm, then what weakens the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgespec.console import Terminal

from .plan import kinds
from .promise import OF_BEST, OVER_PLAIN
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
    verdicts = {True: "kept", False: "broken", None: "cannot tell"}
    by_category: dict[str, dict[float, tuple[str, str, str]]] = {line["category"]: {} for line in held}
    for line in held:
        interval = " [{:.2f}, {:.2f}]".format(*line["ci95"]) if line["ci95"] else ""
        ratio = "-" if line["geomean"] is None else f"{line['geomean']:.2f}{interval}"
        by_category[line["category"]][line["bound"]] = (ratio, verdicts[line["kept"]], ", ".join(line["rivals"]))
    terminal.table(
        f"auto over the fastest plain decoding (promised: {OVER_PLAIN:.2f}) and over the fastest arm ({OF_BEST:.2f})",
        ("prompts", "over plain", "", "which", "of the best", "", "which"),
        [[category, *found[OVER_PLAIN], *found[OF_BEST]] for category, found in by_category.items()],
    )


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
