"""report.json's contract, and the sentence on top, which must not say more than was measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edgespec.bench.bound import explain
from edgespec.bench.report import build_report, verdict_sentence
from edgespec.bench.rows import Line, Row

MakeLines = Callable[..., list[Line]]

TOP = ["pair", "device", "draft_device", "versions", "machine", "prompts", "arms", "best_arm"]
PER_ARM = [
    "name", "engine", "mode", "gamma", "tokens_per_second", "ttft_ms", "tpot_ms", "speedup", "by_category",
    "acceptance_rate", "alpha", "block_efficiency", "mbsu", "c", "v", "predicted_speedup", "identical",
    "peak_rss_bytes",
]  # fmt: skip


def test_the_contract(make_lines: MakeLines) -> None:
    report = build_report(make_lines({"plain": 1.0, "draft-g2": 1.6}, noise=0.02))
    assert report["schema"] == "edgespec.bench/1"
    assert set(TOP) <= set(report)
    assert set(report["prompts"]) == {"suite", "count", "sha256"}
    for arm in report["arms"]:
        assert set(PER_ARM) <= set(arm)
        assert set(arm["tokens_per_second"]) == {"median", "ci95"}
        assert set(arm["ttft_ms"]) == set(arm["tpot_ms"]) == {"median", "p95"}
        assert {"geomean", "ci95", "verdict"} <= set(arm["speedup"])
    json.dumps(report, allow_nan=False)


def test_unknown_is_null(make_lines: MakeLines) -> None:
    lines = [line for line in make_lines({"plain": 1.0, "draft-g2": 1.6}) if line.phase not in ("passes", "session")]
    arm = build_report(lines)["arms"][1]
    assert (arm["c"], arm["v"], arm["predicted_speedup"], arm["peak_rss_bytes"]) == (None, {}, None, None)
    empty = build_report(lines[:1])
    assert empty["arms"][0]["tokens_per_second"]["median"] is None
    assert not empty["complete"]
    assert verdict_sentence(empty) == "Nothing was measured: no arm gave an answer."


def test_faster(make_lines: MakeLines) -> None:
    report = build_report(make_lines({"plain": 1.0, "draft-g2": 1.5, "draft-g3": 1.6}))
    assert (report["best_arm"], report["best_draft_arm"], report["best_plain"]) == ("draft-g3", "draft-g3", "plain")
    assert verdict_sentence(report) == (
        "This machine answers 1.60x as fast (95 % interval 1.55 to 1.65) with draft gamma 3 as without, on 12 code "
        "prompts; outputs identical in 12/12."
    )


def test_slower(make_lines: MakeLines) -> None:
    report = build_report(make_lines({"plain": 1.0, "draft-g2": 0.8, "draft-g3": 0.7}))
    assert report["best_arm"] == "plain"
    assert verdict_sentence(report).startswith(
        "Nothing tried beats plain decoding on this machine: the best, draft gamma 2, runs at 0.80x (95 % interval"
    )


def test_cannot_tell(make_lines: MakeLines) -> None:
    report = build_report(make_lines({"plain": 1.0, "draft-g2": 1.0}, noise=0.3))
    assert report["best_arm"] == "plain"
    assert verdict_sentence(report).startswith("This run cannot tell whether draft gamma 2 helps: ")
    assert "measure more prompts" in verdict_sentence(report)


def test_best_of_several_by_chance_is_not_called_faster(make_lines: MakeLines) -> None:
    report = build_report(make_lines({"plain": 1.0, "draft-g2": 1.2}))
    arm = report["arms"][1]
    arm["speedup"] |= {"ci95": [1.01, 1.4]}
    report["headline"] |= {"verdict": "cannot tell", "arms_compared": 6, "ci95": [1.01, 1.4]}
    assert "looks faster, but the best of 6 arms can look so by chance" in verdict_sentence(report)


def test_settings_are_told_beside(make_lines: MakeLines, make_row: Callable[..., Row]) -> None:
    lines = make_lines(
        {"plain-default": 0.5, "plain": 1.0, "draft-g2": 1.5},
        settings="f32",
        candidates={"default": {}, "f32": {"INFERENCE_PRECISION_HINT": "f32"}},
    )
    report = build_report(lines)
    assert verdict_sentence(report).endswith(
        " Against OpenVINO's untouched default it is 3.00x (95 % interval 2.91 to 3.09), of which the settings 'f32' "
        "alone give 2.00x."
    )
    assert report["arms"][0]["speedup"]["geomean"] == pytest.approx(0.5)
    assert report["arms"][0]["speedup_over_default"]["verdict"] == "reference"


def test_few_identical_answers_are_not_brushed_aside(make_lines: MakeLines) -> None:
    lines = make_lines({"plain": 1.0, "draft-g2": 1.5})
    lines = [
        line.model_copy(update={"token_ids": [5] * 10}) if isinstance(line, Row) and line.arm != "plain" else line
        for line in lines
    ]
    assert "identical in only 0/12" in verdict_sentence(build_report(lines))


def test_no_contender(make_lines: MakeLines) -> None:
    sentence = verdict_sentence(build_report(make_lines({"plain": 1.0}, modes=["plain"])))
    assert sentence == (
        "Plain decoding makes 10.0 tokens/s on this machine; there is no speed-up to state, because no speculative arm "
        "was asked for."
    )


def test_notes_name_what_weakens_the_figures(make_lines: MakeLines) -> None:
    lines = make_lines({"plain": 1.0, "draft-g2": 1.5}, prompt_ids=["p0", "p1"])
    slowed: list[Any] = []
    for line in lines:
        if isinstance(line, Row) and line.repetition == 1:
            line = line.model_copy(update={"wall_s": (line.wall_s or 0) * 1.5, "other_load": 0.4})
        slowed.append(line)
    report = build_report(slowed)
    text = " ".join(report["notes"])
    assert report["conditions"]["drift"] == pytest.approx(1.5)
    assert report["arms"][1]["speedup"]["geomean"] == pytest.approx(1.5), "pairing keeps the drift out of the ratio"
    for words in ("became slower", "Other programs took 40%", "Only 2 prompts"):
        assert words in text


def case(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "gamma": 3, "tau": 3.0, "costs": {1: 1.0, 4: 1.25}, "c": 0.05, "single_s": 0.010, "iteration_s": 0.016,
        "decode": 1.9, "measured": 1.8, "with_draft": True,
    }  # fmt: skip
    return explain(**(values | changes))


def test_bound_splits_a_step_into_its_parts() -> None:
    bound = case()
    assert (bound.target_pass_ms, bound.draft_passes_ms) == pytest.approx((12.5, 1.5))
    assert bound.overhead_ms == pytest.approx(2.0)
    ladder = [rung.speedup for rung in bound.ladder]
    assert ladder == pytest.approx([4, 3.0, 3 / 1.25, 3 / 1.4, 1.9, 1.8])
    assert bound.cause == "acceptance"


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"tau": 1.5, "decode": 1.0, "measured": 1.0}, "acceptance"),
        ({"costs": {1: 1.0, 4: 2.5}, "decode": 1.1, "measured": 1.1}, "verification"),
        ({"c": 0.5, "tau": 3.8, "decode": 1.3, "measured": 1.3}, "drafting"),
        ({"tau": 3.5, "decode": 1.0, "measured": 1.0}, "overhead"),
        ({"tau": 3.8, "decode": 2.6, "measured": 1.2}, "prompt"),
        ({"gamma": None, "c": 0.0, "with_draft": False, "decode": 1.2, "measured": 1.19}, "unsplit"),
    ],
)
def test_bound_names_the_largest_loss(changes: dict[str, Any], cause: str) -> None:
    bound = case(**changes)
    assert bound.cause == cause
    assert bound.sentences[-1].startswith("The largest loss is")


def test_answers_that_repeat_themselves_are_told_apart(make_lines: MakeLines) -> None:
    """Draft gains 2x on the looping half of the prompts and nothing on the other: the report must not hide that."""
    lines = make_lines({"plain": 1.0, "draft-g2": 1.0}, noise=0.01)
    prompts = lines[0].prompt_ids  # type: ignore[union-attr]
    looping = set(prompts[: len(prompts) // 2])
    changed: list[Line] = []
    for line in lines:
        if isinstance(line, Row):
            loop = line.prompt in looping
            count = line.tokens or 0
            line = line.model_copy(update={"token_ids": [7] * count if loop else list(range(count))})
            if loop and line.arm == "draft-g2":
                halved = {"wall_s": (line.wall_s or 0) / 2, "ttft_s": (line.ttft_s or 0) / 2}
                line = line.model_copy(update=halved)
        changed.append(line)
    report = build_report(changed)
    halves = report["arms"][1]["by_repetition"]
    assert halves["most"]["geomean"] == pytest.approx(2, rel=0.05) and halves["most"]["verdict"] == "faster"
    assert halves["least"]["geomean"] == pytest.approx(1, rel=0.05)
    assert report["repetition"]["median"] > 0.25
    assert any("repeat themselves" in note and "repeats itself least" in note for note in report["notes"])
