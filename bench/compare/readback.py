"""A bench result read back from its folder: the report, and the rows it was made from where they are there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError

from ..report import SCHEMA, build_report
from ..rows import Header, Line, Row, latest_rows, read_lines

ROWS, REPORT = "rows.jsonl", "report.json"


@dataclass(frozen=True)
class Run:
    """letter: how output names it. rows: what was measured, of rows with one key the last; None when only the report
    is there, and `why_no_rows` says why. prompt_ids: None without rows."""

    letter: str
    path: Path
    report: Mapping[str, Any]
    rows: tuple[Row, ...] | None = None
    prompt_ids: tuple[str, ...] | None = None
    why_no_rows: str = ""

    def arm(self, name: str) -> Mapping[str, Any] | None:
        return next((arm for arm in self.report["arms"] if arm["name"] == name), None)

    def on_cases(self, cases: frozenset[str]) -> Run:
        """The run with the rows of these cases only."""
        return replace(self, rows=tuple(row for row in self.rows or () if row.case in cases))


def read_run(path: Path, letter: str) -> Run:
    """`path` is a bench's folder, a demo's, or the report.json in one. Rows lie beside the report or are not there.

    A run that was killed has rows and no report, which is then made from them. Raises EdgespecError.
    """
    folder = path if path.is_dir() else path.parent
    report_file = folder / REPORT if path.is_dir() else path
    rows_file = folder / ROWS
    if path.is_dir() and not rows_file.is_file() and (folder / "bench" / ROWS).is_file():  # a demo's folder
        rows_file = folder / "bench" / ROWS
    if path.name == ROWS:
        report_file = folder / REPORT
    if not path.exists():
        raise EdgespecError(f"'{path}' does not exist; give the folder that edgespec bench wrote, or its report.json")
    report = _read_report(report_file) if report_file.is_file() else None
    if not rows_file.is_file():
        if report is None:
            raise EdgespecError(f"'{path}' has neither {ROWS} nor {REPORT}; give the folder that edgespec bench wrote")
        return Run(letter, path, report, why_no_rows=f"{ROWS} is not beside the report")
    try:
        lines = read_lines(rows_file)
        if not lines:
            raise EdgespecError(f"'{rows_file}' is empty")
    except EdgespecError as error:
        reason = str(error).partition("; ")[0]
        if report is None:
            raise EdgespecError(f"{reason}; it was cut short or written by another version, measure again") from error
        return Run(letter, path, report, why_no_rows=reason)
    return run_of(lines, letter, path, report)


def run_of(lines: list[Line], letter: str, path: Path, report: Mapping[str, Any] | None = None) -> Run:
    """The run of these lines; a report that is not of them, or of fewer, is made anew."""
    header = lines[0]
    assert isinstance(header, Header)
    rows = latest_rows(lines, "measure")
    if report is None or (report["run"]["started_at"], report["run"]["rows"]) != (header.started_at, len(rows)):
        report = build_report(lines)
    return Run(letter, path, report, tuple(rows), tuple(header.prompt_ids))


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EdgespecError(f"'{path}' is not JSON, so it is no bench's report; measure again") from error
    schema = report.get("schema") if isinstance(report, dict) else None
    if schema != SCHEMA:
        got = f"the schema '{schema}'" if schema else "no schema"
        raise EdgespecError(f"'{path}' has {got}, and '{SCHEMA}' is expected; give the report.json of edgespec bench")
    missing = [key for key in ("pair", "run", "arms", "headline", "prompts") if key not in report]
    if missing:
        raise EdgespecError(f"'{path}' lacks {', '.join(missing)}, so it is no whole report; measure again")
    return dict(report)
