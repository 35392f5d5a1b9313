"""The plan's charts: the surface over alpha and gamma as a grid of cells, break-even and best gamma drawn over it.

Colours come from the style sheet: the further above 1 the more of `faster`, the further below the more of `slower`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgespec.page.drawing import SLIM, TIMES, WIDTH, box, fitting, group, line, svg, text

STYLE = """\
svg .gain-1 .cell { fill: rgb(var(--faster-rgb) / .10); } svg .gain-2 .cell { fill: rgb(var(--faster-rgb) / .22); }
svg .gain-3 .cell { fill: rgb(var(--faster-rgb) / .36); } svg .gain-4 .cell { fill: rgb(var(--faster-rgb) / .52); }
svg .loss-1 .cell { fill: rgb(var(--slower-rgb) / .10); } svg .loss-2 .cell { fill: rgb(var(--slower-rgb) / .24); }
svg .loss-3 .cell { fill: rgb(var(--slower-rgb) / .38); } svg .loss-4 .cell { fill: rgb(var(--slower-rgb) / .54); }
svg .even .cell { fill: rgb(var(--band) / .06); }
svg .figure { font-size: 11.5px; pointer-events: none; } svg .best .cell { stroke: var(--ink); stroke-width: 1.6; }
svg .figure.best { font-weight: 600; }
svg .breakeven { fill: none; stroke: var(--ink); stroke-width: 2; stroke-dasharray: 6 4; }
svg .placed { stroke: var(--hue-2); stroke-width: 2; } svg .placed-name { fill: var(--hue-2); }
"""


@dataclass(frozen=True)
class Place:
    """A measured or published acceptance on the map: an upright line at `alpha`."""

    alpha: float
    name: str


def shade(value: float) -> str:
    """The CSS class of a speed-up."""
    if abs(value - 1) < 0.005:
        return "even"
    steps = (1.25, 1.6, 2.2) if value > 1 else (1 / 0.9, 1 / 0.75, 1 / 0.6)
    size = value if value > 1 else 1 / value
    return f"{'gain' if value > 1 else 'loss'}-{1 + sum(size > step for step in steps)}"


def surface(
    columns: Sequence[float],
    rows: Sequence[tuple[str, Sequence[float]]],
    *,
    name: str,
    title: str,
    axis: str,
    side: str,
    line_at: Sequence[float | None] = (),
    places: Sequence[Place] = (),
    notes: Callable[[int, int], str] | None = None,
    slim: bool = False,
) -> str:
    """Cells of speed-ups: rows from the top, each with its label; the best of each column framed.

    line_at: by row, the column value where break-even lies, drawn as a line through the cells; None: nowhere. notes:
    more about the cell (row, column), told when the pointer rests on it. slim: every other column, for a narrow page.
    """
    if not rows or len(columns) < 2:
        return ""
    shown = (
        list(range(0, len(columns), 3 if len(columns) > 12 else 2))
        if slim and len(columns) > 8
        else list(range(len(columns)))
    )
    width = SLIM if slim else WIDTH
    left, high, head = (48.0, 26.0, 16.0 + 15.0 * len(places)) if slim else (74.0, 28.0, 16.0 + 15.0 * len(places))
    wide = (width - left - 8) / len(shown)
    bottom = head + high * len(rows)
    best = {
        column: max(range(len(rows)), key=lambda row: rows[row][1][column])
        for column in shown
        if max(values[column] for _, values in rows) > 1.005
    }

    def x(value: float) -> float:
        """Of a column's value: cells' middles are at the shown columns."""
        step = columns[shown[1]] - columns[shown[0]]
        return left + wide * ((value - columns[shown[0]]) / step + 0.5)

    parts, figures = [], []
    for row, (label, values) in enumerate(rows):
        top = head + high * row
        parts.append(text(left - 10, top + high / 2 + 4, label, "tick", "end"))
        for place, column in enumerate(shown):
            value = values[column]
            more = f"; {notes(row, column)}" if notes else ""
            framed = " best" if best.get(column) == row else ""
            figures.append(
                text(left + wide * (place + 0.5), top + high / 2 + 4, f"{value:.2f}", f"figure{framed}", "middle")
            )
            cell = [box(left + wide * place + 1, top + 1, wide - 2, high - 2, "cell")]
            hint = f"{side} {label}, {axis} {columns[column]:g}: {value:.2f}{TIMES}{more}"
            parts.append(group(f"{shade(value)}{framed}", hint, cell))
    for place, column in enumerate(shown):
        parts.append(text(left + wide * (place + 0.5), bottom + 18, f"{columns[column]:g}", "tick", "middle"))
    parts.append(text(left + wide * len(shown) / 2, bottom + 38, axis, "tick", "middle"))
    parts.append(text(2.0, head - 6, side, "tick", "start"))
    path = []
    for row, at in enumerate(line_at):
        if at is not None:
            here = min(max(x(at), left), width - 8)
            path += [f"{here:.1f},{head + high * row:.1f}", f"{here:.1f},{head + high * (row + 1):.1f}"]
    if path:
        parts.append(f'<polyline class="breakeven" points="{" ".join(path)}"><title>break-even</title></polyline>')
    for index, found in enumerate(places):
        here, top = x(found.alpha), 12 + 15.0 * index
        if left <= here <= width - 8:
            parts.append(line(here, top + 3, here, bottom, "placed"))
            right = here < left + wide * len(shown) / 2
            room = (width - here if right else here) - 12
            words = fitting(f"{found.name}, {found.alpha:.2f}", room)
            parts.append(text(here + (6 if right else -6), top + 1, words, "placed-name", "start" if right else "end"))
    parts += figures
    told = "; ".join(
        f"{side} {label}: best {max(values):.2f}{TIMES} at {axis} "
        f"{columns[max(range(len(values)), key=values.__getitem__)]:g}"
        for label, values in rows
        if not math.isnan(max(values))
    )
    return svg(f"{name}-slim" if slim else name, title, bottom + 46, parts, told=told, width=width)
