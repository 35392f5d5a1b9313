"""report.html: its numbers are the report's, its sections come and go with their data, and in a real browser it opens
offline, no script fails, no text of a chart is cut or covers another."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import headless
from full_run import TASKS, full_run
from hypothesis import given
from hypothesis import strategies as some

from edgespec.bench.page import render_page
from edgespec.bench.report import arm_label, build_report, verdict_parts
from edgespec.bench.rows import Line
from edgespec.page import drawing
from edgespec.page.charts import Bar, Fall, Mark, falling_bars, horizontal_bars
from edgespec.page.curves import Point, Series, curves
from edgespec.page.style import STYLE

MakeLines = Callable[..., list[Line]]
Report = dict[str, Any]
CHARTS = (
    "speedup", "task", "context", "turn", "repetition", "gamma", "alpha", "step", "ladder", "bandwidth",
)  # fmt: skip
SAMENESS = {
    "exact": {"draft-g3": {"matched": 8, "total": 8}},
    "batched_control": {"matched": 15, "total": 18},
    "gaps": [{"arm": "draft-g3", "case": "maths-01@1024", "position": 40, "logit_gap": 0.0125}],
    "error": None,
}
CHECK_LAYOUT = """
<script>
var found = [];
document.querySelectorAll("details").forEach(function (part) { part.open = true; });
document.querySelectorAll(".chart svg").forEach(function (svg) {
  var frame = svg.getBoundingClientRect();
  if (!frame.width) { return; }
  var texts = Array.prototype.map.call(svg.querySelectorAll("text"), function (text) {
    return [text.textContent, text.getBoundingClientRect()];
  });
  texts.forEach(function (one, i) {
    if (one[1].left < frame.left - 1 || one[1].right > frame.right + 1) { found.push(svg.id + " cuts " + one[0]); }
    texts.slice(i + 1).forEach(function (other) {
      var wide = Math.min(one[1].right, other[1].right) - Math.max(one[1].left, other[1].left);
      var tall = Math.min(one[1].bottom, other[1].bottom) - Math.max(one[1].top, other[1].top);
      if (wide > 1 && tall > 3) { found.push(svg.id + " covers " + one[0] + " with " + other[0]); }
    });
  });
});
var page = document.documentElement;
if (page.scrollWidth > page.clientWidth) { found.push("the page is wider than its window"); }
page.setAttribute("data-layout", JSON.stringify(found));
</script>
"""


def dump_dom(page: Path, profile: Path, width: int = 1100) -> str:
    """The page's DOM after its scripts ran, in a window `width` pixels wide (headless browsers give 500 at least)."""
    result = subprocess.run(
        headless(profile, width, 900, "--dump-dom", page.as_uri()), capture_output=True, timeout=300, check=True
    )
    return result.stdout.decode("utf-8", "replace")


