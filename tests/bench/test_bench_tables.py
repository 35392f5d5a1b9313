"""CSV of a report and of its rows: what is written comes back, and nothing in it runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as some

from edgespec.bench import tables
from edgespec.bench.report import build_report
from edgespec.bench.rows import Line, Row
from edgespec.bench.tables import arms_csv, rows_csv

MakeLines = Callable[..., list[Line]]
MakeRow = Callable[..., Row]


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_one_line_an_arm(make_lines: MakeLines) -> None:
    report = build_report(make_lines({"plain": 1.0, "draft-g2": 1.6}, noise=0.02))
    plain, draft = read(arms_csv(report))
    assert (plain["arm"], draft["arm"]) == ("plain", "draft-g2")
    assert draft["pair"] == "tiny-pair" and draft["cpu"] == "Scripted CPU"
    arm = report["arms"][1]
    assert float(draft["speedup_geomean"]) == arm["speedup"]["geomean"]
    assert [float(draft[f"speedup_ci95_{end}"]) for end in ("low", "high")] == arm["speedup"]["ci95"]
    assert float(draft["tokens_per_second_median"]) == arm["tokens_per_second"]["median"]
    assert (draft["identical_answers"], draft["compared_answers"]) == ("12", "12")
    assert plain["speedup_ci95_low"] == "" and plain["c"] == "", "unknown is empty"


def test_a_report_without_the_newer_keys_is_written_too(make_lines: MakeLines) -> None:
    report = build_report(make_lines({"plain": 1.0, "draft-g2": 1.6}))
    for arm in report["arms"]:
        for key in ("peak_rss_bytes", "step_time", "threshold", "draft_device", "share_of_bandwidth_limit", "bound"):
            arm.pop(key, None)
    assert read(arms_csv(report))[1]["draft_ms_per_step"] == ""


def test_one_line_a_row_that_counts(make_lines: MakeLines, make_row: MakeRow) -> None:
    lines = make_lines({"plain": 1.0, "draft-g2": 1.6})
    warm = make_row("draft-g2", "p0", phase="warmup", emitted=[1, 3, 6], proposed=[0, 2, None], accepted=[0, 2, None])
    failed = make_row("draft-g2", "p1", 0, None, error="it broke,\nbadly")
    found = read(rows_csv([lines[0], warm, *lines[1:], failed]))
    assert len(found) == 1 + 12 * 2 * 2, "a row measured again is there once"
    first, last = found[0], found[-1]
    assert (first["phase"], first["arm"], first["wall_s"]) == ("warmup", "draft-g2", "1.0")
    assert (first["target_passes"], first["proposed_tokens"], first["accepted_tokens"]) == ("3", "2", "2")
    assert float(first["tokens_per_second"]) == 10 and float(first["tpot_s"]) == pytest.approx(0.1)
    assert (last["prompt"], last["error"], last["tokens"]) == ("p1", "it broke, badly", "")


def test_every_single_figure_of_a_row_is_a_column(make_row: MakeRow) -> None:
    columns = set(read(rows_csv([make_row("plain")]))[0])
    single = {name for name, field in Row.model_fields.items() if get_origin(field.annotation) is not list}
    assert single <= columns and "token_ids" not in columns
    assert rows_csv([]).count("\n") == 1, "no rows: the header alone"


@given(
    text=some.text(some.characters(exclude_categories=("Cs",)), max_size=12)
    | some.sampled_from(["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=1\n=2", '=HYPERLINK("http://x")'])
)
def test_no_text_starts_a_formula_and_every_row_stays_one_line(text: str) -> None:
    written = tables._csv(["a", "b"], [{"a": text, "b": -1.5}])
    (record,) = read(written)
    assert not record["a"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert record["a"].removeprefix("'") == " ".join(text.splitlines()).removeprefix("'")
    assert record["b"] == "-1.5", "a negative number is no formula"
    assert "\r" not in written and written.count("\n") == 2


def test_a_hostile_name_goes_through_the_whole_file(make_lines: MakeLines, make_row: MakeRow) -> None:
    report: dict[str, Any] = build_report(make_lines({"plain": 1.0, "draft-g2": 1.6}))
    report["pair"]["name"] = "=cmd|' /C calc'!A0"
    assert read(arms_csv(report))[0]["pair"] == "'=cmd|' /C calc'!A0"
    assert read(rows_csv([make_row("plain", "@x")]))[0]["prompt"] == "'@x"
