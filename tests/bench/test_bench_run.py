"""A whole run on scripted engines: what is measured, what a kill leaves, what a failing arm does."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgespec.bench.isolation import EngineLost
from edgespec.bench.prompts import Prompt, Suite
from edgespec.bench.rows import Journal, Row, latest_rows, read_lines
from edgespec.bench.run import run_bench
from edgespec.bench.sensors import Reading
from edgespec.errors import EdgespecError

MakePair = Callable[..., Path]
QUIET = Reading(rss_bytes=10**9, energy_j=None, cpu_mhz=2400.0, temperature_c=None, other_load=0.0)
UNTIMED = {"started_at", "session"}


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
    trial = [("plain", "default"), ("plain", "f32"), ("plain", "f32-dq128")]
    engines = [("draft", "f32"), ("lookup", "f32"), ("plain", "default"), ("plain", "f32")]
    assert script.opened[:3] == trial
    assert sorted(script.opened[3:7]) == sorted(script.opened[7:11]) == engines, "every round in fresh processes"
    assert script.opened[3:7] != script.opened[7:11], "started in another order"
    assert sorted(script.opened[11:]) == [("draft", "exact"), ("lookup", "exact"), ("plain", "exact")]
    assert sorted(script.closed) == sorted(script.opened)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "rows.jsonl",
        "rows.csv",
        "report.json",
        "report.html",
        "report.md",
        "report.csv",
    }
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
    assert len(script.calls) - before < 24 + 6 + 120 + 20 + 6 + 24, "what was measured is not measured again"


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
    assert report["notes"][0] == "No arm 'draft': the pair has no draft."
    assert report["best_draft_arm"] is None


def test_rounds_go_on_until_the_intervals_are_narrow(bench: Any, script: Any) -> None:
    report = bench(max_repetitions=9, precision=0.9)
    assert report["run"]["repetitions"] == 2
    assert "known to within" in report["run"]["stopped_because"]
    report = bench("strict", max_repetitions=4, precision=1e-6)
    assert report["run"]["repetitions"] > 1 and report["complete"]
    assert "narrow" in report["run"]["stopped_because"] or "most allowed" in report["run"]["stopped_because"]


def test_a_run_whose_rounds_were_decided_is_not_measured_further(bench: Any, script: Any) -> None:
    report = bench(max_repetitions=9, precision=0.9)
    script.calls.clear()
    assert bench(max_repetitions=9, precision=0.9) == report
    assert script.calls == []


def test_a_disturbed_block_is_measured_again_with_all_its_arms(bench: Any, script: Any, tmp_path: Path) -> None:
    busy = Reading(rss_bytes=1, energy_j=None, cpu_mhz=2400.0, temperature_c=None, other_load=0.6)
    script.readings = [QUIET] * 6 + [QUIET, busy] + [QUIET] * 500
    report = bench(
        settings="default", arms=["plain", "draft", "lookup"], gammas=[2], prompts=suite_of(2), repetitions=1
    )
    assert script.settled == 1
    rows = [
        row for row in read_lines(tmp_path / "out" / "rows.jsonl") if isinstance(row, Row) and row.phase == "measure"
    ]
    assert [row.attempt for row in rows] == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert rows[1].disturbed == "other programs took 60% of the processor"
    assert report["conditions"]["disturbed"] == {"blocks_repeated": 1, "rows_still_disturbed": 0, "mostly_by": None}


def test_a_machine_that_is_never_quiet_is_measured_as_it_is(bench: Any, script: Any) -> None:
    busy = Reading(rss_bytes=1, energy_j=None, cpu_mhz=None, temperature_c=None, other_load=0.6)
    script.readings = [busy] * 5000
    report = bench(repetitions=1)
    assert report["complete"]
    assert report["conditions"]["disturbed"]["rows_still_disturbed"] == report["run"]["rows"]
    assert script.settled == 3, "a quarter of twelve blocks, the rest is taken as it is"
    assert any("stayed disturbed" in note for note in report["notes"])


def test_an_engine_that_dies_is_loaded_again_and_given_up_at_last(bench: Any, script: Any, tmp_path: Path) -> None:
    script.lose = 1
    report = bench(settings="default")
    lookup = next(arm for arm in report["arms"] if arm["name"] == "lookup")
    assert lookup["errors"]["count"] == 0 and lookup["answers"] == 24, "it died in the warm-up and came back"
    assert script.opened.count(("lookup", "default")) == 3, "once more than there are rounds"
    script.lose = 99
    report = bench("dead", settings="default", sameness=False)
    lookup = next(arm for arm in report["arms"] if arm["name"] == "lookup")
    assert lookup["answers"] == 0 and lookup["errors"]["count"] == 24
    assert 99 - script.lose == 3, "a third death is the last"
    rows = [row for row in read_lines(tmp_path / "dead" / "rows.jsonl") if isinstance(row, Row) and row.arm == "lookup"]
    assert rows[0].error == "the engine's process ended by signal 6: terminate called"
    assert rows[-1].error is not None and rows[-1].error.startswith("given up after 3 failures, the last: the engine")
    assert next(arm for arm in report["arms"] if arm["name"] == "draft-g1")["speedup"]["verdict"] == "faster"


def test_a_full_disk_ends_the_run_with_a_report_and_room_lets_it_go_on(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bench("whole", settings="default")
    written = 0
    real = Journal._write

    def write(journal: Journal, content: bytes) -> None:
        nonlocal written
        written += len(content)
        if written > 30_000 and journal._ballast.exists():
            real(journal, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        real(journal, content)

    monkeypatch.setattr(Journal, "_write", write)
    report = bench("full", settings="default")
    assert not report["complete"]
    assert "the disk is full" in report["run"]["stopped_because"]
    assert 0 < report["run"]["rows"] < whole["run"]["rows"]
    assert (tmp_path / "full" / "report.html").is_file()
    monkeypatch.setattr(Journal, "_write", real)
    assert bench("full", settings="default")["complete"]
    assert figures(tmp_path / "full" / "rows.jsonl") == figures(tmp_path / "whole" / "rows.jsonl")


def test_turns_and_contexts_are_cases_asked_of_every_arm_in_the_same_tokens(bench: Any, script: Any) -> None:
    chats = Suite("chats", tuple(Prompt(f"chat-{i}", "chat", (f"first {i}", f"second {i}"), True) for i in range(3)))
    report = bench(prompts=chats, contexts=(50, 200), settings="default", arms=["plain", "draft"], gammas=[2])
    assert report["run"]["cases"] == 3 * 2 * 2
    draft = next(arm for arm in report["arms"] if arm["name"] == "draft-g2")
    assert set(draft["by_turn"]) == {"1", "2"} and set(draft["by_context"]) == {"50", "200"}
    assert draft["speedup"]["prompts"] == 3, "the prompt stays the unit that is drawn"
    asked = {mode: {tuple(ids) for m, ids, _ in script.asked if m == mode} for mode in ("plain", "draft")}
    assert asked["draft"] <= asked["plain"]
    second = [bytes(ids).decode() for ids in asked["draft"] if b"second 1" in bytes(ids)]
    assert len(second) == 2
    assert all("<assistant>" in text and text.index("first 1") < text.index("<assistant>") for text in second)


def test_sampling_gives_every_arm_the_same_seed(bench: Any, script: Any) -> None:
    report = bench(temperature=0.8, top_p=0.9, settings="default", gammas=None)
    assert [arm["name"] for arm in report["arms"]] == ["plain", "lookup"]
    assert report["run"]["sampling"] == {"temperature": 0.8, "top_k": 0, "top_p": 0.9}
    assert report["arms"][1]["identical"] is None
    seeds: dict[tuple[int, ...], set[int]] = {}
    for _, ids, sampling in script.asked[4:]:
        seeds.setdefault(tuple(ids), set()).add(sampling.seed)
    assert {len(found) for found in seeds.values()} == {2}, "one a repetition"


def test_the_control_is_plain_and_no_contender(bench: Any) -> None:
    report = bench(arms=["plain", "control", "draft"])
    control = next(arm for arm in report["arms"] if arm["name"] == "plain-again")
    assert control["speedup"]["geomean"] == pytest.approx(1)
    assert report["headline"]["arms_compared"] == 2
    assert any("The control, plain against itself" in note for note in report["notes"])


def test_costs_are_measured_at_the_runs_own_depth(bench: Any, script: Any) -> None:
    report = bench(gammas=[4])
    assert script.costs[0]["lengths"] == [1, 2, 3, 4, 5, 6, 8]
    assert script.costs[0]["context"] == len("prompt number 1") + 10
    assert report["passes"]["draft"]["seconds"].keys() == {"1", "2", "3", "4", "5", "7"}
    assert len(script.costs) == report["passes"]["target"]["slices"] == report["run"]["repetitions"], (
        "after every round"
    )
    assert report["bandwidth"]["limit_gb_per_second"] == 25


def suite_of(count: int) -> Suite:
    return Suite("few", tuple(Prompt(f"p{i}", "function", (f"prompt number {i}",), False) for i in range(count)))


def test_the_same_words_are_asked_for_without_rounding_and_in_a_batch(bench: Any, script: Any, tmp_path: Path) -> None:
    report = bench(gammas=(1, 3), settings="default")
    exact = report["sameness"]["exact"]
    assert {arm: (same["matched"], same["total"]) for arm, same in exact.items()} == {
        "draft-g3": (8, 8),
        "lookup": (8, 8),
    }
    assert report["sameness"]["batched_control"] == {"matched": 12, "total": 12}
    assert report["sameness"]["gaps"] == []
    assert script.together == [12]
    rows = latest_rows(read_lines(tmp_path / "out" / "rows.jsonl"), "exact")
    assert len(rows) == 8 * 3


def test_a_difference_comes_with_its_logit_gap(bench: Any, script: Any) -> None:
    script.flip = ("draft", 7)
    report = bench(gammas=(1,), settings="default", prompts=suite_of(3))
    assert report["sameness"]["gaps"] == [
        {"arm": "draft-g1", "case": f"p{i}", "position": 7, "logit_gap": 0.25} for i in sorted_cases(report)
    ]
    assert report["sameness"]["exact"]["draft-g1"]["matched"] == 0


def test_a_control_that_cannot_be_run_is_a_reason_and_no_lost_report(
    bench: Any, script: Any, make_backend: Callable[..., Any]
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise EngineLost("the engine's process ended by signal 11")

    backend = replace(make_backend(script), answer_together=broken, measure_bandwidth=broken, measure_costs=broken)
    report = bench(backend=backend)
    assert report["complete"]
    assert report["sameness"]["error"] == "the engine's process ended by signal 11"
    assert report["bandwidth"] == {"limit_gb_per_second": None, "error": "the engine's process ended by signal 11"}
    assert report["passes"]["target"]["error"]
    assert sum("signal 11" in note for note in report["notes"]) >= 2


def sorted_cases(report: Any) -> list[int]:
    return [int(gap["case"].removeprefix("p")) for gap in report["sameness"]["gaps"]]
