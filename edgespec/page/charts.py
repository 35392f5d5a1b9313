"""The page's bars: horizontal with whiskers, stacked, falling, and columns.

Every function takes plain numbers and returns one <svg>; what cannot be drawn gives "", and the page leaves it out.
slim: the drawing for a page as narrow as a phone, where letters would be too small otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from . import drawing
from .drawing import SLIM, TIMES, WIDTH, box, group, line, svg, text, ticks

LEAST_LABEL, MOST_LABEL = 120.0, 240.0


@dataclass(frozen=True)
class Bar:
    """kind is a CSS class: faster, slower, unsure, reference, control. interval: drawn as a whisker. note: shown
    instead of the value."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    kind: str = "reference"
    note: str = ""


@dataclass(frozen=True)
class Mark:
    """A line across all bars at `value`; with `interval`, a band around it."""

    value: float
    label: str
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Stack:
    """parts: (CSS class, value) from the left, none negative. note: beside the whole."""

    label: str
    parts: Sequence[tuple[str, float]]
    note: str


@dataclass(frozen=True)
class Fall:
    """From the rung above down (or up) to `value`. kind: reference, or loss for the one to be seen first."""

    label: str
    value: float
    kind: str = "reference"
    note: str = ""


class _Rows:
    """Where a chart of rows has its bars, labels and notes: label, bar, note side by side; on a slim page label and
    note stand above the bar. head: room on top."""

    def __init__(self, labels: Sequence[str], notes: Sequence[str], head: float, slim: bool) -> None:
        self.slim = slim
        self.head = head
        self.width = SLIM if slim else WIDTH
        self.row = 46.0 if slim else 34.0
        self.left = 4.0 if slim else drawing.gutter(labels, LEAST_LABEL, MOST_LABEL)
        self.right = SLIM - 14 if slim else WIDTH - max(map(drawing.span, notes)) - 26
        self.bottom = head + self.row * len(labels)

    def bar(self, index: int) -> tuple[float, float]:
        """Top and height of a row's bar."""
        top = self.head + self.row * index
        return (top + 21, 17.0) if self.slim else (top + 8, 18.0)

    def words(self, index: int, label: str, note: str) -> str:
        top = self.head + self.row * index
        if self.slim:
            room = self.width - 12 - drawing.span(note)
            return drawing.text(self.left, top + 15, drawing.fitting(label, room), "label", "start") + drawing.text(
                self.width - 4, top + 15, note, "value", "end"
            )
        middle = top + self.row / 2
        return drawing.label(self.left - 12, middle, label, self.left - 16) + drawing.text(
            self.right + 14, middle + 4, note, "value", "start"
        )

    def grid(self, places: Sequence[tuple[float, str]]) -> list[str]:
        """Upright lines with their values below."""
        parts = []
        for place, words in places:
            parts.append(line(place, self.head - 2, place, self.bottom, "grid"))
            parts.append(text(place, self.bottom + 16, words, "tick", "middle" if place > 14 else "start"))
        return parts

    def mark(self, place: float, words: str) -> list[str]:
        """The line that the bars are read against, named on top, inside the chart's width."""
        half = drawing.span(words) / 2
        middle = min(max(place, half), self.width - half)
        return [
            line(place, self.head - 6, place, self.bottom, "one"),
            text(middle, self.head - 11, words, "tick", "middle"),
        ]

    def svg(self, name: str, title: str, parts: Sequence[str], told: Sequence[str]) -> str:
        named = f"{name}-slim" if self.slim else name
        return svg(named, title, self.bottom + 24, parts, told="; ".join(told), width=self.width)


