"""A tune in a scripted world finds what is truly fastest there, says so, and says why it did not look further."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from workbench import BF16_CPU, Workbench

from edgespec.errors import EdgespecError
from edgespec.hashing import sha256_of
from edgespec.pair import MANIFEST, Pair
from edgespec.progress import Silent
from edgespec.settings import describe
from edgespec.tuning import Bounds, Options, Search, Tuned
from edgespec.tuning.record import KEPT_FOR_S, Record
from edgespec.tuning.settings import DeviceFacts

F32 = "INFERENCE_PRECISION_HINT=f32"
DQ0, DQ64, DQ128 = (f"DYNAMIC_QUANTIZATION_GROUP_SIZE={group} {F32}" for group in (0, 64, 128))


@pytest.fixture
def pair(make_pair: Callable[..., Path]) -> Pair:
    return Pair.open(make_pair())


class Said(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def tuned(pair: Pair, bench: Workbench, **options: Any) -> Tuned:
    found = Search(pair, bench.world(), Options(**options)).run()
    assert bench.loaded == 0, "every engine was closed"
    return found


def test_the_fastest_way_under_the_fastest_settings_wins(pair: Pair) -> None:
    bench = Workbench(
        speeds={"draft-g3": 1.5, "draft-g2": 1.4, "native-copy": 1.8, "lookup": 1.3}, settings={F32: 1.4, DQ128: 1.25}
    )
    profile = tuned(pair, bench).profile
    assert (profile.engine, profile.mode, profile.gamma) == ("native", "copy", None)
    assert profile.settings == {"INFERENCE_PRECISION_HINT": "f32"}
    assert profile.plain.settings == profile.settings
    assert profile.over_plain is not None and profile.over_default is not None
    low, high = profile.over_plain.ci95 or (0, 0)
    assert low < 1.8 < high and profile.over_plain.verdict == "faster"
    low, high = profile.over_default.ci95 or (0, 0)
    assert low < 1.8 * 1.4 < high
    assert profile.tokens_per_second == pytest.approx(1.8 * 1.4 / 0.02, rel=0.1)
    assert profile.default_tokens_per_second == pytest.approx(50, rel=0.1)
    assert profile.quality is not None and profile.quality.top1_agreement == 1.0
    assert profile.draft_device is None and profile.draft_devices == ("CPU",)


def test_off_wins_when_nothing_pays(pair: Pair) -> None:
    profile = tuned(pair, Workbench(others=0.9)).profile
    assert profile.mode == "plain" and not profile.speculative
    assert profile.settings == {} and profile.over_plain is None and profile.over_default is None
    assert "nothing speculative was faster" in profile.sentence()


def test_off_with_better_settings_is_quoted_over_the_untouched_default(pair: Pair) -> None:
    profile = tuned(pair, Workbench(others=0.8, settings={F32: 1.5})).profile
    assert profile.mode == "plain" and profile.settings == {"INFERENCE_PRECISION_HINT": "f32"}
    assert profile.over_plain is None
    assert profile.over_default is not None and profile.over_default.geomean == pytest.approx(1.5, rel=0.05)


def test_equal_arms_make_no_gain_more_often_than_stated(pair: Pair) -> None:
    """Null: every way is exactly as fast as plain. A gain may be claimed in 5 % of tunes; at that rate 4 or more of
    these 24 would come with a chance of 3 %."""
    claims = 0
    for seed in range(24):
        profile = tuned(pair, Workbench(others=1.0, spread=0.03, seed=seed), seed=seed).profile
        claims += profile.speculative
    assert claims <= 3


def test_settings_that_change_the_words_are_not_used_however_fast(pair: Pair) -> None:
    bench = Workbench(speeds={"draft-g3": 1.5}, settings={F32: 3.0, DQ64: 1.3}, logits_off={F32: 8.0})
    found = tuned(pair, bench)
    assert found.profile.settings == {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 64}
    score = found.scores[F32]
    assert not score.kept and score.quality is not None and score.quality.top1_agreement < 0.98
    assert "outside the bounds" in score.sentence()
    assert any("outside the bounds" in item.outcome for item in found.tried if item.settings_name == "f32")


def test_wider_bounds_let_them_through(pair: Pair) -> None:
    bench = Workbench(speeds={"draft-g3": 1.5}, settings={F32: 3.0}, logits_off={F32: 8.0})
    found = tuned(pair, bench, bounds=Bounds(0.0, 100.0))
    assert found.profile.settings == {"INFERENCE_PRECISION_HINT": "f32"}
    assert found.profile.quality is not None and found.profile.quality.least_top1_agreement == 0.0


def test_a_default_outside_the_bounds_is_quoted_but_does_not_win(pair: Pair) -> None:
    found = tuned(pair, Workbench(others=0.8, settings={"default": 1.3}, logits_off={"default": 8.0}))
    profile = found.profile
    assert not found.scores["default"].kept
    assert profile.mode == "plain" and profile.settings != {}
    assert profile.over_default is not None and profile.over_default.verdict == "slower"


def test_settings_may_be_best_for_speculation_and_not_for_plain(pair: Pair) -> None:
    class Narrow(Workbench):
        """f32-dq128 makes passes over several tokens cheaper, and a pass over one dearer."""

        def speed(self, way: str, settings: Any, prompt: int) -> float:
            plain = {F32: 1.4, DQ128: 1.2}
            several = {F32: 1.4, DQ128: 1.8}
            gain = super().speed(way, {}, prompt)
            return gain * (plain if way.endswith("plain") else several).get(describe(settings), 1.0)

    profile = tuned(pair, Narrow(speeds={"draft-g3": 1.5})).profile
    assert profile.name == "draft-g3"
    assert profile.settings == {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}
    assert profile.plain.settings == {"INFERENCE_PRECISION_HINT": "f32"}
    assert profile.over_plain is not None
    assert profile.over_plain.geomean == pytest.approx(1.5 * 1.8 / 1.4, rel=0.1)


def test_the_fastest_way_is_tried_under_plains_settings_too(pair: Pair) -> None:
    """The probe, a draft, likes f32-dq128; the way that wins is slower under it than under what plain likes."""

    class Misleading(Workbench):
        def speed(self, way: str, settings: Any, prompt: int) -> float:
            likes_wide = {F32: 1.4, DQ128: 1.8}
            likes_narrow = {F32: 1.4, DQ128: 1.0}
            gain = super().speed(way, {}, prompt)
            return gain * (likes_wide if way.startswith("draft") else likes_narrow).get(describe(settings), 1.0)

    found = tuned(pair, Misleading(speeds={"draft-g3": 1.5, "native-copy": 3.2}))
    raced = {(item.name, item.settings_name) for item in found.tried if item.part == "ways to decode"}
    assert ("native-copy", "f32-dq128") in raced and ("native-copy", "f32") not in raced
    assert found.profile.name == "native-copy"
    assert found.profile.settings == {"INFERENCE_PRECISION_HINT": "f32"}


def test_it_stops_when_the_winner_is_clear(pair: Pair) -> None:
    bench = Workbench(speeds={"draft-g3": 2.5}, noise=0.02)
    profile = tuned(pair, bench, budget_s=3600).profile
    assert "the winner was clear" in profile.stopped_because
    assert profile.seconds == pytest.approx(bench.now) and bench.now < 600
    slow = [way for way, _, _ in bench.answers if way == "native-stand"]
    assert 0 < len(slow) <= 1 + 6, "a warm-up and two stages were enough to see it"


@pytest.mark.parametrize("budget_s", [20, 60, 120, 240])
def test_a_budget_is_kept_to(pair: Pair, budget_s: float) -> None:
    bench = Workbench(speeds={"draft-g3": 1.6}, load_s=2.0)
    try:
        profile = tuned(pair, bench, budget_s=budget_s).profile
        assert profile.speculative or budget_s < 120
    except EdgespecError as error:
        assert budget_s == 20 and "time was up after" in str(error)
    answer_and_load = 2.0 + 64 * 0.02 / 0.7 * 2
    assert bench.now <= budget_s + 2 * answer_and_load


@pytest.mark.parametrize(("load_s", "budget_s"), [(5.0, 6.0), (0.01, 4.0)])
def test_off_is_not_what_is_left_when_there_was_no_time_to_look(pair: Pair, load_s: float, budget_s: float) -> None:
    """A profile that says "off" would turn speculation off in every app, though it is three times as fast."""
    bench = Workbench(speeds={"draft-g3": 3.0}, load_s=load_s)
    with pytest.raises(
        EdgespecError, match=r"time was up after \d+ s, before any way to speculate .* --budget-minutes"
    ):
        tuned(pair, bench, budget_s=budget_s)
    assert bench.loaded == 0
    assert tuned(pair, Workbench(speeds={"draft-g3": 3.0}), budget_s=25).profile.speculative, (
        "this was enough to see it"
    )


def test_one_way_is_looked_at_though_the_settings_took_longer_than_they_were_to(pair: Pair) -> None:
    """To score what settings say may take any time on a slow machine; the last part's time pays for it."""

    class SlowToScore(Workbench):
        def force(self, *pair: Any, **how: Any) -> None:
            self.now += 6.0
            super().force(*pair, **how)

    bench = SlowToScore(speeds={"draft-g3": 3.0}, settings={F32: 1.4}, load_s=0.2)
    profile = tuned(pair, bench, budget_s=45).profile
    assert profile.speculative and bench.now < 48


