"""plan.html: the answers for people, one file that opens offline, in light and dark, and prints.

charts.py     the surface over alpha and gamma
sections.py   ranking, maps, trees, validation, training
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgespec.page.document import render_document
from edgespec.page.markup import DOT, Html, contents, listed, text
from edgespec.staging import write_atomically

from ..answers import sentences
from . import charts
from .sections import costs, maps, price, ranking, trees, validation

PAGE, DOCUMENT = "plan.html", "plan.json"


def write_results(folder: Path, document: Mapping[str, Any]) -> Path:
    """Write plan.json and plan.html into `folder`, and return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / DOCUMENT, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_atomically(folder / PAGE, render_page(document))
    return folder / PAGE


def render_page(document: Mapping[str, Any]) -> str:
    """The whole page, from the document alone."""
    sections = {
        "Ranking": ranking(document),
        "Maps": maps(document),
        "Chains and trees": trees(document),
        "Predicted and measured": validation(document),
        "Time and memory": costs(document),
        "Training": price(document),
    }
    target = document["target"]
    title = f"twins of {target['shape']}: edgespec plan"
    body = [_banner(document), _head(document), contents(sections), *sections.values()]
    return render_document(title, [part for part in body if part], document, "plan", charts.STYLE)


def _banner(document: Mapping[str, Any]) -> Html:
    target = document["target"]["shape"]
    drafts = [draft["shape"] for draft in document["drafts"]]
    return Html(
        '<div class="banner" role="note"><strong>Figures of twins, not of trained models.</strong> '
        f"{text(listed([target, *drafts]))} stand here for shapes: random weights, with an acceptance that was set. "
        "Times, memory and the gain at an acceptance hold for the shape; what a trained draft is accepted is not "
        "known from them.</div>"
    )


def _head(document: Mapping[str, Any]) -> Html:
    said = sentences(document)
    target = document["target"]
    facts = [
        f"{target['shape']} {target['precision']}",
        document["device"],
        document["machine"].get("cpu"),
        f"settings {document['settings']}",
        str(document["at"])[:10],
    ]
    line = f" {DOT} ".join(str(fact) for fact in facts if fact)
    answers = "".join(f"<li>{text(sentence)}</li>" for sentence in said[2:])
    headline = text(said[1]) if len(said) > 1 else text("No draft was planned")
    return Html(
        f'<header><p class="eyebrow">edgespec plan</p><h1>{headline}</h1><p '
        f'class="against">{text(said[0] if said else "")}'
        f'</p><p class="facts">{text(line)}</p><ul>{answers}</ul></header>'
    )
