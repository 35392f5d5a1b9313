"""edgespec bench at the command line, on scripted engines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgespec import cli
from edgespec.bench.engines import Backend


def unwrapped(text: str) -> str:
    """Console text without the line breaks that the terminal's width made."""
    return " ".join(text.split())


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch,
    make_backend: Callable[..., Backend],
    make_pair: Callable[..., Path],
    script: Any,
    tmp_path: Path,
) -> Callable[..., int]:
    pair = make_pair()
    backend = make_backend(script)
    monkeypatch.setattr(Backend, "real", classmethod(lambda cls, device, answer_timeout_s: backend))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["edgespec", "bench", str(pair), "--max-new-tokens", "16", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run


def test_json_is_the_last_line_and_the_rest_goes_to_stderr(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command("--prompts", "quick", "--gamma", "1,3", "--out", "result", "--json") == 0
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    report = json.loads(line)
    assert report["schema"] == "edgespec.bench/1"
    assert report["prompts"]["count"] == 8
    assert Path(report["report_html"]) == (tmp_path / "result" / "report.html").resolve()
    assert Path(report["report_html"]).is_file()
    assert "draft gamma 3" in captured.err
    assert "This machine answers" in unwrapped(captured.err)


def test_the_default_folder_names_pair_and_time(command: Callable[..., int], tmp_path: Path) -> None:
    assert command("--prompts", "quick", "--arms", "plain,lookup", "--settings", "default") == 0
    (folder,) = tmp_path.glob("edgespec-bench-tiny-pair-*Z")
    assert sorted(path.name for path in folder.iterdir()) == [
        "report.csv",
        "report.html",
        "report.json",
        "report.md",
        "rows.csv",
        "rows.jsonl",
    ]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--arms", "plain,warp"), "--arms got 'warp'; choose from plain, control, draft"),
        (("--gamma", "two"), "--gamma got 'two'"),
        (("--device", "TPU"), "there is no device 'TPU'"),
    ],
)
def test_mistakes_are_sentences_and_exit_code_2(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], words: tuple[str, ...], complaint: str
) -> None:
    assert command(*words) == 2
    captured = capsys.readouterr()
    assert f"error: {complaint}" in unwrapped(captured.err)
    assert captured.out == ""


def test_an_interrupted_run_says_how_to_go_on(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], script: Any
) -> None:
    script.interrupt_after = 40
    assert command("--prompts", "quick", "--out", "result") == 130
    assert "--out result goes on from there" in unwrapped(capsys.readouterr().err)
    script.interrupt_after = None
    assert command("--prompts", "quick", "--out", "result") == 0


def test_a_question_mark_lists_every_arm(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--arms", "?") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["plain", "no", "speculation"]
    assert any(line.startswith("native-draft ") and "one for each --gamma" in line for line in lines)
