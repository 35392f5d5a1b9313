"""The arm `tuned`: what the pair's profile says, measured beside the others, or refused with a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgespec.bench import run_bench
from edgespec.bench.prompts import Suite
from edgespec.errors import EdgespecError
from edgespec.profile import Gain, Here, PlainDecoding, Profile, save_profile


@pytest.fixture
def tuned_pair(make_pair: Callable[..., Path]) -> Callable[..., Path]:
    """A pair with a profile for this machine's CPU."""

    def build(**changes: Any) -> Path:
        root = make_pair()
        here = Here.on("CPU")
        values: dict[str, Any] = {
            "machine_fingerprint": "0123456789abcdef",
            "machine": here.machine,
            "device": "CPU",
            "device_name": here.device_name,
            "versions": here.versions,
            "draft_device": "CPU",
            "draft_devices": ("CPU",),
            "engine": "genai",
            "mode": "draft",
            "gamma": 4,
            "threshold": None,
            "settings": {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128},
            "tokens_per_second": 40.0,
            "plain": PlainDecoding(engine="genai", settings={}, tokens_per_second=25.0),
            "default_tokens_per_second": 25.0,
            "over_plain": Gain(geomean=1.6, ci95=(1.5, 1.7), verdict="faster", prompts=8),
            "over_default": None,
            "quality": None,
            "prompts": "quick",
            "prompts_sha256": "ab" * 32,
            "max_new_tokens": 64,
            "tried": 12,
            "stopped_because": "the winner was clear",
            "seconds": 200.0,
            "at": "2026-11-28T15:00:00+00:00",
        }
        save_profile(root, Profile(**(values | changes)))
        return root

    return build


def bench(pair: Path, out: Path, suite: Suite, backend: Any, **options: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {"arms": ["plain", "draft", "tuned"], "gammas": [2], "max_new_tokens": 12}
    return run_bench(pair, out, prompts=suite, backend=backend, repetitions=2, **(defaults | options))


def test_it_runs_what_the_profile_says(
    tuned_pair: Callable[..., Path], tmp_path: Path, suite: Suite, script: Any, make_backend: Callable[..., Any]
) -> None:
    script.speed = {"default": 1.0, "f32": 0.8, "f32-dq128": 0.5}
    report = bench(tuned_pair(), tmp_path / "out", suite, make_backend(script), settings="f32")
    arms = {arm["name"]: arm for arm in report["arms"]}
    tuned = arms["tuned"]
    assert (tuned["engine"], tuned["mode"], tuned["gamma"], tuned["draft_device"]) == ("genai", "draft", 4, "CPU")
    assert tuned["settings"] == {
        "name": "tuned",
        "properties": {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128},
    }
    assert ("draft", "f32-dq128", 4) in script.calls and ("draft", "f32", 2) in script.calls
    assert tuned["speedup"]["geomean"] > arms["draft-g2"]["speedup"]["geomean"]
    assert any(
        "The arm 'tuned' is draft-g4 with DYNAMIC_QUANTIZATION_GROUP_SIZE=128" in note for note in report["notes"]
    )
    assert "2026-11-28" in report["notes"][0]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "the tuned profile" in page


def test_passes_under_other_settings_do_not_predict_it(
    tuned_pair: Callable[..., Path], tmp_path: Path, suite: Suite, script: Any, make_backend: Callable[..., Any]
) -> None:
    other = bench(tuned_pair(), tmp_path / "other", suite, make_backend(script), settings="f32")
    arms = {arm["name"]: arm for arm in other["arms"]}
    assert arms["draft-g2"]["predicted_speedup"] is not None
    assert (arms["tuned"]["predicted_speedup"], arms["tuned"]["c"], arms["tuned"]["v"]) == (None, None, {})


def test_passes_under_the_same_settings_do(
    tuned_pair: Callable[..., Path], tmp_path: Path, suite: Suite, script: Any, make_backend: Callable[..., Any]
) -> None:
    pair = tuned_pair(settings={"INFERENCE_PRECISION_HINT": "f32"}, gamma=3)
    report = bench(pair, tmp_path / "out", suite, make_backend(script), settings="f32")
    tuned = next(arm for arm in report["arms"] if arm["name"] == "tuned")
    assert tuned["predicted_speedup"] is not None and tuned["c"] is not None


def test_a_profile_that_says_off_is_measured_as_plain(
    tuned_pair: Callable[..., Path], tmp_path: Path, suite: Suite, script: Any, make_backend: Callable[..., Any]
) -> None:
    pair = tuned_pair(mode="plain", gamma=None, draft_device=None, over_plain=None)
    report = bench(pair, tmp_path / "out", suite, make_backend(script), settings="default")
    tuned = next(arm for arm in report["arms"] if arm["name"] == "tuned")
    assert tuned["mode"] == "plain" and tuned["speedup"]["geomean"] > 1.3
    assert report["headline"]["arm"] == "draft-g2", "off is no speculation to head a report with"


def test_without_a_profile_it_is_refused(
    make_pair: Callable[..., Path], tmp_path: Path, suite: Suite, script: Any, make_backend: Callable[..., Any]
) -> None:
    with pytest.raises(EdgespecError, match="the arm 'tuned' cannot be measured: the pair has no tuned profile"):
        bench(make_pair(), tmp_path / "out", suite, make_backend(script))
    assert not (tmp_path / "out").exists()


def test_another_devices_profile_is_refused(
    tuned_pair: Callable[..., Path], tmp_path: Path, suite: Suite, script: Any, make_backend: Callable[..., Any]
) -> None:
    with pytest.raises(EdgespecError, match="tuned for CPU, not for GPU"):
        bench(tuned_pair(), tmp_path / "out", suite, make_backend(script), device="GPU")


def test_a_greedy_profile_is_refused_where_it_would_not_follow_the_target(
    tuned_pair: Callable[..., Path], tmp_path: Path, suite: Suite, script: Any, make_backend: Callable[..., Any]
) -> None:
    with pytest.raises(EdgespecError, match="its profile is draft-g4, and openvino-genai's output would follow"):
        bench(
            tuned_pair(),
            tmp_path / "out",
            suite,
            make_backend(script),
            arms=["plain", "tuned"],
            gammas=None,
            temperature=0.8,
        )


def test_an_interrupted_run_does_not_go_on_with_another_profile(
    tuned_pair: Callable[..., Path], tmp_path: Path, suite: Suite, script: Any, make_backend: Callable[..., Any]
) -> None:
    pair, out = tuned_pair(), tmp_path / "out"
    script.interrupt_after = 30
    with pytest.raises(KeyboardInterrupt):
        bench(pair, out, suite, make_backend(script), settings="default")
    script.interrupt_after = None
    entry = json.loads((pair / "edgespec.json").read_text(encoding="utf-8"))["profiles"][0]
    save_profile(pair, Profile.model_validate({**entry, "gamma": 5}))
    with pytest.raises(EdgespecError, match="holds a run of another tuned profile"):
        bench(pair, out, suite, make_backend(script), settings="default")
    save_profile(pair, Profile.model_validate(entry))
    assert bench(pair, out, suite, make_backend(script), settings="default")["complete"]
