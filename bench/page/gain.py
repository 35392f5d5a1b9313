"""The page's sections on what is gained: by arm, and where, by task, length of context, turn and repetition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgespec.page import charts
from edgespec.page.charts import Bar, Mark
from edgespec.page.curves import Point, Series, curves
from edgespec.page.drawing import TIMES
from edgespec.page.markup import (
    DASH,
    Html,
    figure,
    folded,
    joined,
    kind,
    lead,
    number,
    pair,
    part,
    ratio,
    section,
    table,
    text,
)

from ..plan import CONTROL, REFERENCE, UNTOUCHED
from ..promise import PROMISE_COLUMNS, PROMISE_TITLE, promise_cells
from ..report import arm_label
from .arms import Arm, Report, best_of, best_of_kinds

LINES = 5
"""Curves over the context that one chart holds readably: the best arm of each kind, at most so many kinds."""
BESIDE = 4
"""Groups up to which an interval stands beside its figure, not below."""
HEAT = (0.15, 0.4, 0.8)
"""Doublings from which a cell of the heat table takes the next shade."""


def gain(report: Report) -> Html:
    """Every arm against plain, as bars and as a table."""
    arms = report["arms"]
    bars = [_bar(arm) for arm in arms if arm["speedup"]["geomean"] is not None]
    control = next((arm for arm in arms if arm["name"] == CONTROL), None)
    interval = pair(control["speedup"]["ci95"]) if control else None
    chart = figure(
        charts.horizontal_bars,
        bars,
        name="speedup-chart",
        title="Speed-up over plain by arm",
        mark=Mark(1.0, "plain", interval),
    )
    words = (
        "How many times as fast each arm answers as plain decoding with the same settings: bars are geometric means "
        "over prompts, whiskers 95 % intervals. An arm whose whisker crosses the line has not been shown to differ."
    )
    if (compared := report["headline"]["arms_compared"]) > 1:
        words += f" Each stands for itself; the verdict on top asks more, being about the best of {compared}."
    told = ""
    if control and interval:
        found = control["speedup"]["geomean"]
        told = (
            f"The control, drawn as an outline, is plain decoding once more in another process: {found:.3f}{TIMES} "
            f"[{interval[0]:.3f}, {interval[1]:.3f}]. The band is its interval: a gain that stays inside may be none."
        )
    return section("gain", "Speed-up", words, chart, lead(told), _arms(report), _promise(report))


def _promise(report: Report) -> Html:
    """Whether auto, where it was an arm, is at least as fast as plain decoding and near the best arm, by category."""
    words = (
        "The arm auto is the whole runtime as an app runs it, by the caller's clock. The fastest of several arms is "
        "chosen on the other rounds than those it is compared on."
    )
    cells = table(PROMISE_COLUMNS, promise_cells(report.get("promise") or []), "", "what auto promises, by category")
    return part(PROMISE_TITLE, words, cells)


def _bar(arm: Arm) -> Bar:
    found = arm["speedup"]
    plainly = found["verdict"] == "reference"
    return Bar(
        arm_label(arm),
        found["geomean"],
        pair(found["ci95"]),
        "control" if arm["name"] == CONTROL else kind(found["verdict"]),
        f"1.00{TIMES} reference" if plainly else "",
    )


def _arms(report: Report) -> Html:
    arms = report["arms"]
    two = any(arm["name"] == UNTOUCHED for arm in arms)  # plain twice: with the best settings, and untouched
    columns = ["arm", "tokens/s", "speed-up [95 %]", "verdict", *(["over default"] if two else [])]
    columns += ["accepted", "tau", "identical", "answers"]
    rows = []
    for arm in arms:
        same, failed = arm["identical"], arm["errors"]["count"]
        verdict = "failed" if failed and not arm["answers"] else arm["speedup"]["verdict"]
        row: list[object] = [
            arm_label(arm),
            number(arm["tokens_per_second"]["median"], ".1f"),
            ratio(arm["speedup"]),
            Html(f'<td class="verdict {kind(arm["speedup"]["verdict"])}">{text(verdict)}</td>'),
        ]
        if two:
            row.append(number(arm["speedup_over_default"]["geomean"], ".2f", TIMES))
        row += [
            number(arm["acceptance_rate"], ".0%"),
            number(arm["block_efficiency"]),
            f"{same['matched']}/{same['total']}" if same else DASH,
            f"{arm['answers']}" + (f", {failed} failed" if failed else ""),
        ]
        rows.append(row)
    return table(columns, rows, about="arms")


def where(report: Report) -> Html:
    """Where the best arm gains, and every arm beside it."""
    best = best_of(report)
    if best is None:
        return Html()
    label = arm_label(best)
    by_task = _groups(
        report,
        best,
        "by_category",
        "task",
        f"By kind of prompt, {label}",
        "The best arm, then every arm; the prompts of a kind are few, so look at the intervals.",
        str,
    )
    by_turn = _groups(
        report,
        best,
        "by_turn",
        "turn",
        f"By turn of the conversation, {label}",
        "A later turn stands behind the earlier ones and plain's answers to them.",
        lambda turn: f"turn {turn}",
    )
    return section("where", "Where it gains", "", by_task, _by_context(report), by_turn, _by_repetition(best))


def _groups(
    report: Report, best: Arm, key: str, name: str, title: str, words: str, shown: Callable[[str], str]
) -> Html:
    """A chart of the best arm's groups and the heat table of all arms; "" where there is one group only."""
    groups = _known(report, key)
    if len(groups) < 2:
        return Html()
    bars = [
        Bar(shown(group), found["geomean"], pair(found["ci95"]), kind(found["verdict"]))
        for group in groups
        if (found := best[key].get(group)) and found["geomean"] is not None
    ]
    chart = figure(
        charts.horizontal_bars,
        bars,
        name=f"{name}-chart",
        title=f"Speed-up of {arm_label(best)} by {name}",
        mark=Mark(1.0, "plain"),
    )
    heat = _heat(report, key, groups, shown, name)
    if name != "task":
        heat = folded(f"Every arm by {name}", heat)
    return part(title, words, chart, heat)