def horizontal_bars(
    bars: Sequence[Bar],
    *,
    name: str,
    title: str,
    mark: Mark | None = None,
    form: str = ".2f",
    unit: str = TIMES,
    slim: bool = False,
) -> str:
    """Bars from zero with whiskers, each with its value."""
    values = [_value(bar, form, unit) for bar in bars]
    ends = [bar.interval[1] if bar.interval else bar.value for bar in bars]
    longest = max([bar.value for bar in bars] + ([mark.value] if mark else []), default=0.0)
    if not bars or longest <= 0:
        return ""
    limit = min(max([*ends, longest]), 1.8 * longest) * 1.04  # a whisker may leave the chart, the bars have to be seen
    rows = _Rows([bar.label for bar in bars], values, 24.0 if mark else 6.0, slim)

    def x(value: float) -> float:
        return rows.left + (rows.right - rows.left) * min(max(value, 0.0), limit) / limit

    parts = []
    if mark and mark.interval:
        low, high = x(mark.interval[0]), x(mark.interval[1])
        parts.append(box(low, rows.head - 2, max(high - low, 1.5), rows.bottom - rows.head + 2, "band", 0))
    parts += rows.grid([(x(tick), f"{tick:g}{unit}") for tick in ticks(limit)])
    for index, (bar, value) in enumerate(zip(bars, values, strict=True)):
        top, height = rows.bar(index)
        middle = top + height / 2
        drawn = [box(rows.left, top, max(1.0, x(bar.value) - rows.left), height, "bar")]
        if bar.interval:
            low, high = x(bar.interval[0]), x(bar.interval[1])
            drawn.append(line(low, middle, high, middle, "whisker"))
            inside = [x(end) for end in bar.interval if end <= limit]
            drawn.extend(line(end, middle - 4, end, middle + 4, "whisker") for end in inside)
        parts.append(group(bar.kind, f"{bar.label}: {value}", drawn))
    if mark:
        parts += rows.mark(x(mark.value), mark.label)
    named = list(zip(bars, values, strict=True))
    parts += [rows.words(index, bar.label, value) for index, (bar, value) in enumerate(named)]  # above the line
    return rows.svg(name, title, parts, [f"{bar.label} {value}" for bar, value in named])


def _value(bar: Bar, form: str, unit: str) -> str:
    if bar.note:
        return bar.note
    shown = f"{bar.value:{form}}{unit}"
    return f"{shown} [{bar.interval[0]:{form}}, {bar.interval[1]:{form}}]" if bar.interval else shown


def stacked_bars(
    stacks: Sequence[Stack],
    *,
    name: str,
    title: str,
    key: Sequence[tuple[str, str]],
    unit: str,
    mark: Mark | None,
    slim: bool = False,
) -> str:
    """Bars made of parts, with what each weighs inside where there is room. key: (CSS class, meaning), shown on top."""
    stacks = [stack for stack in stacks if sum(value for _, value in stack.parts) > 0]
    if not stacks:
        return ""
    wholes = [sum(value for _, value in stack.parts) for stack in stacks]
    limit = max(wholes + ([mark.value] if mark else [])) * 1.04
    head = (34.0 if slim else 24.0) + (28 if mark else 8)
    rows = _Rows([stack.label for stack in stacks], [stack.note for stack in stacks], head, slim)

    def x(value: float) -> float:
        return rows.left + (rows.right - rows.left) * value / limit

    parts, place, top = [], rows.left, 2.0
    for kind, meaning in key:
        if place + drawing.span(meaning) > rows.width:
            place, top = rows.left, top + 17
        parts.append(f'<g class="{kind}">{box(place, top, 11, 11, "bar")}</g>')
        parts.append(text(place + 15, top + 10, meaning, "label", "start"))
        place += drawing.span(meaning) + (24 if slim else 38)
    parts += rows.grid([(x(tick), f"{tick:g}{unit}") for tick in ticks(limit)])
    if mark:  # below the bars, which have figures inside
        parts += rows.mark(x(mark.value), mark.label)
    told, meanings = [], dict(key)
    for index, stack in enumerate(stacks):
        top, height = rows.bar(index)
        at, drawn = 0.0, [rows.words(index, stack.label, stack.note)]
        for kind, value in stack.parts:
            width = x(at + value) - x(at)
            drawn.append(f'<g class="{kind}">{box(x(at), top - 1, width - 1, height + 2, "bar", 1)}</g>')
            shown = f"{value:.1f}"
            if width > drawing.span(shown) + 6:
                drawn.append(text(x(at) + width / 2, top + height / 2 + 4, shown, f"inside {kind}", "middle"))
            at += value
        words = ", ".join(f"{meanings[kind]} {value:.1f}" for kind, value in stack.parts)
        told.append(f"{stack.label} {words}")
        parts.append(group("stack", f"{stack.label}: {words}", drawn))
    return rows.svg(name, title, parts, told)


