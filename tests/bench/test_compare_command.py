"""edgespec compare at the command line: files in, tables and JSON out, exit codes for continuous integration."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulated import whole_run

from edgespec import cli
from edgespec.bench.compare.readback import read_run
from edgespec.bench.report import build_report
from edgespec.bench.rows import Header, Line
from edgespec.errors import EdgespecError

Command = Callable[..., int]
LATER = "2026-11-21T11:00:00.000+00:00"


def unwrapped(text: str) -> str:
    """Console text without the line breaks that the terminal's width made."""
    return " ".join(text.split())


def write(folder: Path, lines: list[Line], report: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line.model_dump(mode="json")) + "\n" for line in lines)
    (folder / "rows.jsonl").write_text(text, "utf-8")
    if report:
        (folder / "report.json").write_text(json.dumps(build_report(lines)), "utf-8")
    return folder


@pytest.fixture
def lines_of(make_header: Callable[..., Header]) -> Callable[..., list[Line]]:
    def build(gain: float, seed: int, **header: Any) -> list[Line]:
        return whole_run(make_header, {"plain": 1.0, "draft-g2": gain}, prompts=16, seed=seed, header=header)

    return build


@pytest.fixture
def runs(tmp_path: Path, lines_of: Callable[..., list[Line]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """old, new (20 % less gain, an hour later), other (other prompts)."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "old", lines_of(1.5, 1))
    write(tmp_path / "new", lines_of(1.2, 2, started_at=LATER))
    write(tmp_path / "other", lines_of(1.5, 3, prompts_sha256="00" * 32))
    return tmp_path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, runs: Path) -> Command:
    monkeypatch.setitem(cli.VERBS, "compare", "")

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["edgespec", "compare", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run


def test_tables_on_stderr_and_json_last_on_stdout(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("old", "new", "--json") == 0
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    found = json.loads(line)
    assert found["schema"] == "edgespec.compare/1"
    arm = found["comparisons"][0]["arms"][1]
    assert arm["arm_a"] == "draft-g2" and arm["speedup"]["verdict"] == "slower"
    shown = unwrapped(captured.err)
    assert "A old: tiny-pair on CPU, 2026-11-21 10:00, 16 prompts of code, 2 repetitions" in shown
    assert (
        "B against A: speed-up over the plain of its own run" in shown and "between the runs, 60 minutes apart" in shown
    )


def test_without_json_stdout_stays_empty(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("old", "new") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--fail-if", "slower-than", "0.95"), 1),
        (("--fail-if", "slower-than 0.95"), 1),
        (("--fail-if=slower-than=0.95",), 1),
        (("--fail-if", "slower-than", "0.5"), 0),
        (("--fail-if", "slower-than", "0.5", "--fail-if", "slower-than", "0.95"), 1),
        (("--fail-if", "identical-below", "1"), 0),
        (("--fail-if", "identical-below", "1", "--strict"), 1),
        (("--fail-if", "slower-than", "0.95", "--arm", "best"), 1),
    ],
)
def test_exit_codes(command: Command, words: tuple[str, ...], code: int) -> None:
    assert command("old", "new", *words) == code


def test_a_failed_gate_says_which_and_still_answers(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("old", "new", "--fail-if", "slower-than", "0.95", "--json") == 1
    captured = capsys.readouterr()
    assert "FAILED B, draft gamma 2: speed-up over its own plain 0.7" in unwrapped(captured.err)
    assert "'slower-than 0.95' is established" in unwrapped(captured.err)
    found = json.loads(captured.out.splitlines()[-1])
    assert found["failed"] is True and found["findings"][0]["evidence"] == "established"


def test_several_runs_against_the_first(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("old", "new", "other", "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1])["comparisons"]
    assert [(one["a"], one["b"], one["comparable"]) for one in found] == [("A", "B", True), ("A", "C", False)]
    assert captured.err.index("cannot be compared") < captured.err.index("C against A: tokens per second")


def test_files_are_written(command: Command, runs: Path) -> None:
    assert command("old", "new", "--out", "result", "--fail-if", "slower-than", "0.95") == 1
    assert json.loads((runs / "result" / "compare.json").read_text("utf-8"))["failed"] is True
    assert "## Conditions" in (runs / "result" / "compare.md").read_text("utf-8")
    assert command("old", "new", "--out", "new") == 0, "beside the run's own files"
    assert command("old", "new", "--out", "new") == 2, "and not over another comparison"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("old",), "compare needs two runs at least"),
        (("old", "nowhere"), "'nowhere' does not exist"),
        (("old", "."), "has neither rows.jsonl nor report.json"),
        (("old", "new", "--fail-if", "worse"), "--fail-if got 'worse'; give one of"),
        (("old", "new", "--fail-if", "slower-than", "other"), "'slower-than' takes one number"),
        (("old", "new", "--on", "speedup"), "add --fail-if slower-than 0.95"),
        (("old", "new", "--fail-if", "slower-than", "1", "--on", "clock"), "--on got 'clock'; choose from speedup"),
        (("old", "new", "--strict"), "--strict is for --fail-if"),
        (("old", "new", "--arm", "lookup"), "--arm got 'lookup', which run A does not have; it has plain, draft-g2"),
        (("old", "other", "--fail-if", "slower-than", "0.9"), "needs runs that can be compared, and these cannot"),
        (("old", "new", "--out", "no/where"), "does not exist; create it first"),
    ],
)
def test_mistakes_are_sentences_and_exit_code_2(
    command: Command, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], complaint: str
) -> None:
    assert command(*words) == 2
    captured = capsys.readouterr()
    assert f"{complaint}" in unwrapped(captured.err) and "error: " in captured.err
    assert captured.out == ""


def test_a_condition_that_cannot_be_looked_at_keeps_the_files(command: Command, runs: Path) -> None:
    assert command("old", "other", "--out", "kept", "--fail-if", "slower-than", "0.9") == 2
    assert (runs / "kept" / "compare.md").is_file()


def test_reports_alone(command: Command, capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    (runs / "new" / "rows.jsonl").unlink()
    assert command("old", "new/report.json") == 0
    shown = unwrapped(capsys.readouterr().err)
    assert "weakens what is found: no rows: rows.jsonl is not beside the report" in shown
    assert "no interval" in shown


def test_a_killed_run_has_no_report(runs: Path, lines_of: Callable[..., list[Line]]) -> None:
    run = read_run(write(runs / "killed", lines_of(1.5, 4)[:20], report=False), "B")
    assert not run.report["complete"] and len(run.rows or ()) == 18


def test_a_report_of_fewer_rows_is_made_anew(runs: Path, lines_of: Callable[..., list[Line]]) -> None:
    folder = write(runs / "grown", lines_of(1.5, 4)[:20])
    write(folder, lines_of(1.5, 4), report=False)
    assert read_run(folder, "B").report["run"]["rows"] == 64
    assert read_run(folder / "rows.jsonl", "B").report["run"]["rows"] == 64


def test_a_demo_s_folder_has_its_rows_in_bench(runs: Path) -> None:
    (runs / "demo").mkdir()
    (runs / "old").rename(runs / "demo" / "bench")
    (runs / "demo" / "report.json").write_bytes((runs / "demo" / "bench" / "report.json").read_bytes())
    assert read_run(runs / "demo", "A").rows


def test_rows_of_another_version_leave_the_report(runs: Path) -> None:
    rows = runs / "new" / "rows.jsonl"
    rows.write_text('{"phase": "header", "colour": "red"}\n', "utf-8")
    run = read_run(runs / "new", "B")
    assert run.rows is None and "line 1 cannot be read" in run.why_no_rows and "--out" not in run.why_no_rows
    (runs / "new" / "report.json").unlink()
    with pytest.raises(EdgespecError, match="written by another version, measure again"):
        read_run(runs / "new", "B")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "has no schema"),
        ('{"schema": "x/1"}', "has the schema 'x/1'"),
        ('{"schema": "edgespec.bench/1"}', "lacks pair"),
    ],
)
def test_what_is_no_report_is_refused(runs: Path, text: str, complaint: str) -> None:
    (runs / "alone").mkdir()
    (runs / "alone" / "report.json").write_text(text, "utf-8")
    with pytest.raises(EdgespecError, match=complaint):
        read_run(runs / "alone", "B")
