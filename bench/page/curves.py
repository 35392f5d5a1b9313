"""The page's curves: one line a series with whiskers, named at its end instead of in a legend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgespec.page.drawing import SLIM, TIMES, WIDTH, apart, group, line, span, svg, text, ticks

HUES = 6
"""Series that the style sheet has colours and this file has dots for; a further one begins again."""
DODGE = 7.0


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """hue: number of its colour and dot. dashed: a prediction, drawn thinner and without moving aside."""

    label: str
    points: Sequence[Point]
    hue: int
    dashed: bool = False


def curves(
    series: Sequence[Series],
    *,
    name: str,
    title: str,
    axis: str,
    one: str,
    logarithmic: bool = False,
    tick: Callable[[float], str] = "{:g}".format,
    slim: bool = False,
) -> str:
    """Speed-ups over x. Needs a series with two points. one: label of the line at 1; tick: an x value in words. slim:
    for a narrow page, with the names below the chart."""
    series = [each for each in series if each.points]
    if not any(len({point.x for point in each.points}) > 1 for each in series if not each.dashed):
        return ""
    points = [point for each in series for point in each.points]
    ends = [value for point in points for value in (point.interval or (point.y, point.y))]
    low, high = min([*ends, 1.0]), max([*ends, 1.0])
    margin = 0.08 * (high - low) or 0.1
    low, high = max(0.0, low - margin), high + margin
    names = [each.label for each in series]
    width = SLIM if slim else WIDTH
    left, top, bottom = 46.0, 12.0, 262.0
    height = bottom + 52 + (17 * len(names) if slim else 0)
    right = width - 8 if slim else width - max(span(words) for words in [*names, one]) - 30
    inner = 16.0 if slim else 26.0
    scale: Callable[[float], float] = math.log if logarithmic else float
    first, last = scale(min(point.x for point in points)), scale(max(point.x for point in points))
    measured = [each for each in series if not each.dashed]
    dodge = DODGE * (0.6 if slim else 1)
    aside = {each.label: (index - (len(measured) - 1) / 2) * dodge for index, each in enumerate(measured)}

    def x(value: float) -> float:
        return left + inner + (right - left - 2 * inner) * (scale(value) - first) / (last - first)

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    parts = []
    for value in ticks(high, low):
        parts.append(line(left, y(value), right, y(value), "grid"))
        parts.append(text(left - 10, y(value) + 4, f"{value:g}{TIMES}", "tick", "end"))
    for value in sorted({point.x for point in points}):
        parts.append(text(x(value), bottom + 18, tick(value), "tick", "middle"))
    parts.append(text((left + right) / 2, bottom + 38, axis, "tick", "middle"))
    parts.append(line(left, y(1), right, y(1), "one"))
    tails: list[_Tail] = [] if slim else [_Tail(right, y(1), one, "tick")]
    for found in sorted(series, key=lambda each: not each.dashed):
        shift = aside.get(found.label, 0.0)
        style = f"series hue-{found.hue % HUES + 1}{' dashed' if found.dashed else ''}"
        drawn = []
        if len(found.points) > 1:
            path = " ".join(f"{x(point.x) + shift:.1f},{y(point.y):.1f}" for point in found.points)
            drawn.append(f'<polyline class="curve" points="{path}"/>')
        for point in found.points:
            at = x(point.x) + shift
            dot = [_dot(found.hue, at, y(point.y))]
            if point.interval:
                near, far = y(point.interval[0]), y(point.interval[1])
                dot.insert(0, line(at, near, at, far, "whisker"))
                dot.extend(line(at - 3, end, at + 3, end, "whisker") for end in (near, far))
            drawn.append(group("", f"{found.label}, {tick(point.x)}: {_words(point)}", dot))
        parts.append(f'<g class="{style}">{"".join(drawn)}</g>')
        tail = found.points[-1]
        tails.append(_Tail(x(tail.x) + shift, y(tail.y), found.label, style, found.hue))
    parts += _names_below(tails, left, bottom + 58) if slim else _names_beside(tails, right, bottom)
    told = "; ".join(
        f"{found.label} {', '.join(f'{tick(point.x)}: {_words(point)}' for point in found.points)}" for found in series
    )
    return svg(f"{name}-slim" if slim else name, title, height, parts, told=told, width=width)


@dataclass(frozen=True)
class _Tail:
    """Where a line ends, and what it is called. style: its CSS classes."""

    x: float
    y: float
    label: str
    style: str
    hue: int = 0


def _names_beside(tails: Sequence[_Tail], right: float, last: float) -> list[str]:
    """Names at the lines' ends, moved apart; a thin line leads to one that had to move."""
    parts = []
    for tail, place in zip(tails, apart([tail.y for tail in tails], 15, last), strict=True):
        if abs(place - tail.y) > 4 and tail.x < right:
            parts.append(line(tail.x + 8, tail.y, right + 4, place, "leader"))
        parts.append(text(right + 8, place + 4, tail.label, f"label {tail.style}", "start"))
    return parts


def _names_below(tails: Sequence[_Tail], left: float, top: float) -> list[str]:
    parts = []
    for index, tail in enumerate(sorted(tails, key=lambda tail: tail.y)):
        place = top + 17 * index
        dot = f'<g class="{tail.style}">{_dot(tail.hue, left, place - 4)}</g>'
        parts.append(dot + text(left + 12, place, tail.label, f"label {tail.style}", "start"))
    return parts


def _words(point: Point) -> str:
    interval = f" [{point.interval[0]:.2f}, {point.interval[1]:.2f}]" if point.interval else ""
    return f"{point.y:.2f}{TIMES}{interval}"


def _dot(hue: int, x: float, y: float) -> str:
    """Another shape for every hue, so that they differ without colour too."""
    shape = hue % HUES
    if shape == 0:
        return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    outlines = {
        1: ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        2: ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
        3: ((0, -5), (5, 4), (-5, 4)),
        4: ((0, 5), (5, -4), (-5, -4)),
        5: ((-5, -2), (-2, -5), (2, -5), (5, -2), (5, 2), (2, 5), (-2, 5), (-5, 2)),
    }
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in outlines[shape])
    return f'<polygon class="dot" points="{path}"/>'