def test_settings_that_could_only_be_loaded_are_not_said_to_be_chosen(pair: Pair) -> None:
    said = Said()
    bench = Workbench(speeds={"draft-g3": 1.5}, load_s=3.0)
    Search(pair, bench.world(), Options(budget_s=100), said).run()
    assert said.lines[0].startswith("Settings: no time for the precision; it stays as it is (--budget-minutes")
    assert not any(line.startswith("Settings, ") for line in said.lines)


def test_what_is_left_out_for_want_of_time_is_the_least_promising(pair: Pair) -> None:
    found = tuned(pair, Workbench(speeds={"draft-g3": 1.5}, load_s=4.0), budget_s=150)
    raced = {item.name for item in found.tried if item.part == "ways to decode" and item.ratio is not None}
    last = [item for item in found.tried if item.part == "ways to decode"]
    skipped = {item.name for item in last if item.outcome == "not tried for want of time"}
    assert "draft-g3" in raced and "native-stand" in skipped and not raced & skipped


def test_ways_that_cannot_run_are_told_with_their_reason(pair: Pair) -> None:
    bench = Workbench(speeds={"draft-g3": 1.5}, fails={"lookup"}, breaks={"native-copy": 2})
    found = tuned(pair, bench)
    outcomes = {item.name: item.outcome for item in found.tried if item.part == "ways to decode"}
    assert outcomes["lookup"] == "failed: lookup cannot be loaded"
    assert outcomes["native-copy"] == "failed: the engine's process ended by signal 6"
    assert found.profile.name == "draft-g3"