def falling_bars(falls: Sequence[Fall], *, name: str, title: str, one: str, slim: bool = False) -> str:
    """A way down, rung by rung: each bar spans from the rung above to its own value, on a logarithmic axis, so that
    equal lengths are equal factors. one: label of the line at 1."""
    values = [1.0, *(fall.value for fall in falls)]
    low, high = min(values), max(values)
    if len(falls) < 2 or high / low < 1.02:
        return ""
    low, high = low / (high / low) ** 0.04, high * (high / low) ** 0.04
    rows = _Rows([fall.label for fall in falls], [fall.note for fall in falls], 24.0, slim)

    def x(value: float) -> float:
        return rows.left + (rows.right - rows.left) * math.log(value / low) / math.log(high / low)

    marked = log_ticks_apart(low, high, rows.right - rows.left)
    parts = rows.grid([(x(tick), f"{tick:g}{TIMES}") for tick in marked])
    for index, fall in enumerate(falls):
        top, height = rows.bar(index)
        above = falls[index - 1].value if index else fall.value
        near, far = sorted((x(above), x(fall.value)))
        end = x(fall.value)
        drawn = [box(near, top + 1, max(far - near, 1.5), height - 2, "bar", 1)]
        drawn.append(line(end, top - 2, end, top + height + 2, "end"))
        if index + 1 < len(falls):
            drawn.append(line(end, top + height + 2, end, rows.bar(index + 1)[0] + 1, "step"))
        parts.append(group(fall.kind, f"{fall.label}: {fall.note}", drawn))
    parts += rows.mark(x(1), one)
    parts += [rows.words(index, fall.label, fall.note) for index, fall in enumerate(falls)]
    return rows.svg(name, title, parts, [f"{fall.label} {fall.note}" for fall in falls])


def log_ticks_apart(low: float, high: float, width: float) -> list[float]:
    """Ticks of a logarithmic axis `width` long, left out where two would touch."""
    kept: list[float] = []
    for tick in drawing.log_ticks(low, high):
        if not kept or width * math.log(tick / kept[-1]) / math.log(high / low) > 38:
            kept.append(tick)
    return kept


def columns(values: Sequence[float | None], *, name: str, title: str, axis: str, slim: bool = False) -> str:
    """One column per position, shares from 0 to 100 %; a position that is not known is left empty."""
    if not any(value is not None for value in values):
        return ""
    width, height, left, top, bottom = SLIM, 240.0, 44.0, 20.0, 190.0
    step = (width - left - 10) / max(len(values), 3)
    thick = min(46.0, step * 0.6)
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        place = bottom - (bottom - top) * tick
        parts.append(line(left, place, width - 10, place, "grid"))
        parts.append(text(left - 8, place + 4, f"{tick:.0%}", "tick", "end"))
    for index, value in enumerate(values):
        middle = left + step * (index + 0.5)
        parts.append(text(middle, bottom + 18, str(index + 1), "tick", "middle"))
        if value is None:
            continue
        tall = (bottom - top) * value
        column = box(middle - thick / 2, bottom - tall, thick, tall, "bar")
        parts.append(group("faster", f"position {index + 1}: {value:.1%}", [column]))
        parts.append(text(middle, bottom - tall - 6, f"{value:.0%}", "value", "middle"))
    parts.append(text((left + width - 10) / 2, bottom + 38, axis, "tick", "middle"))
    told = ", ".join("unknown" if value is None else f"{value:.0%}" for value in values)
    return svg(f"{name}-slim" if slim else name, title, height, parts, told=told, width=width)


def meter(value: float, limit: float, end: float | None = None) -> str:
    """A small bar for a table's cell, from 0 to `value` of `limit`; end: a thin line on to there. The cell says the
    figure, so the bar says nothing to those who hear the page."""
    width, height = 84.0, 10.0
    drawn = [box(0, 2, max(1.0, width * value / limit), height - 4, "bar", 1)]
    if end is not None:
        drawn.append(line(width * value / limit, height / 2, width * end / limit, height / 2, "whisker"))
        drawn.append(line(width * end / limit, 2, width * end / limit, height - 2, "whisker"))
    return f'<svg class="meter" viewBox="0 0 {width + 2:.0f} {height:.0f}" aria-hidden="true">{"".join(drawn)}</svg>'
