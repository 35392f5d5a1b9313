"""What a recipe came to: train.html, one file that opens offline, in light and dark; and stages.csv, acceptance.csv.

Curves are drawn here, as SVG, from the metrics that training wrote; nothing is fetched and nothing is scripted.
"""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.staging import write_atomically

from .metrics import EVALUATIONS, METRICS, read_curve
from .stages import STAMP, stage_facts

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 34
_COLOURS = ("#2a6fdb", "#d1602b", "#2c9a62", "#9a4fc4", "#b58900")
_CURVES = ("loss", "heldout_loss", "overlap", "acceptance_rate_t0.6", "acceptance_rate_t0")
_FACTS = ("parameters", "tokens", "answers", "seconds", "tokens_per_second", "heldout_loss", "bytes")


@dataclass(frozen=True)
class Curve:
    """(x, y) points under a name."""

    name: str
    points: Sequence[tuple[float, float]]


def write_page(work: Path, stages: Sequence[str], title: str) -> Path:
    """Write the page and the two CSV files into `work` from what the finished `stages` recorded; the page's path."""
    facts = {name: stage_facts(work / name) for name in stages if (work / name / STAMP).is_file()}
    write_atomically(work / "stages.csv", _csv(["stage", *_FACTS], stage_rows(facts)))
    acceptance = acceptance_rows(facts.get("evaluate", {}))
    head = ["draft", "temperature", "task", "acceptance_rate", "low", "high", "alpha", "block_efficiency", "mbsu"]
    write_atomically(work / "acceptance.csv", _csv(head, acceptance))
    parts = [_table("Stages", *_without_empty(["stage", *_FACTS], stage_rows(facts)))]
    if acceptance:
        parts.append(_acceptance(facts["evaluate"]["drafts"]))
    for name in facts:
        parts += _curves(work / name, name)
    page = work / "train.html"
    write_atomically(page, _PAGE.format(title=html.escape(title), body="\n".join(parts)))
    return page


