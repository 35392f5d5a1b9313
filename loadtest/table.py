"""The levels as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgespec.console import Terminal
from edgespec.page.markup import number

COLUMNS = ("load", "answers", "errors", "tokens/s", "first token, ms", "a token, ms", "whole, ms")
"""tokens/s: of all clients together. Times: median and 95th percentile."""


def print_levels(terminal: Terminal, report: Mapping[str, Any]) -> None:
    terminal.table(
        f"{report['target']['model']} at {report['target']['url']}", COLUMNS, [row(arm) for arm in report["arms"]]
    )


def row(arm: Mapping[str, Any]) -> list[str]:
    return [
        arm["name"],
        str(arm["answers"]),
        number(arm["errors"]["rate"], ".1%"),
        number(arm["throughput_tokens_per_second"], ".1f"),
        *(
            f"{number(arm[key]['median'], form)} / {number(arm[key]['p95'], form)}"
            for key, form in (("ttft_ms", ".0f"), ("tpot_ms", ".2f"), ("wall_ms", ".0f"))
        ),
    ]
