"""The arm `auto`: SpecPipeline in an engine's place; and whether it keeps its promise, as a pure function over rows."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgespec.bench.auto import AutoEngine
from edgespec.bench.isolation import IsolatedEngine, Worker
from edgespec.bench.markdown import markdown
from edgespec.bench.page import render_page
from edgespec.bench.plan import Arm, measured_arms
from edgespec.bench.promise import Held, promise
from edgespec.bench.report import build_report
from edgespec.bench.sensors import Sensors
from edgespec.bench.table import print_promise
from edgespec.console import Terminal
from edgespec.engine.genai import GenaiEngine
from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.profile import Here, PlainDecoding, Profile, save_profile
from edgespec.sampling import Sampling
from edgespec.settings import EXACT

F32 = {"INFERENCE_PRECISION_HINT": "f32"}


def profile(**changes: Any) -> Profile:
    """Of this machine: native-copy in f32, plain as nobody sets it."""
    here = Here.on("CPU")
    values: dict[str, Any] = {
        "machine_fingerprint": "0", "machine": here.machine, "device": "CPU", "device_name": here.device_name,
        "versions": here.versions, "draft_device": None, "draft_devices": ("CPU",), "engine": "native", "mode": "copy",
        "gamma": None, "threshold": None, "settings": F32, "tokens_per_second": 40.0,
        "plain": PlainDecoding(engine="genai", settings={}, tokens_per_second=25.0),
        "default_tokens_per_second": 25.0, "over_plain": None, "over_default": None, "quality": None,
        "prompts": "quick", "prompts_sha256": "ab" * 32, "max_new_tokens": 64, "tried": 12,
        "stopped_because": "the winner was clear", "seconds": 200.0, "at": "2026-11-28T15:00:00+00:00",
    }  # fmt: skip
    return Profile(**(values | changes))


def test_it_answers_as_plain_does_in_the_tuned_mode_with_the_steps_it_took(tiny_pair: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_pair, tmp_path / "pair"))
    save_profile(root, profile(settings=EXACT))
    plain = GenaiEngine(Pair.open(root), device="CPU", settings=EXACT)
    engine = IsolatedEngine(
        Pair.open(root), engine="pipeline", device="CPU", draft_device=None, mode="auto", settings={}
    )
    try:
        ids = engine.encode("def add(a, b):\n    return")
        assert ids == plain.encode("def add(a, b):\n    return") and engine.decode(ids).startswith("def add")
        found, expected = engine.generate(ids, 40), plain.generate(ids, 40)
        assert found.token_ids == expected.token_ids and found.finish_reason == expected.finish_reason
        assert [token for step in found.steps for token in step.tokens] == found.token_ids
        assert sum(step.proposed or 0 for step in found.steps) > 0, "the profile's mode copies"
        assert 0 < found.ttft_s < found.wall_s and engine.peak_rss_bytes is not None
        with pytest.raises(EdgespecError, match="no chat template"):
            engine.chat_prompt([{"role": "user", "content": "hi"}])
    finally:
        engine.close()
    plain.close()


def test_it_samples_with_its_seed_and_takes_an_apps_settings(tiny_pair: Path) -> None:
    engine = AutoEngine(Pair.open(tiny_pair), device="CPU", settings=EXACT)
    sampling = Sampling(temperature=1.0, seed=3)
    found = engine.generate([5, 6, 7], 12, sampling=sampling)
    assert len(found.token_ids) == 12 and engine._pipeline._settings == EXACT
    engine.close()
    with pytest.raises(EdgespecError, match="closed"):
        engine.generate([5, 6, 7], 4)


def test_beside_it_plain_is_measured_as_the_profile_has_it(make_header: Callable[..., Any]) -> None:
    def names(**changes: Any) -> dict[str, Arm]:
        tuned = profile(**changes).model_dump(mode="json")
        header = make_header(
            modes=["plain", "auto"], settings="tuned", candidates={"default": {}, "tuned": F32}, tuned=tuned
        )
        return {arm.name: arm for arm in measured_arms(header, "tuned")}

    arms = names()
    assert list(arms) == ["plain-default", "plain", "auto"], "plain's own settings are the untouched default's"
    assert (arms["auto"].engine, arms["auto"].mode, arms["auto"].settings) == ("pipeline", "auto", {})
    assert arms["plain"].settings == F32
    native = PlainDecoding(engine="native", settings={"INFERENCE_NUM_THREADS": 2}, tokens_per_second=1.0)
    arms = names(plain=native)
    assert (arms["plain-tuned"].engine, arms["plain-tuned"].settings) == ("native", {"INFERENCE_NUM_THREADS": 2})
    assert arms["plain-tuned"].plain and not arms["auto"].plain


ARMS = [
    Arm("plain", "plain"),
    Arm("plain-tuned", "plain", settings_name="plain-tuned"),
    Arm("draft-g2", "draft", 2),
    Arm("auto", "auto", engine="pipeline"),
]


def rows_of(make_row: Callable[..., Any], speeds: dict[str, dict[str, float]], rounds: int = 2) -> list[Any]:
    """speeds: by category and arm; eight prompts a category, whose speeds differ by up to 2 %, in every arm alike."""
    return [
        make_row(arm, f"{category}-{number}", repetition, (1 + number / 400) / speed, category=category)
        for repetition in range(rounds)
        for category, by_arm in speeds.items()
        for number in range(8)
        for arm, speed in by_arm.items()
    ]


def found(held: list[Held], category: str, bound: float) -> Held:
    return next(item for item in held if (item.category, item.bound) == (category, bound))


def test_a_promise_is_judged_by_category_against_the_fastest_there(make_row: Callable[..., Any]) -> None:
    rows = rows_of(
        make_row,
        {
            "class": {"plain": 1.0, "plain-tuned": 1.2, "draft-g2": 1.5, "auto": 1.5},
            "test": {"plain": 1.1, "plain-tuned": 1.0, "draft-g2": 0.9, "auto": 0.88},
        },
    )
    held = promise(rows, ARMS)
    assert [item.category for item in held] == ["all", "class", "test"] * 2
    over_plain, of_best = found(held, "class", 1.0), found(held, "class", 0.95)
    assert over_plain.rivals == ("plain-tuned",) and over_plain.found.geomean == pytest.approx(1.25)
    assert of_best.rivals == ("draft-g2",) and of_best.found.geomean == pytest.approx(1.0) and of_best.kept
    broken = found(held, "test", 1.0)
    assert broken.rivals == ("plain",) and broken.found.geomean == pytest.approx(0.8) and broken.kept is False
    assert found(held, "test", 0.95).kept is False
    assert found(held, "all", 1.0).found.prompts == 16


def test_a_little_below_is_no_verdict(make_row: Callable[..., Any]) -> None:
    rows = rows_of(make_row, {"class": {"plain": 1.0, "auto": 0.985}})
    held = promise(rows, ARMS)
    assert [item.category for item in held] == ["all", "all"], "one category is all there is"
    assert held[0].kept is None and held[0].found.ci95 is not None and held[0].found.ci95[1] > 1
    assert held[1].kept is True, "0.985 of the best arm"
    assert promise([row for row in rows if row.arm != "auto"], ARMS) == []


def test_the_luckiest_of_many_equal_arms_is_no_rival(make_row: Callable[..., Any]) -> None:
    """Sixteen arms as fast as `auto`, with noise of 5 %: the best on the very rows it is judged by would be ahead by
    about 3 %; chosen on the other rounds it is ahead by nothing. Over 40 runs the mean is within 1 % of 1."""
    import random

    names = [f"draft-g{gamma}" for gamma in range(1, 17)]
    arms = [Arm("plain", "plain"), *(Arm(name, "draft", gamma) for gamma, name in enumerate(names, 1)), ARMS[-1]]
    logs = []
    for seed in range(40):
        draw = random.Random(seed)
        rows = [
            make_row(arm, f"p{number}", repetition, draw.lognormvariate(0, 0.05))
            for repetition in range(2)
            for number in range(6)
            for arm in ("auto", *names)
        ]
        logs.append(found(promise(rows, arms), "all", 0.95).found.geomean)
    assert sum(logs) / len(logs) == pytest.approx(1.0, abs=0.01)


def test_the_report_and_the_terminal_tell_it(
    make_header: Callable[..., Any], make_lines: Callable[..., list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = make_lines({"plain": 1.0, "draft-g2": 1.5, "auto": 1.45}, modes=["plain", "draft", "auto"])
    report = build_report(lines)
    auto = next(arm for arm in report["arms"] if arm["name"] == "auto")
    assert (auto["c"], auto["c_params"], auto["mbsu"], auto["predicted_speedup"], auto["v"]) == (None,) * 4 + ({},)
    assert [(line["bound"], line["kept"]) for line in report["promise"]] == [(1.0, True), (0.95, True)]
    print_promise(Terminal(), report["promise"])
    said = capsys.readouterr().err
    assert "1.45 [" in said and "0.97 [" in said and "draft-g2" in said and "kept" in said
    title = "Is auto at least as fast as plain, and near the best arm?"
    assert f"## {title}" in markdown(report) and "| all | 1.45 \\[" in markdown(report)
    assert f"<h3>{title}</h3>" in render_page(report)
    without = build_report(make_lines({"plain": 1.0, "draft-g2": 1.5}))
    assert without["promise"] is None and title not in markdown(without) + render_page(without)


def test_a_process_that_is_gone_leaves_its_readings_unknown() -> None:
    """A tune once ended with psutil's NoSuchProcess because an engine had died between two answers."""
    sensors = Sensors()
    sensors.start(_a_dead_pid())
    reading = sensors.stop()
    assert (reading.rss_bytes, reading.other_load) == (None, None)
    sensors.start(os.getpid())
    assert sensors.stop().rss_bytes is not None


def _a_dead_pid() -> int:
    return next(pid for pid in range(2**22 - 1, 0, -1) if not psutil.pid_exists(pid))


def test_a_frozen_app_does_not_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(Path("C:/Apps/Notes.exe")))
    with pytest.raises(EdgespecError, match=r"starts a Python of its own for each engine, and '.*Notes\.exe' is none"):
        Worker()
