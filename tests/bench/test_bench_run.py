"""A whole run on scripted engines: what is measured, what a kill leaves, what a failing arm does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgespec.bench.prompts import Suite
from edgespec.bench.rows import Row, latest_rows, read_lines
from edgespec.bench.run import run_bench
from edgespec.errors import EdgespecError

MakePair = Callable[..., Path]
UNTIMED = {"started_at", "session", "rss_bytes", "energy_j", "cpu_mhz", "other_load"}


def figures(path: Path) -> list[dict[str, Any]]:
    """Measured rows without what differs from one process to the next."""
    rows = latest_rows(read_lines(path), "measure")
    return sorted((row.model_dump(exclude=UNTIMED) for row in rows), key=lambda row: json.dumps(row))


@pytest.fixture
def bench(
    make_pair: MakePair, make_backend: Callable[..., Any], script: Any, suite: Suite, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    pair = make_pair()

    def run(out: str = "out", **options: Any) -> dict[str, Any]:
        options = {"prompts": suite, "gammas": (1, 3), "max_new_tokens": 20, "backend": make_backend(script)} | options
        return run_bench(options.pop("pair", pair), tmp_path / out, **options)

    return run


def test_a_run_measures_every_arm_on_every_prompt(bench: Any, script: Any, tmp_path: Path, suite: Suite) -> None:
    report = bench()
    assert [arm["name"] for arm in report["arms"]] == ["plain-default", "plain", "draft-g1", "draft-g3", "lookup"]
    lines = read_lines(tmp_path / "out" / "rows.jsonl")
    assert len(latest_rows(lines, "measure")) == 5 * len(suite.prompts) * 2 == report["run"]["rows"]
    assert len(latest_rows(lines, "settings")) == 3 * 4 * 2
    assert latest_rows(lines, "warmup")
    assert report["complete"]
    assert script.opened == [
        ("plain", "default"), ("plain", "f32"), ("plain", "f32-dq128"), ("draft", "f32"), ("lookup", "f32")
    ]  # fmt: skip
    assert sorted(script.closed) == sorted(script.opened)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"rows.jsonl", "report.json", "report.html"}
    assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8")) == report


def test_the_figures_are_the_scripts(bench: Any) -> None:
    report = bench()
    arms = {arm["name"]: arm for arm in report["arms"]}
    assert report["settings"]["chosen"] == "f32"
    assert arms["plain"]["speedup"] == {"geomean": 1.0, "ci95": None, "verdict": "reference", "prompts": 12}
    assert arms["plain-default"]["speedup"]["verdict"] == "slower"
    assert arms["draft-g3"]["speedup"]["verdict"] == "faster"
    assert arms["draft-g3"]["c"] == pytest.approx(0.02)
    assert arms["draft-g3"]["v"]["4"] == pytest.approx(1.15)
    assert arms["draft-g3"]["c_params"] == pytest.approx(0.1)
    tau = arms["draft-g3"]["block_efficiency"]
    assert arms["draft-g3"]["predicted_speedup"] == pytest.approx(tau / (1.15 + 0.06))
    assert arms["draft-g3"]["identical"] == {"matched": 12, "total": 12, "first_divergence": []}
    assert arms["lookup"]["acceptance_rate"] is None
    assert arms["plain"]["tpot_ms"]["median"] == pytest.approx(24, rel=0.1)


def test_best_settings_being_the_default_gives_one_plain_arm(bench: Any, script: Any) -> None:
    script.speed = {"default": 1.0, "f32": 1.2, "f32-dq128": 1.3}
    report = bench()
    assert [arm["name"] for arm in report["arms"]] == ["plain", "draft-g1", "draft-g3", "lookup"]
    assert report["settings"]["chosen"] == "default"
    assert "untouched default is the fastest" in report["settings"]["reason"]


def test_settings_can_be_fixed(bench: Any, script: Any) -> None:
    report = bench(settings="f32-dq128")
    assert report["settings"] == {"chosen": "f32-dq128", "reason": "asked for", "candidates": []}
    assert ("plain", "f32") not in script.opened


@pytest.mark.parametrize("calls", [3, 25, 60, 100])
def test_a_stopped_run_goes_on_where_it_stopped(bench: Any, script: Any, tmp_path: Path, calls: int) -> None:
    whole = bench("whole")
    script.calls.clear()
    script.interrupt_after = calls
    with pytest.raises(KeyboardInterrupt):
        bench("cut")
    assert not (tmp_path / "cut" / "report.json").exists()
    script.interrupt_after = None
    before = len(script.calls)
    report = bench("cut")
    assert figures(tmp_path / "cut" / "rows.jsonl") == figures(tmp_path / "whole" / "rows.jsonl")
    assert report["run"]["sessions"] == 2
    for arm, expected in zip(report["arms"], whole["arms"], strict=True):
        assert arm["speedup"] == expected["speedup"]
    assert len(script.calls) - before < 24 + 6 + 120 + 10 + 6, "what was measured is not measured again"


def test_a_run_killed_in_the_middle_of_a_line_goes_on(bench: Any, tmp_path: Path) -> None:
    bench("whole")
    whole = (tmp_path / "whole" / "rows.jsonl").read_bytes()
    for share in (0.001, 0.3, 0.62, 0.999):
        cut = tmp_path / f"cut-{share}"
        cut.mkdir()
        (cut / "rows.jsonl").write_bytes(whole[: int(len(whole) * share)])
        bench(cut.name)
        assert figures(cut / "rows.jsonl") == figures(tmp_path / "whole" / "rows.jsonl")


def test_arms_of_a_block_are_measured_in_one_session(bench: Any, tmp_path: Path) -> None:
    bench("whole")
    whole = (tmp_path / "whole" / "rows.jsonl").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "rows.jsonl").write_bytes(whole[: int(len(whole) * 0.7)])
    bench("cut")
    sessions: dict[tuple[str, int], set[int]] = {}
    for row in latest_rows(read_lines(tmp_path / "cut" / "rows.jsonl"), "measure"):
        sessions.setdefault((row.prompt, row.repetition), set()).add(row.session)
    assert {len(found) for found in sessions.values()} == {1}
    assert len({session for found in sessions.values() for session in found}) == 2


def test_a_finished_run_is_reported_again_without_an_engine(bench: Any, script: Any) -> None:
    report = bench()
    script.opened.clear()
    assert bench() == report
    assert script.opened == []


def test_another_run_in_the_folder_is_refused(bench: Any, tmp_path: Path) -> None:
    bench()
    with pytest.raises(EdgespecError, match="another seed"):
        bench(seed=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(EdgespecError, match="exists already"):
        bench("other")
    assert (tmp_path / "other" / "notes.txt").read_text("utf-8") == "mine"
    with pytest.raises(EdgespecError, match="does not exist; create it first"):
        bench("no/such/folder")


def test_an_arm_that_fails_leaves_its_error_and_the_report_goes_on(bench: Any, script: Any, tmp_path: Path) -> None:
    script.fail = {("draft", 3)}
    script.load_fail = {"lookup"}
    report = bench()
    arms = {arm["name"]: arm for arm in report["arms"]}
    assert arms["draft-g3"]["errors"] == {"count": 24, "first": "RuntimeError: Check 'x' failed"}
    assert arms["draft-g3"]["speedup"]["geomean"] is None
    assert arms["lookup"]["errors"]["first"] == "the lookup engine does not load"
    assert arms["draft-g1"]["speedup"]["verdict"] == "faster"
    assert report["best_arm"] == "draft-g1"
    assert sum("failed" in note for note in report["notes"]) == 2
    rows = [line for line in read_lines(tmp_path / "out" / "rows.jsonl") if isinstance(line, Row) and line.error]
    assert all(row.wall_s is None and not row.token_ids for row in rows)


def test_without_plain_decoding_there_is_nothing_to_report(bench: Any, script: Any) -> None:
    script.load_fail = {"plain"}
    with pytest.raises(EdgespecError, match="plain decoding does not work on CPU: the plain engine does not load"):
        bench()


def test_answers_that_differ_are_counted(bench: Any, script: Any) -> None:
    script.flip = ("draft", 7)
    arm = next(arm for arm in bench()["arms"] if arm["name"] == "draft-g1")
    assert (arm["identical"]["matched"], arm["identical"]["total"]) == (0, 12)
    assert arm["identical"]["first_divergence"][0]["position"] == 7


def test_settings_that_change_the_answers_are_excluded(bench: Any, script: Any) -> None:
    script.speed["f32-dq128"] = 0.2
    script.settings_flip = ("f32-dq128", 3)
    report = bench()
    assert report["settings"]["chosen"] == "f32"
    assert any("f32-dq128" in note and "not eligible" in note for note in report["notes"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"device": "TPU"}, "no device 'TPU'"),
        ({"device": "NPU", "arms": ["plain", "lookup"]}, "cannot run on NPU"),
        ({"arms": ["draft"]}, "needs plain"),
        ({"arms": ["plain", "lookup"]}, "--gamma is for the arm 'draft'"),
        ({"arms": ["plain"], "gammas": None, "draft_device": "GPU"}, "--draft-device is for"),
        ({"gammas": [0]}, "--gamma got 0"),
        ({"repetitions": 0}, "repetitions is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"settings": "bf17"}, "no settings 'bf17'"),
        ({"prompts": "nowhere.jsonl"}, "which is no file"),
        ({"pair": "nowhere"}, "there is no directory 'nowhere'"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(bench: Any, tmp_path: Path, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EdgespecError, match=complaint):
        bench(**options)
    assert not (tmp_path / "out").exists()


def test_a_pair_without_draft_says_so_and_measures_the_rest(
    make_pair: MakePair, make_backend: Any, script: Any, suite: Suite, tmp_path: Path
) -> None:
    pair = make_pair("no-draft", draft=False)
    report = run_bench(pair, tmp_path / "out", prompts=suite, max_new_tokens=12, backend=make_backend(script))
    assert [arm["mode"] for arm in report["arms"]] == ["plain", "plain", "lookup"]
    assert report["notes"][0] == "No arm 'draft': the pair has none."
    assert report["best_draft_arm"] is None
