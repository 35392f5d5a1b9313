"""The page's charts: inline SVG, drawn by hand so that a report is one small file.

Colours come from the page's CSS classes. Every function takes plain numbers and returns one <svg>; what cannot be
drawn gives "", and the page leaves it out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

TIMES = "\u00d7"
WIDTH = 760.0
LABEL = 176.0
VALUE = 168.0
ROW = 34.0
CHARACTER = 6.6  # width of a character in the charts' 12 px text, a little generously


@dataclass(frozen=True)
class Bar:
    """kind is a CSS class: faster, slower, unsure, reference. interval: drawn as a whisker."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    kind: str = "reference"
    note: str = ""


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    interval: tuple[float, float] | None = None


def horizontal_bars(
    bars: Sequence[Bar],
    *,
    name: str,
    title: str,
    one: str | None = None,
    gutter: float = LABEL,
) -> str:
    """Bars from zero with whiskers, values at the right. one: label of a line at 1.0; gutter: room for labels."""
    if not bars:
        return ""
    ends = [bar.interval[1] if bar.interval else bar.value for bar in bars]
    longest = max([bar.value for bar in bars] + ([1.0] if one else []))
    limit = min(max([*ends, longest]), 1.8 * longest) * 1.04  # a whisker may leave the chart, the bars have to be seen
    left, right = gutter, WIDTH - VALUE
    head = 22.0 if one else 6.0
    bottom = head + ROW * len(bars)

    def x(value: float) -> float:
        return left + (right - left) * min(value, limit) / limit

    parts = []
    for tick in _ticks(limit):
        parts.append(_line(x(tick), head - 2, x(tick), bottom, "grid"))
        parts.append(_text(x(tick), bottom + 16, f"{tick:g}{TIMES}", "tick", "middle"))
    for index, bar in enumerate(bars):
        y = head + ROW * index
        middle = y + ROW / 2
        width = max(1.0, x(bar.value) - left)
        hint = f"{bar.label}: {_value(bar)}"
        parts.append(f'<g class="{bar.kind}"><title>{escape(hint)}</title>')
        parts.append(_text(left - 12, middle + 4, _fitting(bar.label, gutter - 16), "label", "end"))
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{y + 8:.1f}" width="{width:.1f}" height="{ROW - 16:.1f}" rx="2"/>'
        )
        if bar.interval:
            low, high = x(bar.interval[0]), x(bar.interval[1])
            parts.append(_line(low, middle, high, middle, "whisker"))
            inside = [x(end) for end in bar.interval if end <= limit]
            parts.extend(_line(end, middle - 4, end, middle + 4, "whisker") for end in inside)
        parts.append(_text(right + 14, middle + 4, _value(bar), "value", "start"))
        parts.append("</g>")
    if one:
        parts.append(_line(x(1), head - 6, x(1), bottom, "one"))
        parts.append(_text(x(1), head - 10, one, "tick", "middle"))
    return _svg(name, title, bottom + 24, parts)


def _value(bar: Bar) -> str:
    if bar.note:
        return bar.note
    text = f"{bar.value:.2f}{TIMES}"
    return f"{text} [{bar.interval[0]:.2f}, {bar.interval[1]:.2f}]" if bar.interval else text