class Tables(HTMLParser):
    """The page's tables by what they are about: rows of cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.rows = self.found[dict(attrs).get("aria-label") or ""] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True
        elif tag == "small":
            self.handle_data(" ")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def whole() -> Report:
    """A report on everything that can be measured; not to be changed."""
    lines = full_run(
        of_a_task=3,
        contexts=[1024, 4096],
        draft_devices=["CPU", "GPU"],
        modes=["plain", "control", "draft", "dynamic", "lookup", "native-draft", "native-recycling"],
        gammas=[1, 3],
        energy=True,
    )
    return build_report(lines) | {"sameness": SAMENESS}


@pytest.fixture
def report(whole: Report) -> Report:
    return copy.deepcopy(whole)


def arms_of(report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((arm_label(arm), arm) for arm in report["arms"])


def test_the_page_in_a_browser(report: Report, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_page(report).replace("</body>", f"{CHECK_LAYOUT}</body>"), "utf-8")
    for width, kind in ((1100, ""), (500, "-slim")):
        dom = dump_dom(page, tmp_path / "profile", width)
        assert 'data-script-errors="0"' in dom
        assert 'data-layout="[]"' in dom, re.findall(r'data-layout="[^"]*"', dom)
        for name in CHARTS:
            assert f'<svg id="{name}-chart{kind}"' in dom
    text = re.sub(r"<[^>]+>", "", dom)
    assert all(part and part in text for part in verdict_parts(report))


def test_a_text_that_covers_another_would_be_seen(tmp_path: Path) -> None:
    svg = drawing.svg("a-chart", "a", 60, [drawing.text(9, 9, "one", "label", "start")] * 2)
    page = tmp_path / "page.html"
    page.write_text(f'<html><body><div class="chart">{svg}</div>{CHECK_LAYOUT}</body></html>', "utf-8")
    assert "a-chart covers one with one" in dump_dom(page, tmp_path / "profile")


def test_a_script_error_would_be_seen(report: Report, tmp_path: Path) -> None:
    broken = render_page(report).replace("</main>", "</main><script>nothing.here();</script>")
    page = tmp_path / "broken.html"
    page.write_text(broken, "utf-8")
    assert 'data-script-errors="1"' in dump_dom(page, tmp_path / "profile")


def test_the_page_is_one_small_file_that_fetches_nothing(report: Report) -> None:
    text = render_page(report)
    assert len(text.encode()) < 500_000
    assert not re.search(r'src\s*=|href\s*=\s*"(?!#)|url\(|@import|https?://', text)
    linked = set(re.findall(r'href="#([^"]+)"', text))
    assert linked == set(re.findall(r'<section id="([^"]+)"', text))


def test_text_from_outside_is_escaped(report: Report) -> None:
    nasty = '</script><script>alert("x")</script>'
    report["prompts"]["suite"] = report["pair"]["target"]["source"] = nasty
    report["notes"] = [nasty]
    report["sameness"]["gaps"][0]["case"] = nasty
    for arm in report["arms"]:
        arm["by_category"] = {nasty if name == "chat" else name: group for name, group in arm["by_category"].items()}
    text = render_page(report)
    assert nasty not in text
    assert text.count("&lt;/script&gt;&lt;script&gt;alert") >= 4


def test_a_page_of_nothing_still_stands(make_lines: MakeLines) -> None:
    text = render_page(build_report(make_lines({"plain": 1.0})[:1]))
    assert "Nothing was measured" in text
    assert "nan" not in text.lower()
    assert set(re.findall(r'<section id="([^"]+)"', text)) == {"gain", "machine", "method"}


def test_the_arms_table_says_what_the_report_says(report: Report) -> None:
    rows = Tables(render_page(report)).found["arms"]
    assert rows[0][:4] == ["arm", "tokens/s", "speed-up [95 %]", "verdict"]
    assert len(rows) == 1 + len(report["arms"])
    for row, (label, arm) in zip(rows[1:], arms_of(report), strict=True):
        found = arm["speedup"]
        assert row[0] == label
        assert float(row[1]) == pytest.approx(arm["tokens_per_second"]["median"], abs=0.05)
        assert row[2].startswith(f"{found['geomean']:.2f}")
        if found["ci95"]:
            assert row[2].endswith("[{:.2f}, {:.2f}]".format(*found["ci95"]))
        assert row[3] == found["verdict"]


@pytest.mark.parametrize(
    ("key", "about", "groups"),
    [
        ("by_category", "speed-up by arm and task", set(TASKS)),
        ("by_context", "speed-up by arm and length of context", {"1024", "4096"}),
        ("by_turn", "speed-up by arm and turn", {"1", "2"}),
    ],
)
def test_every_group_of_every_arm_is_in_its_table(report: Report, key: str, about: str, groups: set[str]) -> None:
    head, *rows = Tables(render_page(report)).found[about]
    arms = {label: arm for label, arm in arms_of(report) if arm["name"] != "plain"}
    assert [row[0] for row in rows] == list(arms)
    names = {
        re.sub(r"\D", "", cell.split(" 3 prompts")[0].split(" 18 prompts")[0]) or cell.split()[0] for cell in head[1:]
    }
    assert names == groups
    for row in rows:
        shown = [f"{found['geomean']:.2f}" for found in arms[row[0]][key].values()]
        assert [cell.partition("\u00d7")[0] for cell in row[1:]] == shown
        ends = ["[{:.2f}, {:.2f}]".format(*found["ci95"]) for found in arms[row[0]][key].values()]
        assert [cell.split(" ", 1)[1] for cell in row[1:]] == ends


def test_only_what_differs_is_coloured(report: Report) -> None:
    page = render_page(report)
    cells = re.findall(r'<td class="cell([^"]*)" title="([^"]+)">', page)
    assert cells
    for style, verdict in cells:
        assert ("heat-" in style) == (verdict in ("faster", "slower"))
        assert verdict == "cannot tell" or verdict in style


def test_latency_memory_and_energy_are_the_reports(report: Report) -> None:
    head, *rows = Tables(render_page(report)).found["latency and memory"]
    assert head == ["arm", "TTFT ms", "p95", "TPOT ms", "p95", "peak memory, GB", "J a token"]
    for row, (label, arm) in zip(rows, arms_of(report), strict=True):
        figures = [
            f"{arm['ttft_ms']['median']:.0f}", f"{arm['ttft_ms']['p95']:.0f}", f"{arm['tpot_ms']['median']:.2f}",
            f"{arm['tpot_ms']['p95']:.2f}", f"{arm['peak_rss_bytes'] / 1e9:.2f}", f"{arm['energy_j_per_token']:.2f}",
        ]  # fmt: skip
        assert row == [label, *figures]


def test_energy_that_cannot_be_read_is_said_once(report: Report) -> None:
    for arm in report["arms"]:
        arm["energy_j_per_token"] = None
    page = render_page(report)
    assert page.count("not readable here") == 1
    assert "J a token" not in page


def test_a_steps_parts_tell_where_they_come_from(report: Report) -> None:
    head, *rows = Tables(render_page(report)).found["time of a step"]
    assert head[:6] == ["arm", "source", "step, ms", "target", "draft", "rest"]
    arms = dict(arms_of(report))
    by_arm = {row[0]: row for row in rows}
    time = arms["native draft gamma 3"]["step_time"]
    assert by_arm["native draft gamma 3"][1:6] == [
        "all measured", f"{sum(time.values()):.2f}", f"{time['verify_ms']:.2f}", f"{time['draft_ms']:.2f}",
        f"{time['other_ms']:.2f}",
    ]  # fmt: skip
    bound = arms["draft gamma 3"]["bound"]
    assert by_arm["draft gamma 3"][1:6] == [
        "parts estimated", f"{bound['iteration_ms']:.2f}", f"{bound['target_pass_ms']:.2f}",
        f"{bound['draft_passes_ms']:.2f}", f"{bound['overhead_ms']:.2f}",
    ]  # fmt: skip
    assert by_arm["prompt lookup"][1] == "not divided"


def test_the_ladders_shares_are_in_chart_and_words(report: Report) -> None:
    page = render_page(report)
    chart = re.search(r'<svg id="ladder-chart".*?</svg>', page, re.S)
    assert chart
    for rung in report["bound"]["ladder"]:
        assert f"{rung['speedup']:.2f}" in chart.group()
        if rung["share"] is not None:
            assert f"{rung['share']:.0%}" in chart.group()
    largest = max((rung["share"], rung["cause"]) for rung in report["bound"]["ladder"] if rung["share"] is not None)
    assert f"{largest[0]:.0%} goes to " in page
    assert largest[1] == report["bound"]["cause"]


def test_the_gamma_chart_has_a_measured_and_a_predicted_line_of_each_engine(report: Report) -> None:
    chart = re.search(r'<svg id="gamma-chart".*?</svg>', render_page(report), re.S)
    assert chart
    names = re.findall(r'<text class="label series[^"]*"[^>]*>([^<]+)<', chart.group())
    assert set(names) == {
        "genai, draft on CPU", "genai, draft on CPU, predicted", "genai, draft on GPU",
        "native, draft on CPU", "native, draft on CPU, predicted", "native, draft on GPU",
    }  # fmt: skip
    hues = re.findall(r'<text class="label series (hue-\d)(?: dashed)?"[^>]*>(\w+, draft on \w+)', chart.group())
    assert len(set(hues)) == 4, "a prediction has the colour of what it predicts, and engines differ"


def test_the_bandwidth_chart_shows_the_limit(report: Report) -> None:
    chart = re.search(r'<svg id="bandwidth-chart".*?</svg>', render_page(report), re.S)
    assert chart
    assert f"limit {report['bandwidth']['limit_gb_per_second']:.1f} GB/s" in chart.group()
    plain = next(arm for arm in report["arms"] if arm["name"] == "plain")
    assert f"{plain['weights_gb_per_second']:.1f} GB/s \u00b7 {plain['share_of_bandwidth_limit']:.0%}" in chart.group()
    report["bandwidth"] = {"limit_gb_per_second": None, "error": "no such device"}
    page = render_page(report)
    assert "limit was not measured: no such device" in page
    assert 'id="bandwidth-chart"' in page


def test_the_control_is_drawn_apart_with_its_band(report: Report) -> None:
    control = next(arm for arm in report["arms"] if arm["name"] == "plain-again")
    page = render_page(report)
    chart = re.search(r'<svg id="speedup-chart".*?</svg>', page, re.S)
    assert chart
    assert '<g class="control"><title>plain again, the control' in chart.group()
    assert 'class="band"' in chart.group()
    assert f"{control['speedup']['geomean']:.3f}\u00d7" in page
    report["arms"].remove(control)
    page = render_page(report)
    assert 'class="band"' not in page
    assert "drawn as an outline" not in page


@pytest.mark.parametrize(
    ("without", "gone"),
    [
        (lambda report: [arm.update(by_category={}) for arm in report["arms"]], "task-chart"),
        (lambda report: [arm.update(by_context={}) for arm in report["arms"]], "context-chart"),
        (lambda report: [arm.update(by_turn={}) for arm in report["arms"]], "turn-chart"),
        (lambda report: [arm.update(by_repetition={}) for arm in report["arms"]], "repetition-chart"),
        (lambda report: [arm.update(gamma=None) for arm in report["arms"]], "gamma-chart"),
        (lambda report: [arm.update(alpha=[]) for arm in report["arms"]], "alpha-chart"),
        (lambda report: [arm.update(step_time=None, bound=None) for arm in report["arms"]], "steps"),
        (lambda report: report.update(bound=None), "ladder-chart"),
        (lambda report: [arm.update(weights_gb_per_second=None) for arm in report["arms"]], "bandwidth-chart"),
        (lambda report: [arm.update(answers=0) for arm in report["arms"]], "costs"),
        (lambda report: report["settings"].update(candidates=[]), "settings"),
        (
            lambda report: report.update(sameness=None) or [arm.update(identical=None) for arm in report["arms"]],
            "sameness",
        ),
    ],
)
def test_what_was_not_measured_has_no_place(report: Report, without: Callable[[Report], Any], gone: str) -> None:
    assert f'id="{gone}"' in render_page(report)
    without(report)
    page = render_page(report)
    assert f'id="{gone}"' not in page
    assert f'href="#{gone}"' not in page
    assert "None" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_one_group_is_no_comparison(report: Report) -> None:
    for arm in report["arms"]:
        arm["by_category"] = {"chat": arm["by_category"]["chat"]}
    assert "task-chart" not in render_page(report)


def test_sameness_shows_what_was_checked(report: Report) -> None:
    tables = Tables(render_page(report)).found
    head, *rows = tables["identical answers"]
    assert head == ["arm", "identical", "at exact precision", "widest logit gap", "first difference"]
    by_arm = {row[0]: row for row in rows}
    assert by_arm["draft gamma 3"][2:4] == ["8 of 8", "0.0125"]
    assert by_arm["plain, all prompts in one batch (the control)"][1] == "15 of 18"
    assert tables["logit gaps"][1] == ["draft-g3", "maths-01@1024", "40", "0.0125"]
    report["sameness"] = {
        "exact": {},
        "batched_control": {"matched": None, "total": None},
        "gaps": [],
        "error": "no room",
    }
    page = render_page(report)
    head, *rows = Tables(page).found["identical answers"]
    assert head == ["arm", "identical", "first difference"]
    assert "The checks beside the timed rows failed: no room" in page
    assert not any("one batch" in row[0] for row in rows)


def test_twins_are_told_apart_at_once(report: Report) -> None:
    assert "of a twin" not in render_page(report)
    report["pair"]["draft"]["source"] = "twin:4x384 alpha=0.80"
    page = render_page(report)
    assert page.index("Figures of a twin, not of a trained model") < page.index("<h1>")
    assert "the draft is 4x384 alpha=0.80" in page


def test_the_method_is_told_as_it_was(report: Report) -> None:
    page = unescape(render_page(report))
    for words in (
        "18 prompts (suite tasks", "2 prompts of the suite were dropped", "1,024 and 4,096 tokens",
        "process of its own", "±3.0%", report["run"]["stopped_because"], "greedy",
        f"{report['conditions']['disturbed']['blocks_repeated']} blocks measured again",
        f"best of {report['headline']['arms_compared']} arms",
    ):  # fmt: skip
        assert words in page
    report["run"] |= {"sampling": {"temperature": 0.7, "top_k": 40, "top_p": 1.0}, "contexts": []}
    report["run"] |= {"stopped_because": None, "cases": 18}
    report["dropped_prompts"] = []
    page = render_page(report)
    assert "sampled (temperature 0.7, top-k 40; all arms share the seed" in page
    assert "the run has not ended" in page
    assert "behind other text" not in page and "of the suite were dropped" not in page


def test_the_page_carries_its_report(report: Report) -> None:
    page = render_page(report)
    carried = re.search(r'<script type="application/json" id="report">(.*?)</script>', page, re.S)
    assert carried
    assert json.loads(carried.group(1)) == json.loads(json.dumps(report))


def palettes() -> dict[str, dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]
    return dict(zip(("light", "dark", "print"), found, strict=True))


@pytest.mark.parametrize("where", ["light", "dark", "print"])
def test_colours_are_far_enough_apart_to_read(where: str) -> None:
    """WCAG 2: 4.5 for text."""
    colours = palettes()[where]
    on_paper = ["ink", "soft", "faster", "slower", *(f"hue-{n}" for n in range(1, 7))]
    pairs = [(name, "paper") for name in on_paper] + [("ink", "panel"), ("soft", "panel"), ("warn", "warn-panel")]
    pairs += [("paper", part) for part in ("target", "draft", "rest")] + [("ink", "reference")]
    weak = {
        (a, b): round(contrast(colours[a], colours[b]), 2) for a, b in pairs if contrast(colours[a], colours[b]) < 4.5
    }
    assert not weak


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@given(some.lists(some.floats(0, 260), min_size=1, max_size=8))
def test_labels_are_moved_apart_in_their_order(places: list[float]) -> None:
    moved = drawing.apart(places, 15, 262)
    order = sorted(range(len(places)), key=lambda index: places[index])
    ranked = [moved[index] for index in order]
    assert all(after - before >= 15 - 1e-6 for before, after in pairwise(ranked))
    assert max(moved) <= 262
    if all(after - before >= 15 for before, after in pairwise(sorted(places))):
        assert moved == pytest.approx(places)


@given(some.floats(0.01, 1e4), some.floats(0, 0.9))
def test_ticks_are_few_round_and_inside(high: float, share: float) -> None:
    low = high * share
    found = drawing.ticks(high, low)
    assert 2 <= len(found) <= 8
    assert all(low - 1e-9 * high <= tick <= high * (1 + 1e-9) for tick in found)


def test_a_long_label_is_broken_not_cut() -> None:
    name = "native recycling gamma 12, draft on GPU.1"
    for slim in (False, True):
        svg = horizontal_bars([Bar(name, 1.2)], name="a-chart", title="a", mark=Mark(1, "plain"), slim=slim)
        assert "…" not in re.sub("<title>.*?</title>", "", svg)
        assert "".join(re.findall(r'class="label"[^>]*>([^<]+)<', svg)).replace(" ", "") == name.replace(" ", "")


def test_bars_are_as_long_as_their_values() -> None:
    svg = horizontal_bars([Bar("a", 1.0), Bar("b", 2.0, (1.5, 40.0))], name="a-chart", title="a")
    first, second = (float(width) for width in re.findall(r'<rect class="bar"[^>]* width="([\d.]+)"', svg))
    assert second == pytest.approx(2 * first, abs=0.2)
    assert svg.count('class="whisker"') == 2, "the end beyond the chart has no cap"


def test_falls_of_equal_factors_are_equally_long() -> None:
    svg = falling_bars(
        [Fall("a", 4.0), Fall("b", 2.0), Fall("c", 1.0), Fall("d", 1.5)], name="a-chart", title="a", one="plain"
    )
    widths = [float(width) for width in re.findall(r'<rect class="bar"[^>]* width="([\d.]+)"', svg)]
    assert widths[1] == pytest.approx(widths[2], abs=0.2)
    assert widths[3] == pytest.approx(0.585 * widths[2], rel=0.01), "log2(1.5), upwards"


def test_one_point_is_no_curve() -> None:
    measured = Series("genai", [Point(3, 1.4)], 0)
    predicted = Series("genai, predicted", [Point(1, 1.2), Point(3, 1.5)], 0, dashed=True)
    assert curves([measured, predicted], name="a-chart", title="a", axis="gamma", one="plain") == ""