def _known(report: Report, key: str) -> list[str]:
    """The groups that any arm was measured in, in the report's order."""
    return list(dict.fromkeys(group for arm in report["arms"] for group in (arm.get(key) or {})))


def _heat(report: Report, key: str, groups: Sequence[str], shown: Callable[[str], str], name: str) -> Html:
    """All arms by group, with intervals, shaded where the interval leaves 1 out."""
    arms = [arm for arm in report["arms"] if arm["name"] != REFERENCE and arm["speedup"]["geomean"] is not None]
    if not arms:
        return Html()
    counts = {group: max(arm[key].get(group, {}).get("prompts", 0) for arm in report["arms"]) for group in groups}
    columns = [
        "arm",
        *(joined([shown(group), Html("<small>"), _prompts(counts[group]), Html("</small>")]) for group in groups),
    ]
    rows = [[arm_label(arm), *(_cell(arm[key].get(group)) for group in groups)] for arm in arms]
    intervals = sum(bool((arm[key].get(group) or {}).get("ci95")) for arm in arms for group in groups)
    words = (
        f"Coloured: the 95 % interval leaves 1 out. Of {intervals} such intervals about {round(intervals / 20)} would "
        "by chance even if no arm differed from plain, so read rows and columns rather than single cells."
    )
    style = "heat beside" if len(groups) <= BESIDE else "heat"
    return Html(table(columns, rows, style, f"speed-up by arm and {name}") + (lead(words) if intervals >= 20 else ""))


def _prompts(count: int) -> str:
    return f"{count} prompt" + ("" if count == 1 else "s")


def _cell(found: Mapping[str, Any] | None) -> Html:
    if not found or found["geomean"] is None:
        return Html(f"<td>{DASH}</td>")
    verdict = kind(found["verdict"])
    shade = ""
    if verdict in ("faster", "slower"):
        doublings = abs(math.log2(found["geomean"]))
        shade = f" {verdict} heat-{1 + sum(doublings >= bound for bound in HEAT)}"
    interval = f"[{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}]" if found["ci95"] else "no interval"
    return Html(
        f'<td class="cell{shade}" title="{text(found["verdict"])}">{found["geomean"]:.2f}{TIMES}'
        f"<small>{interval}</small></td>"
    )


def _by_context(report: Report) -> Html:
    """The best arm of each kind over the length of the context, then every arm."""
    groups = _known(report, "by_context")
    if len(groups) < 2:
        return Html()
    series = [
        Series(
            arm_label(arm),
            [
                Point(float(group), found["geomean"], pair(found["ci95"]))
                for group in groups
                if (found := arm["by_context"].get(group)) and found["geomean"] is not None
            ],
            hue,
        )
        for hue, arm in enumerate(best_of_kinds(report)[:LINES])
    ]

    def tokens(value: float) -> str:
        return f"{value:,.0f}"

    chart = figure(
        curves,
        series,
        name="context-chart",
        title="Speed-up by length of the context",
        axis="tokens in front of the answer",
        one="plain",
        logarithmic=True,
        tick=tokens,
    )
    words = (
        "A longer context makes every pass read more of the cache, for plain decoding as well; reading the prompt "
        "gains nothing. Drawn is the best arm of each kind."
    )
    heat = _heat(report, "by_context", groups, lambda group: f"{int(group):,} tokens", "length of context")
    folded_heat = folded("Every arm by length of context", heat)
    return part("By length of the context", words, chart, folded_heat)


def _by_repetition(best: Arm) -> Html:
    halves = [
        Bar(label, half["geomean"], pair(half["ci95"]), kind(half["verdict"]))
        for label, half in (
            ("repeat least", best["by_repetition"].get("least")),
            ("repeat most", best["by_repetition"].get("most")),
        )
        if half and half["geomean"] is not None
    ]
    if len(halves) < 2:
        return Html()
    chart = figure(
        charts.horizontal_bars,
        halves,
        name="repetition-chart",
        title=f"Speed-up of {arm_label(best)} by repetition",
        mark=Mark(1.0, "plain"),
    )
    words = "Half of the prompts each, by how much plain's own answer repeats itself: repetition is easy to guess."
    return part("By how much the answers repeat themselves", words, chart)
