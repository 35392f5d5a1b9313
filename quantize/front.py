"""The Pareto front of a sweep, and a drawing of it: one SVG, readable without a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 820, 460, 70, 60, 70, 30
_Place = Callable[[float], float]
"""From a value to where it is drawn."""


@dataclass(frozen=True)
class Point:
    """A combination of formats. ms_per_token: with speculation; kl: of the target, nats a token. label: target +
    draft."""

    label: str
    ms_per_token: float
    kl: float
    on_front: bool = False
    winner: bool = False


def front_of(costs: Sequence[tuple[float, ...]]) -> list[bool]:
    """For each tuple of costs (less is better): is there no other that is as good in all and better in one?"""
    return [
        not any(all(b <= a for a, b in zip(mine, other, strict=True)) and other != mine for other in costs)
        for mine in costs
    ]


def drawing(points: Sequence[Point], title: str) -> str:
    """The points as one <svg>: left is faster, down is closer to the uncompressed target; the front is a staircase,
    because nothing lies between two of its points."""
    across = _scale([point.ms_per_token for point in points], _LEFT, _WIDTH - _RIGHT)
    down = _scale([point.kl for point in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="24" font-size="15" font-weight="600">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="42" fill="#555">green: nothing is faster and closer; grey: something is both</text>',
        *_axes(points, across, down),
        _staircase([point for point in points if point.on_front], across, down),
        *_marks(points, across, down),
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def _axes(points: Sequence[Point], across: _Place, down: _Place) -> list[str]:
    parts = []
    for value in _ticks([point.ms_per_token for point in points]):
        x = across(value)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_HEIGHT - _BOTTOM}" stroke="#e4e4e4"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" fill="#555">{value:g}</text>'
        )
    for value in _ticks([point.kl for point in points]):
        y = down(value)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{value:g}</text>')
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 16}" text-anchor="middle">'
        "ms a token with speculation (left is faster)</text>"
    )
    parts.append(
        f'<text transform="translate(18 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        "KL to the uncompressed target, nats a token (down is closer)</text>"
    )
    return parts


def _staircase(front: Sequence[Point], across: _Place, down: _Place) -> str:
    corners: list[str] = []
    height: float | None = None
    for point in sorted(front, key=lambda point: (point.ms_per_token, point.kl)):
        x, y = across(point.ms_per_token), down(point.kl)
        corners += [f"{x:.1f},{height:.1f}"] if height is not None else []
        corners.append(f"{x:.1f},{y:.1f}")
        height = y
    return f'<polyline points="{" ".join(corners)}" fill="none" stroke="#0a7d4f" stroke-width="2"/>'


def _marks(points: Sequence[Point], across: _Place, down: _Place) -> list[str]:
    """A circle for each point; those of the front with their names, led to where the names would cover another."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point.winner, point.on_front)):  # the winner on top
        x, y = across(point.ms_per_token), down(point.kl)
        colour = "#0a7d4f" if point.on_front else "#9a9a9a"
        told = f"{escape(point.label)}: {point.ms_per_token:.2f} ms, KL {point.kl:.4f}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{8 if point.winner else 5}" fill="{colour}">'
            f"<title>{told}</title></circle>"
        )
    for point in sorted(points, key=lambda point: (not point.winner, point.ms_per_token)):
        if not point.on_front and not point.winner:
            continue
        x, y = across(point.ms_per_token), down(point.kl)
        label = escape(point.label) + (" (kept)" if point.winner else "")
        place = y - 14
        while any(abs(place - other) < 15 and abs(x - where) < 230 for where, other in taken):
            place -= 15
        taken.append((x, place))
        if place < y - 14:
            parts.append(f'<line x1="{x:.1f}" y1="{y - 6:.1f}" x2="{x:.1f}" y2="{place + 3:.1f}" stroke="#0a7d4f"/>')
        anchor, shift = ("end", -4) if x > _WIDTH * 0.6 else ("start", 4)
        parts.append(f'<text x="{x + shift:.1f}" y="{place:.1f}" text-anchor="{anchor}" fill="#222">{label}</text>')
    return parts


def _scale(values: Sequence[float], start: float, end: float) -> _Place:
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or max(abs(high), 1e-6) * 0.1
    low, high = low - room, high + room
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(values: Sequence[float]) -> list[float]:
    """Three to eight round numbers within the values."""
    low, high = min(values), max(values)
    span = (high - low) or max(abs(high), 1e-6)
    power = 10.0
    while power > span:
        power /= 10
    step = next(
        power * times for times in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1e3, 1e4) if span / (power * times) <= 7
    )
    first = int(low / step)
    return [
        round(step * n, 12) for n in range(first, first + 10) if low - span * 0.05 <= step * n <= high + span * 0.05
    ]