def test_plain_decoding_has_to_work(pair: Pair) -> None:
    with pytest.raises(EdgespecError, match="plain decoding does not work on CPU: plain cannot be loaded"):
        tuned(pair, Workbench(fails={"plain"}))


def test_little_memory_makes_heats(pair: Pair) -> None:
    bench = Workbench(speeds={"native-copy": 1.8}, settings={F32: 1.4}, holds=4)
    profile = tuned(pair, bench, budget_s=3600).profile
    assert bench.most_loaded <= 4
    assert profile.name == "native-copy" and profile.settings == {"INFERENCE_PRECISION_HINT": "f32"}


def test_a_pair_without_a_draft(make_pair: Callable[..., Path]) -> None:
    pair = Pair.open(make_pair(draft=False))
    found = tuned(pair, Workbench(speeds={"lookup": 1.5}))
    assert found.profile.name == "lookup" and found.profile.draft_devices == ()
    assert "no draft: the pair has no draft" in found.left_out
    assert not any("draft" in way for way, _, _ in Workbench().answers)
    with pytest.raises(EdgespecError, match="the pair has no draft; leave it out"):
        tuned(pair, Workbench(), draft_devices=("CPU",))


def test_a_device_that_runs_no_native_engine_and_no_other_settings(pair: Pair) -> None:
    facts = DeviceFacts("NPU", None, frozenset(), 8, 8)
    bench = Workbench(
        speeds={"draft-g3": 1.5}, facts=facts, refuse={"lookup": "ignored there", "native": "fixed shapes"}
    )
    found = tuned(pair, bench, device="npu")
    assert found.profile.name == "draft-g3" and found.profile.device == "NPU"
    assert found.profile.quality is None and not bench.forced
    assert {"no lookup: ignored there", "no native-copy: fixed shapes"} <= set(found.left_out)
    assert {settings for _, settings, _ in bench.answers} == {"default"}


def test_the_draft_is_tried_on_every_device_given(pair: Pair) -> None:
    class Two(Workbench):
        def open_engine(self, pair: Any, **how: Any) -> Any:
            engine = super().open_engine(pair, **how)
            engine.name += "" if how["draft_device"] in (None, "CPU") else "-on-gpu"
            return engine

    bench = Two(speeds={"draft-g3": 1.3, "draft-on-gpu-g3": 1.9})
    profile = tuned(pair, bench, draft_devices=("CPU", "GPU")).profile
    assert (profile.mode, profile.gamma, profile.draft_device) == ("draft", 3, "GPU")
    assert profile.name == "draft-g3@GPU" and profile.draft_devices == ("CPU", "GPU")


def test_a_disturbed_block_is_measured_again(pair: Pair) -> None:
    class Restless:
        def __init__(self) -> None:
            self.seen = 0

        def start(self, engine: Any) -> None:
            pass

        def stop(self) -> str | None:
            self.seen += 1
            return "other programs took 80 % of the processor" if self.seen == 10 else None

    settled: list[int] = []
    bench = Workbench(speeds={"draft-g3": 1.5})
    world = replace(bench.world(), watch=Restless, settle=lambda: settled.append(1))
    Search(pair, world, Options()).run()
    assert settled == [1]


