"""report.html in a real browser: it opens offline, its charts are there, no script fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgespec.bench.page import render_page
from edgespec.bench.report import build_report, verdict_parts
from edgespec.bench.rows import Line, Row

MakeLines = Callable[..., list[Line]]
GAINS = {"plain-default": 0.7, "plain": 1.0, "draft-g1": 1.2, "draft-g3": 1.5, "lookup": 0.9}
BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge"
)  # fmt: skip


def find_browser() -> str:
    named = os.environ.get("CHROME")
    found = named if named and Path(named).is_file() else next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        places = [Path(os.environ.get(base, "")) for base in ("PROGRAMFILES", "PROGRAMFILES(X86)")]
        places = [place / "Microsoft" / "Edge" / "Application" / "msedge.exe" for place in places]
        places.append(Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"))
        found = next((str(place) for place in places if place.is_file()), None)
    if found is None:
        pytest.fail(
            "no Chromium, Chrome or Edge was found to open report.html with: install one (Debian and Ubuntu: apt-get "
            "install chromium) or name its program in the environment variable CHROME"
        )
    return found


def dump_dom(page: Path, profile: Path) -> str:
    """The page's DOM after its scripts ran."""
    result = subprocess.run(
        [
            find_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, timeout=300, check=True,
    )  # fmt: skip
    return result.stdout.decode("utf-8", "replace")


@pytest.fixture
def lines(make_lines: MakeLines) -> list[Line]:
    shapes = {"draft-g1": ([1, 2, 2, 2, 2, 1], 1), "draft-g3": ([1, 4, 3, 2], 3)}
    found = make_lines(
        GAINS,
        noise=0.05,
        modes=["plain", "draft", "lookup"],
        settings="f32",
        candidates={"default": {}, "f32": {"INFERENCE_PRECISION_HINT": "f32"}},
    )
    result: list[Line] = []
    for line in found:
        if isinstance(line, Row) and line.arm in shapes:
            emitted, gamma = shapes[line.arm]
            proposed = [0] + [gamma] * (len(emitted) - 1)
            accepted = [0] + [count - 1 for count in emitted[1:]]
            line = line.model_copy(update={"emitted": emitted, "proposed": proposed, "accepted": accepted})
        if line.phase == "passes":
            line = line.model_copy(update={"settings": "f32"})
        result.append(line)
    return result


def test_the_page_in_a_browser(lines: list[Line], tmp_path: Path) -> None:
    report = build_report(lines)
    page = tmp_path / "report.html"
    page.write_text(render_page(report), "utf-8")
    dom = dump_dom(page, tmp_path / "profile")
    assert 'data-script-errors="0"' in dom
    chart = re.search(r'<svg id="speedup-chart".*?</svg>', dom, re.S)
    assert chart
    assert chart.group().count('class="bar"') == len(GAINS)
    assert chart.group().count('class="whisker"') == 3 * (len(GAINS) - 1), (
        "a whisker and its two ends for each but plain"
    )
    assert 'class="one"' in chart.group()
    for name in ("gamma-chart", "category-chart", "alpha-chart", "ladder-chart"):
        assert f'<svg id="{name}"' in dom
    text = re.sub(r"<[^>]+>", "", dom)
    assert all(part and part in text for part in verdict_parts(report))


def test_a_script_error_would_be_seen(tmp_path: Path, lines: list[Line]) -> None:
    broken = render_page(build_report(lines)).replace("</main>", "</main><script>nothing.here();</script>")
    page = tmp_path / "broken.html"
    page.write_text(broken, "utf-8")
    assert 'data-script-errors="1"' in dump_dom(page, tmp_path / "profile")


def test_the_page_is_one_small_file_that_fetches_nothing(lines: list[Line]) -> None:
    text = render_page(build_report(lines))
    assert len(text.encode()) < 500_000
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", text)


def test_text_from_outside_is_escaped(lines: list[Line]) -> None:
    nasty = '</script><script>alert("x")</script>'
    header = lines[0].model_copy(update={"suite": nasty, "notes": [nasty]})
    text = render_page(build_report([header, *lines[1:]]))
    assert nasty not in text
    assert "&lt;/script&gt;&lt;script&gt;alert" in text


def test_a_page_of_nothing_still_stands(lines: list[Line]) -> None:
    text = render_page(build_report(lines[:1]))
    assert "Nothing was measured" in text
    assert "nan" not in text.lower().replace("finance", "")
