"""Strokes of the page's charts: inline SVG written by hand, so that a report is one small file.

Colours come from the page's CSS classes, so that light, dark and paper each have their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

TIMES = "\u00d7"
WIDTH, SLIM = 760.0, 372.0
"""Of a chart, and of its drawing for a narrow page."""
CHARACTER = 6.9
"""Width of a character in the charts' 12 px text, a little generously."""
LABEL_LINE = 14.0


def svg(name: str, title: str, height: float, parts: Sequence[str], *, told: str = "", width: float = WIDTH) -> str:
    """told: the chart's figures in words, for those who hear the page."""
    label = f"{title}: {told}" if told else title
    return (
        f'<svg id="{name}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}" '
        f'style="max-width:{width:.0f}px">{"".join(parts)}</svg>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, radius: float = 2) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.0):.1f}" height="{height:.1f}" '
        f'rx="{radius:g}"/>'
    )


def group(kind: str, hint: str, parts: Sequence[str]) -> str:
    """Parts of one thing; hint: shown when the pointer rests on it."""
    return f'<g class="{kind}"><title>{escape(hint)}</title>{"".join(parts)}</g>'


def span(words: str) -> float:
    """About how wide a text is drawn."""
    return len(words) * CHARACTER


def gutter(labels: Sequence[str], least: float, most: float) -> float:
    """Room that labels need at a chart's left, within bounds; longer ones are broken in two by `label`."""
    return min(most, max([least, *(span(words) + 20 for words in labels)]))


def label(right: float, middle: float, words: str, room: float) -> str:
    """A row's label, ending at `right`: on two lines where it is longer than `room`, and cut where that is not
    enough."""
    limit = max(1, int(room / CHARACTER))
    lines = [words]
    if len(words) > limit:
        place = words.rfind(" ", 0, limit + 1)
        lines = [words[:place], words[place + 1 :]] if place > 0 else [words]
    lines = [fitting(part, room) for part in lines]
    top = middle + 4 - LABEL_LINE / 2 * (len(lines) - 1)
    return "".join(text(right, top + LABEL_LINE * index, part, "label", "end") for index, part in enumerate(lines))


def fitting(words: str, room: float) -> str:
    """`words`, cut where they are longer than `room`."""
    limit = max(1, int(room / CHARACTER))
    return words if len(words) <= limit else words[: limit - 1] + "…"


def ticks(high: float, low: float = 0.0) -> list[float]:
    """Four to eight round values from `low` to `high`."""
    rough = (high - low) / 5
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round values from `low` to `high` on a logarithmic axis: halves and doubles of 1, with 1.5 and 3 between where
    the range is short."""
    steps = (1.0, 1.25, 1.5, 1.75) if high / low < 2.2 else (1.0, 1.5) if high / low < 6 else (1.0,)
    found = [2.0**power * step for power in range(-10, 12) for step in steps]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]


def apart(places: Sequence[float], gap: float, last: float) -> list[float]:
    """Places in the same order, moved as little as a simple rule can so that neighbours are `gap` apart and none is
    beyond `last`."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = [places[index] for index in order]
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    limit = last
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - gap
    result = [0.0] * len(places)
    for index, place in zip(order, moved, strict=True):
        result[index] = place
    return result
