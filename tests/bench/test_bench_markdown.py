"""report.md: tables that a Markdown reader takes as tables, and text that stays text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from edgespec.bench.markdown import grid, literal, markdown
from edgespec.bench.report import build_report, verdict_sentence
from edgespec.bench.rows import Line

MakeLines = Callable[..., list[Line]]


def grids(text: str) -> list[list[list[str]]]:
    """The tables in a Markdown text, as rows of cells; the pipes that are escaped do not part cells."""
    found: list[list[list[str]]] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            found.append([])
            continue
        cells = line.replace("\\|", "\0").strip("|").split("|")
        found[-1].append([cell.strip().replace("\0", "|") for cell in cells])
    return [rows for rows in found if rows]


def test_verdict_tables_and_sections(make_lines: MakeLines) -> None:
    report = build_report(make_lines({"plain": 1.0, "draft-g2": 1.5}, noise=0.01))
    text = markdown(report)
    assert text.startswith("# tiny-pair on CPU\n\nThis machine answers 1.")
    assert verdict_sentence(report).split(".")[0] in text
    for title in ("Arms", "By kind of prompt, draft gamma 2", "What bounds the gain", "How it was measured"):
        assert f"\n\n## {title}\n\n" in text
    arms = grids(text)[0]
    assert [row[0] for row in arms] == ["arm", "---", "plain", "draft gamma 2"]
    assert arms[3][3] == "faster" and arms[3][-1] == "12/12"
    assert "stopped there because: asked for." in text


def test_tables_are_whole(make_lines: MakeLines) -> None:
    for rows in grids(markdown(build_report(make_lines({"plain": 1.0, "draft-g2": 1.5}, noise=0.01)))):
        assert len({len(row) for row in rows}) == 1
        assert set(rows[1]) <= {"---", "---:"}


def test_a_report_of_nothing_is_written_too(make_lines: MakeLines) -> None:
    text = markdown(build_report(make_lines({"plain": 1.0})[:1]))
    assert "Nothing was measured" in text
    assert "By kind" not in text


def test_what_comes_from_outside_stays_text(make_lines: MakeLines) -> None:
    report: dict[str, Any] = build_report(make_lines({"plain": 1.0, "draft-g2": 1.5}))
    report["pair"]["name"] = "a|b <img src=x> [y](z) *w*"
    report["notes"] = ["it broke:\n\n# a heading"]
    text = markdown(report)
    assert text.startswith("# a\\|b &lt;img src=x> \\[y\\](z) \\*w\\* on CPU\n")
    assert "\n- it broke: # a heading\n" in text


def test_the_check_of_sameness_stands_beside_the_timed_answers(make_lines: MakeLines) -> None:
    report: dict[str, Any] = build_report(make_lines({"plain": 1.0, "draft-g2": 1.5}))
    report["sameness"] = {
        "exact": {"draft-g2": {"matched": 7, "total": 8}},
        "batched_control": {"matched": 5, "total": 8},
    }
    rows = {row[0]: row[1:] for table in grids(markdown(report)) for row in table if "exact" in str(table[0])}
    assert rows["draft gamma 2"] == ["12/12", "7/8", "–"]
    assert rows["plain, all prompts in one batch (the control)"][0] == "5/8"


def test_names_stay_readable() -> None:
    assert literal("int8_sym at gamma_3, f32-dq128") == "int8_sym at gamma_3, f32-dq128"
    assert literal("_emphasis_ ~~gone~~ `code`") == "\\_emphasis\\_ \\~\\~gone\\~\\~ \\`code\\`"


@given(some.lists(some.text(max_size=10), min_size=2, max_size=2))
def test_no_text_breaks_a_table(cells: list[str]) -> None:
    table = grid(["one", "two"], [[literal(cell) for cell in cells]])
    assert len(table.splitlines()) == 3
    assert len(table.splitlines()[2].replace("\\\\", "").replace("\\|", "").strip().strip("|").split("|")) == 2