def stage_rows(facts: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """A row a stage; None where it has no such figure."""
    return [[name, *(known.get(column) for column in _FACTS)] for name, known in facts.items()]


def _without_empty(head: Sequence[str], rows: list[list[Any]]) -> tuple[list[str], list[list[Any]]]:
    """The table without columns that hold nothing."""
    kept = [place for place in range(len(head)) if any(row[place] is not None for row in rows)]
    return [head[place] for place in kept], [[row[place] for place in kept] for row in rows]


def acceptance_rows(evaluated: Mapping[str, Any]) -> list[list[Any]]:
    """A row for each draft, temperature and task, all tasks together first."""
    rows = []
    for draft, documents in evaluated.get("drafts", {}).items():
        for document in documents:
            for task, figures in [("all", document), *document["by_task"].items()]:
                low, high = figures["acceptance_ci95"] or (None, None)
                alphas = " ".join("" if alpha is None else f"{alpha:.4f}" for alpha in figures["alpha"])
                rate, tau = figures["acceptance_rate"], figures["block_efficiency"]
                head = (draft, document["temperature"], task)
                rows.append([*head, rate, low, high, alphas, tau, figures["mbsu"]])
    return rows


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    return text.getvalue()


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    heads = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{_shown(value)}</td>" for value in row) + "</tr>" for row in rows)
    return (
        f"<section><h2>{html.escape(title)}</h2><div class=wide><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _shown(value: Any) -> str:
    if value is None:
        return "&ndash;"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return html.escape(str(value))


def _acceptance(drafts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Acceptance rate with its interval, by task and draft: the papers' table."""
    names = list(drafts)
    parts = []
    for place, first in enumerate(drafts[names[0]]):
        tasks = ["all", *first["by_task"]]
        rows = []
        for task in tasks:
            row = [task]
            for name in names:
                document = drafts[name][place]
                figures = document if task == "all" else document["by_task"].get(task, {})
                rate, interval = figures.get("acceptance_rate"), figures.get("acceptance_ci95")
                shown = "unknown" if rate is None else f"{rate:.3f}"
                row.append(shown + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""))
            rows.append(row)
        title = f"Acceptance rate at gamma {first['gamma']}, temperature {first['temperature']:g}"
        parts.append(_table(title, ["task", *names], rows))
    return "\n".join(parts)


def _curves(folder: Path, stage: str) -> list[str]:
    """What a training stage's metrics show: losses together, shares (0 to 1) together."""
    if not (folder / METRICS).is_file():
        return []
    known = [Curve(name, read_curve(folder, name)) for name in _CURVES if name in _names(folder)]
    known = [curve for curve in known if curve.points]
    losses = [curve for curve in known if "loss" in curve.name]
    shares = [curve for curve in known if "loss" not in curve.name]
    parts = []
    for title, curves in ((f"{stage}: loss, nats a token", losses), (f"{stage}: overlap and acceptance", shares)):
        if curves:
            parts.append(f"<section><h2>{html.escape(title)}</h2>{draw(curves, 'optimizer step')}</section>")
    return parts


def _names(folder: Path) -> set[str]:
    """Columns of metrics.csv and names in evaluations.csv."""
    with (folder / METRICS).open(encoding="utf-8", newline="") as file:
        names = set(next(csv.reader(file), []))
    if (folder / EVALUATIONS).is_file():
        with (folder / EVALUATIONS).open(encoding="utf-8", newline="") as file:
            names |= {row["name"] for row in csv.DictReader(file)}
    return names


def draw(curves: Sequence[Curve], x_title: str) -> str:
    """An SVG of `curves` on shared axes, with a legend. Curves of over 400 points are thinned by averaging."""
    shown = [Curve(curve.name, _thinned(curve.points)) for curve in curves]
    xs = [x for curve in shown for x, _ in curve.points]
    ys = [y for curve in shown for _, y in curve.points]
    x_ticks, y_ticks = ticks(0, max(xs)), ticks(min(ys), max(ys))
    low_x, high_x = x_ticks[0], max(x_ticks[-1], max(xs))
    low_y, high_y = min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys))

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - low_x) / (high_x - low_x or 1) * (WIDTH - _LEFT - _RIGHT)
        down = HEIGHT - _BOTTOM - (y - low_y) / (high_y - low_y or 1) * (HEIGHT - _TOP - _BOTTOM)
        return round(across, 1), round(down, 1)

    parts = []
    for tick in y_ticks:
        _, y = at(low_x, tick)
        parts.append(f'<line class=grid x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x, _ = at(tick, low_y)
        parts.append(f'<text x="{x}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">{html.escape(x_title)}</text>')
    legend = []
    for curve, colour in zip(shown, _COLOURS, strict=False):
        points = " ".join(f"{x},{y}" for x, y in (at(*point) for point in curve.points))
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{points}"/>')
        if len(curve.points) < 40:
            parts += [f'<circle r="2.6" fill="{colour}" cx="{x}" cy="{y}"/>' for x, y in (at(*p) for p in curve.points)]
        last = curve.points[-1][1]
        legend.append(f'<span><i style="background:{colour}"></i>{html.escape(curve.name)} {last:.3f}</span>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(x_title)}">{"".join(parts)}</svg>'
        f"<p class=legend>{''.join(legend)}</p>"
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from at most `low` on, to at least `high`, at most `most` steps apart."""
    span = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= most:
            step *= factor
            break
    start = math.floor(low / step + 1e-9)
    return [round(number * step, 12) for number in range(start, math.ceil(high / step - 1e-9) + 1)]


def _thinned(points: Sequence[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    size = -(-len(points) // most)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --ink: #1c2430; --soft: #5b6675; --line: #dbe1e8; --back: #fbfcfd; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6eaf0; --soft: #98a3b3; --line: #303947; --back: #12161c; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }} h2 {{ font-size: 1.05rem; margin: 2rem 0 .5rem; }}
.wide {{ overflow-x: auto; }} table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }}
th {{ color: var(--soft); font-weight: 500; }} th:first-child, td:first-child {{ text-align: left; }}
svg {{ width: 100%; height: auto; }} svg text {{ fill: var(--soft); font-size: 11px; }}
.grid {{ stroke: var(--line); }}
.legend span {{ margin-right: 1.2rem; color: var(--soft); }} .legend i {{ display: inline-block; width: .8rem;
  height: .2rem; margin-right: .4rem; vertical-align: middle; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
