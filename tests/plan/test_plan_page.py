"""plan.html and the sentences: every figure is there, of twins, and the page stands on its own."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import scripted

from edgespec.plan import render_page, sentences, write_results
from edgespec.plan.acceptance_file import Profile
from edgespec.plan.page.charts import Place, shade, surface


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return scripted.document()


def test_the_page_is_whole_and_needs_nothing_else(document: dict[str, Any], tmp_path: Path) -> None:
    page = write_results(tmp_path / "plan", document).read_text(encoding="utf-8")
    assert json.loads((tmp_path / "plan" / "plan.json").read_text(encoding="utf-8")) == document
    assert not re.search(r'(src|href)="(?!#)', page) and "@import" not in page and "url(" not in page
    assert "prefers-color-scheme: dark" in page
    for section in ("ranking", "maps", "trees", "validation", "costs", "training"):
        assert f'<section id="{section}">' in page and f'href="#{section}"' in page
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing)
    held = re.search(r'<script type="application/json" id="plan">(.*?)</script>', page, re.DOTALL)
    assert held is not None and json.loads(held[1]) == document


class _Balanced(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "line", "rect", "polyline", "polygon", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "rect", "polyline", "polygon", "circle"):
            assert self.open.pop() == tag


def test_its_elements_are_balanced(document: dict[str, Any]) -> None:
    parser = _Balanced()
    parser.feed(render_page(document))
    assert not parser.open


def test_twins_are_called_twins_wherever_figures_stand(document: dict[str, Any]) -> None:
    page = render_page(document)
    assert "Figures of twins, not of trained models." in page and document["twins"] is True
    assert sentences(document)[0].startswith("Measured with twins")
    for name in scripted.SHAPES:
        assert f'<th scope="row">{name} (twin)</th>' in page and f"<h3>{name} (twin)</h3>" in page
    for title in re.findall(r'<svg[^>]*aria-label="([^":]*)', page):
        assert "twin" in title, title


def test_a_name_from_outside_is_text(document: dict[str, Any]) -> None:
    evil = Profile("<script>alert(1)</script>", 3, 0.5, (), 0.7)
    page = render_page(scripted.document(profiles=[evil]))
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page


def test_words_without_hardware_memory_or_a_gain() -> None:
    said = " ".join(sentences(scripted.document(memory_bytes=None, hardware=None)))
    assert "Within" not in said and "hours" not in said and "FLOPs; each" in said
    nothing = " ".join(sentences(scripted.document(memory_bytes=1_000_000_000)))
    assert "Nothing fits in 1 GB: the smallest pair takes 4." in nothing
    assert sentences(scripted.document() | {"drafts": []}) == []


def test_a_cell_is_shaded_by_its_gain_and_the_best_of_a_column_is_framed() -> None:
    assert [shade(value) for value in (1.0, 1.1, 1.3, 2.0, 3.0)] == ["even", "gain-1", "gain-2", "gain-3", "gain-4"]
    assert [shade(value) for value in (0.95, 0.8, 0.7, 0.4)] == ["loss-1", "loss-2", "loss-3", "loss-4"]
    drawn = surface(
        [0.2, 0.4],
        [("2", [0.9, 1.5]), ("1", [1.2, 1.4])],
        name="m", title="twin", axis="alpha", side="gamma", line_at=[0.25, None], places=[Place(0.3, "here")],
    )  # fmt: skip
    framed = re.findall(r'<g class="[a-z0-9-]+ best"><title>([^<]*)', drawn)
    assert framed == ["gamma 2, alpha 0.4: 1.50×", "gamma 1, alpha 0.2: 1.20×"]
    assert 'class="breakeven"' in drawn and "here, 0.30" in drawn
    assert surface([0.2], [("1", [1.0])], name="m", title="t", axis="a", side="g") == ""
