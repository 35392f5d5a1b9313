"""The page's building blocks: text that is escaped unless it is markup already, tables, sections, and how figures are
written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .drawing import TIMES

DASH, ARROW, DOT = "\u2013", "\u2192", "\u00b7"


class Html(str):
    """Markup. Every other text goes through `text` before it is on the page."""

    __slots__ = ()


def text(value: object) -> Html:
    """`value` as markup: escaped, unless it is markup already."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def joined(parts: Iterable[object]) -> Html:
    return Html("".join(text(part) for part in parts))


def number(value: float | None, form: str = ".2f", unit: str = "") -> str:
    return DASH if value is None else f"{value:{form}}{unit}"


def ratio(found: Mapping[str, Any] | None) -> str:
    """A speed-up with its interval: 1.62× [1.50, 1.74]."""
    if found is None or found["geomean"] is None:
        return DASH
    interval = f" [{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}]" if found["ci95"] else ""
    return f"{found['geomean']:.2f}{TIMES}{interval}"


def pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return (interval[0], interval[1]) if interval else None


def listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def kind(verdict: str | None) -> str:
    """The CSS class of a verdict."""
    return {"faster": "faster", "slower": "slower", "reference": "reference"}.get(verdict or "", "unsure")


def table(columns: Sequence[object], rows: Iterable[Sequence[object]], style: str = "", about: str = "") -> Html:
    """ "" without rows. The first cell of a row is its heading. A cell that is markup and begins with <td stands as it
    is. style: CSS class; about: what the table is, for those who hear the page."""
    lines = []
    for row in rows:
        head, *cells = map(text, row)
        drawn = "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{head}</th>{drawn}</tr>')
    if not lines:
        return Html()
    heads = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    named = f' class="{style}"' if style else ""
    label = f' aria-label="{text(about)}"' if about else ""
    return scrolled(
        f"<table{named}{label}><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>", about or "table"
    )


def scrolled(content: str, about: str) -> Html:
    """Wide content in a frame of its own, which the keyboard can scroll too."""
    return Html(f'<div class="scroll" tabindex="0" role="group" aria-label="{text(about)}">{content}</div>')


def figure(draw: Callable[..., str], *what: object, **how: object) -> Html:
    """A chart that `draw` makes, for a wide page and for a slim one, of which the style sheet shows one; "" for a chart
    that could not be drawn."""
    wide, slim = (draw(*what, **how, slim=slim) for slim in (False, True))
    return Html(f'<div class="chart wide">{wide}</div><div class="chart slim">{slim}</div>') if wide else Html()


def lead(words: object) -> Html:
    return Html(f'<p class="lead">{text(words)}</p>') if words else Html()


def bullets(words: Iterable[object]) -> Html:
    items = "".join(f"<li>{text(word)}</li>" for word in words)
    return Html(f"<ul>{items}</ul>") if items else Html()


def terms(facts: Iterable[tuple[str, object]]) -> Html:
    return Html("<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(fact)}</dd>" for name, fact in facts) + "</dl>")


def folded(summary: str, content: Html) -> Html:
    return Html(f"<details><summary>{text(summary)}</summary>{content}</details>") if content else Html()


def part(title: str, words: object, *content: Html) -> Html:
    """A part of a section, kept together on paper; "" when it has no content."""
    inside = "".join(content)
    return Html(f'<div class="part"><h3>{text(title)}</h3>{lead(words)}{inside}</div>') if inside else Html()


def section(name: str, title: str, words: object, *content: Html) -> Html:
    """A section with its anchor; "" when it has no content."""
    inside = "".join(content)
    if not inside:
        return Html()
    return Html(f'<section id="{name}"><h2>{text(title)}</h2>{lead(words)}{inside}</section>')


def contents(sections: Mapping[str, Html]) -> Html:
    """Links to the sections that are there, by title."""
    links = []
    for title, content in sections.items():
        if content:
            name = content.removeprefix('<section id="').partition('"')[0]
            links.append(f'<a href="#{name}">{text(title)}</a>')
    return Html(f'<nav aria-label="contents">{"".join(links)}</nav>')