def gamma_curve(measured: Sequence[Point], predicted: Sequence[Point], *, name: str, title: str) -> str:
    """Speed-up over gamma: measured with whiskers, predicted dashed. Needs two measured points."""
    if len(measured) < 2:
        return ""
    points = [*measured, *predicted]
    ends = [value for point in points for value in (point.interval or (point.y, point.y))]
    low, high = min([*ends, 1.0]), max([*ends, 1.0])
    margin = 0.12 * (high - low) or 0.1
    low, high = max(0.0, low - margin), high + margin
    height, left, right, top, bottom = 300.0, 56.0, WIDTH - 116, 14.0, 252.0
    first, last = min(p.x for p in points), max(p.x for p in points)

    def x(value: float) -> float:
        return left + 24 + (right - left - 48) * (value - first) / (last - first)

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    parts = []
    for tick in _ticks(high, low):
        parts.append(_line(left, y(tick), right, y(tick), "grid"))
        parts.append(_text(left - 10, y(tick) + 4, f"{tick:g}{TIMES}", "tick", "end"))
    for gamma in sorted({point.x for point in points}):
        parts.append(_text(x(gamma), bottom + 18, f"{gamma:g}", "tick", "middle"))
    parts.append(_text((left + right) / 2, bottom + 38, "gamma: tokens proposed a step", "tick", "middle"))
    parts.append(_line(left, y(1), right, y(1), "one"))
    ends_at: list[tuple[float, str, str]] = []
    for kind, line in (("predicted", predicted), ("measured", measured)):
        if not line:
            continue
        path = " ".join(f"{x(p.x):.1f},{y(p.y):.1f}" for p in line)
        parts.append(f'<g class="{kind}"><polyline class="curve" points="{path}"/>')
        for p in line:
            parts.append(f"<g><title>gamma {p.x:g}, {kind}: {p.y:.2f}{TIMES}</title>")
            if p.interval:
                parts.append(_line(x(p.x), y(p.interval[0]), x(p.x), y(p.interval[1]), "whisker"))
            parts.append(f'<circle class="dot" cx="{x(p.x):.1f}" cy="{y(p.y):.1f}" r="4.5"/></g>')
        parts.append("</g>")
        ends_at.append((y(line[-1].y) + 4, kind, kind))
    ends_at.append((y(1) + 4, "plain", "tick"))
    for place, text, kind in _apart(ends_at, 15):
        parts.append(_text(right + 8, place, text, f"label {kind}", "start"))
    return _svg(name, title, height, parts)


def columns(values: Sequence[float | None], *, name: str, title: str, axis: str) -> str:
    """One column per position, shares from 0 to 100 %; a position that is not known is left empty."""
    if not any(value is not None for value in values):
        return ""
    width, height, left, top, bottom = 380.0, 240.0, 44.0, 20.0, 190.0
    step = (width - left - 10) / max(len(values), 3)
    thick = min(46.0, step * 0.6)
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        place = bottom - (bottom - top) * tick
        parts.append(_line(left, place, width - 10, place, "grid"))
        parts.append(_text(left - 8, place + 4, f"{tick:.0%}", "tick", "end"))
    for index, value in enumerate(values):
        middle = left + step * (index + 0.5)
        parts.append(_text(middle, bottom + 18, str(index + 1), "tick", "middle"))
        if value is None:
            continue
        tall = (bottom - top) * value
        parts.append(
            f'<g class="faster"><title>position {index + 1}: {value:.1%}</title><rect class="bar" '
            f'x="{middle - thick / 2:.1f}" y="{bottom - tall:.1f}" width="{thick:.1f}" height="{tall:.1f}" rx="2"/></g>'
        )
        parts.append(_text(middle, bottom - tall - 6, f"{value:.0%}", "value", "middle"))
    parts.append(_text((left + width - 10) / 2, bottom + 38, axis, "tick", "middle"))
    return _svg(name, title, height, parts, width)


def _apart(labels: Sequence[tuple[float, str, str]], gap: float) -> list[tuple[float, str, str]]:
    """Labels moved down as little as needed so that none covers another."""
    placed: list[tuple[float, str, str]] = []
    for place, text, kind in sorted(labels):
        if placed:
            place = max(place, placed[-1][0] + gap)
        placed.append((place, text, kind))
    return placed


def _ticks(high: float, low: float = 0.0) -> list[float]:
    """Four to eight round values from `low` to `high`."""
    rough = (high - low) / 5
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _fitting(text: str, width: float) -> str:
    limit = int(width / CHARACTER)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _svg(name: str, title: str, height: float, parts: Sequence[str], width: float = WIDTH) -> str:
    return (
        f'<svg id="{name}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'style="max-width:{width:.0f}px">{"".join(parts)}</svg>'
    )