def test_an_interrupted_tune_closes_its_engines_and_leaves_the_pair_alone(pair: Pair) -> None:
    before = {path: sha256_of(path) for path in pair.root.rglob("*") if path.is_file()}
    for answers in (1, 20, 100):
        bench = Workbench(speeds={"draft-g3": 1.5}, interrupt_after=answers)
        with pytest.raises(KeyboardInterrupt):
            Search(pair, bench.world(), Options()).run()
        assert bench.loaded == 0
    assert {path: sha256_of(path) for path in pair.root.rglob("*") if path.is_file()} == before
    assert (pair.root / MANIFEST).is_file()


def test_an_interrupted_tune_goes_on_from_what_it_measured(pair: Pair, tmp_path: Path) -> None:
    whole = Workbench(speeds={"draft-g3": 1.5})
    expected = Search(pair, whole.world(), Options()).run().profile
    said = Said()
    first = Workbench(speeds={"draft-g3": 1.5}, interrupt_after=150)
    with pytest.raises(KeyboardInterrupt):
        Search(pair, replace(first.world(), interrupted=tmp_path / "tunes"), Options(), said).run()
    assert any("comparisons are kept for a day: the same command goes on" in line for line in said.lines)
    (left,) = (tmp_path / "tunes").iterdir()
    second, said = Workbench(speeds={"draft-g3": 1.5}, seed=1), Said()
    profile = (
        Search(pair, replace(second.world(), interrupted=tmp_path / "tunes"), Options(budget_s=900), said).run().profile
    )
    assert "An interrupted tune is taken up" in said.lines[0]
    assert profile.name == expected.name and profile.tokens_per_second == pytest.approx(75, rel=0.1)
    assert len(second.answers) < len(whole.answers) - 90
    assert not left.exists(), "it has served"


def test_what_was_measured_elsewhere_or_long_ago_is_not_taken_up(pair: Pair, tmp_path: Path) -> None:
    first = Workbench(speeds={"draft-g3": 1.5}, interrupt_after=150)
    with pytest.raises(KeyboardInterrupt):
        Search(pair, replace(first.world(), interrupted=tmp_path / "tunes"), Options()).run()
    (left,) = (tmp_path / "tunes").iterdir()
    other = Workbench(speeds={"draft-g3": 1.5}, prompts=7)
    said = Said()
    Search(pair, replace(other.world(), interrupted=tmp_path / "tunes"), Options(), said).run()
    assert left.exists() and "taken up" not in said.lines[0]
    assert Record.at(left).known
    assert not Record.at(left, now=lambda: time.time() + KEPT_FOR_S + 1).known
    left.write_text('{"schema": 1, "at": "yesterday"}', encoding="utf-8")
    assert not Record.at(left).known


def test_stopped_in_the_last_part_it_states_what_its_rounds_say(pair: Pair) -> None:
    """Ctrl-C once every arm was measured in fresh processes: the figures are there, with wider intervals."""
    whole = Workbench(speeds={"draft-g3": 1.5})
    Search(pair, whole.world(), Options()).run()
    bench = Workbench(speeds={"draft-g3": 1.5}, interrupt_after=len(whole.answers) - 3)
    profile = Search(pair, bench.world(), Options()).run().profile
    assert profile.name == "draft-g3" and "it was stopped in round" in profile.stopped_because


def test_a_profile_states_the_pace_of_plain_decoding(pair: Pair) -> None:
    """20 ms a token with the prompt; the scripted prompt takes a tenth of an answer of 64 tokens."""
    plain = tuned(pair, Workbench(speeds={"draft-g3": 1.5})).profile.plain
    assert plain.tpot_ms == pytest.approx(20 * 0.9 * 64 / 63, rel=0.1)
    assert plain.context_tokens == 2 + 32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "AUTO"}, "a profile is for one device"),
        ({"device": "GPU.7"}, "there is no device 'GPU.7'"),
        ({"draft_devices": ("CPU", "CPU")}, "named twice"),
        ({"gammas": (0,)}, "different whole numbers from 1 to 32"),
        ({"gammas": (2, 2)}, "different whole numbers from 1 to 32"),
        ({"thresholds": (1.5,)}, "different confidences between 0 and 1"),
        ({"budget_s": 0}, "a budget is above 0"),
        ({"max_new_tokens": 1}, "an answer has at least 2 tokens"),
    ],
)
def test_what_cannot_be_asked_is_refused(pair: Pair, options: dict[str, Any], words: str) -> None:
    with pytest.raises(EdgespecError, match=words):
        tuned(pair, Workbench(), **options)


def test_two_prompts_are_too_few(pair: Pair) -> None:
    with pytest.raises(EdgespecError, match="has 2 prompts, and a tune needs at least 3"):
        tuned(pair, Workbench(prompts=2))
    assert BF16_CPU.default_precision == "bf16"
