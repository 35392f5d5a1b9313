"""Routing as a pure decision: what is asked and what is there, to a way and its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespec import EdgespecError, Pair, SpecPipeline
from edgespec.profile import Gain, Here, PlainDecoding, Profile, save_profile
from edgespec.runtime import Piece, Result, npu, placement
from edgespec.runtime.modes import Way
from edgespec.runtime.placement import Placement
from edgespec.runtime.routing import Wishes, explicit, ways, why_not
from edgespec.sampling import GREEDY, Sampling

SAMPLED = Sampling(0.8)
STOPPED = Sampling(stop_strings=("x",))


def placed(device: str = "CPU", draft_device: str | None = None, profile: Profile | None = None) -> Placement:
    return Placement(device, draft_device, "asked for", profile, "tuned on this machine" if profile else "none")


def wishes(sampling: Sampling = GREEDY, **more: bool) -> Wishes:
    return Wishes(sampling, **{"constrained": False, "has_draft": True, "adapters": False, **more})


def tuned(engine: str, mode: str, gamma: int | None = None, **more: object) -> Profile:
    here = Here.on("CPU")
    return Profile.model_validate(
        {
            "machine_fingerprint": "x", "machine": here.machine, "device": "CPU", "device_name": here.device_name,
            "draft_device": None, "draft_devices": (), "engine": engine, "mode": mode, "gamma": gamma,
            "threshold": None, "settings": {}, "tokens_per_second": 200.0,
            "plain": PlainDecoding(engine="native", settings={}, tokens_per_second=100.0),
            "default_tokens_per_second": 90.0,
            "over_plain": Gain(geomean=2.0, ci95=(1.9, 2.1), verdict="faster", prompts=10),
            "over_default": None, "quality": None, "prompts": "quick", "prompts_sha256": "0", "max_new_tokens": 64,
            "tried": 3, "stopped_because": "it was clear", "seconds": 1.0, "at": "2026-11-28T00:00:00+00:00",
            "versions": here.versions, **more,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "place", "name", "reason"),
    [
        (wishes(), placed(), "native-hybrid", "greedy, and the pair has a draft"),
        (wishes(SAMPLED), placed(), "native-hybrid", "exact acceptance"),
        (wishes(has_draft=False), placed(), "native-adaptive-copy", "the pair has no draft"),
        (wishes(head=True), placed(), "eagle3", "greedy, and the pair's draft is an EAGLE-3 head"),
        (wishes(SAMPLED, head=True), placed(), "native-adaptive-copy", "copies from the context"),
        (wishes(head=True, constrained=True), placed(), "native-adaptive-copy", "copies from the context"),
        (wishes(STOPPED), placed(profile=tuned("genai", "draft", 3)), "draft", "tuned on this machine"),
        (wishes(STOPPED), placed(profile=tuned("genai", "lookup", 5)), "lookup", "tuned on this machine"),
        (wishes(STOPPED, head=True), placed(), "eagle3", "greedy, and the pair's draft is an EAGLE-3 head"),
        (wishes(prefix=False), placed(profile=tuned("genai", "draft", 3)), "native-hybrid", "reuse_prefix=False"),
        (wishes(prefix=True), placed(profile=tuned("genai", "draft", 3)), "draft", "tuned on this machine"),
        (wishes(gguf=True), placed(), "draft", "the target is a GGUF file, and the pair has a draft"),
        (wishes(SAMPLED, gguf=True), placed(), "plain", "the target is a GGUF file, decoded plainly"),
        (wishes(STOPPED, gguf=True), placed(), "draft", "the target is a GGUF file, and the pair has a draft"),
        (wishes(gguf=True, has_draft=False), placed(profile=tuned("genai", "lookup")), "lookup", "tuned on this"),
        (wishes(adapters=True), placed(), "plain", "LoRA adapters run on openvino-genai"),
        (wishes(), placed("NPU"), "plain", "when a tuned profile says that it pays"),
        (wishes(), placed(profile=tuned("genai", "draft", 3)), "draft", "tuned on this machine"),
        (
            wishes(SAMPLED),
            placed(profile=tuned("genai", "draft", 3)),
            "native-hybrid",
            "the tuned mode is 'draft', but",
        ),
        (wishes(SAMPLED), placed(profile=tuned("genai", "lookup", 5)), "lookup", "tuned on this machine"),
        (wishes(), placed(profile=tuned("native", "plain")), "native-plain", "tuned on this machine"),
        (wishes(constrained=True), placed(profile=tuned("genai", "draft")), "native-hybrid", "a grammar is kept by"),
        (wishes(), placed("NPU", profile=tuned("genai", "draft", 3)), "draft", "tuned on this machine"),
        (wishes(SAMPLED), placed("NPU", profile=tuned("genai", "draft", 3)), "plain", "but at temperature above 0"),
    ],
)
def test_the_first_choice_and_why(wish: Wishes, place: Placement, name: str, reason: str) -> None:
    first = ways(wish, place)[0]
    assert first.way.name == name and reason in first.why


def test_plain_decoding_has_its_own_tuned_settings() -> None:
    plain = PlainDecoding(engine="native", settings={"INFERENCE_NUM_THREADS": 1}, tokens_per_second=100.0)
    place = placed(profile=tuned("genai", "draft", 3, settings={"INFERENCE_NUM_THREADS": 2}, plain=plain))
    assert place.settings_for(Way("native", "plain")) == {"INFERENCE_NUM_THREADS": 1}
    for way in (Way("genai", "plain"), Way("genai", "draft"), Way("native", "hybrid")):
        assert place.settings_for(way) == {"INFERENCE_NUM_THREADS": 2}
    assert placed().settings_for(Way("native", "plain")) == {}


def test_the_last_choices_decode_plainly() -> None:
    assert [choice.way.name for choice in ways(wishes(), placed())][-2:] == ["plain", "native-plain"]
    assert all(choice.governed == choice.way.speculative for choice in ways(wishes(), placed()))
    assert ways(wishes(constrained=True), placed("NPU")) == []


@pytest.mark.parametrize(
    ("way", "wish", "place", "sentence"),
    [
        (Way("genai", "draft"), wishes(SAMPLED), placed(), "does not follow the target's distribution"),
        (Way("genai", "draft"), wishes(has_draft=False), placed(), "the pair has no draft"),
        (Way("native", "copy"), wishes(adapters=True), placed(), "the native engine applies none"),
        (Way("native", "copy"), wishes(gguf=True), placed(), "a GGUF file, which the native engine does not read"),
        (Way("genai", "draft"), wishes(adapters=True), placed(), "the draft would have to have them too"),
        (Way("native", "copy"), wishes(), placed("NPU"), "an NPU runs models of fixed shape only"),
        (Way("native", "draft"), wishes(), placed("CPU", "NPU"), "an NPU runs models of fixed shape only"),
        (Way("genai", "lookup"), wishes(), placed("NPU"), "ignores prompt lookup on an NPU"),
        (Way("genai", "plain"), wishes(Sampling(logit_bias={1: 1.0})), placed(), "has no logit_bias"),
        (
            Way("genai", "plain"),
            wishes(prefix=True),
            placed("NPU"),
            "reuse_prefix=True was given and openvino-genai reads",
        ),
        (Way("genai", "draft"), wishes(prefix=True), placed("CPU", "NPU"), "reads every prompt anew on an NPU"),
        (Way("genai", "eagle3"), wishes(prefix=True, head=True), placed(), "reads every prompt anew beside an EAGLE-3"),
        (Way("genai", "plain"), wishes(prefix=False), placed(), "keeps what its cache holds of every prompt"),
        (
            Way("genai", "plain"),
            wishes(Sampling(presence_penalty=1.0), continued=True),
            placed(),
            "would count presence and frequency penalties anew",
        ),
        (
            Way("genai", "draft"),
            wishes(Sampling(repetition_penalty=1.2)),
            placed("CPU", "NPU"),
            "mode 'draft' ignores penalties",
        ),
    ],
)
def test_an_explicit_mode_is_refused_where_it_would_not_obey(
    way: Way, wish: Wishes, place: Placement, sentence: str
) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        explicit(way, wish, place)


def test_what_can_be_done_is_done() -> None:
    assert why_not(Way("genai", "plain"), wishes(Sampling(0.5, stop_strings=("x",))), placed("NPU")) is None
    assert why_not(Way("native", "copy"), wishes(has_draft=False), placed("CPU", "NPU")) is None
    assert explicit(Way("genai", "lookup"), wishes(SAMPLED), placed()).why == "asked for"


def test_npu_lengths_grow_with_what_is_asked_and_stay_otherwise() -> None:
    lengths = npu.Lengths(256, 256, 8)
    assert lengths.hold(100, 200, 3) and lengths.holding(256, 256 - 17, 8) == lengths
    assert lengths.holding(257, 300, 12) == npu.Lengths(512, 512, 12)


def test_a_profile_is_used_and_said_and_another_machines_is_not(
    tiny_pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    root = Path(shutil.copytree(tiny_pair, tmp_path / "tuned"))
    save_profile(root, tuned("genai", "draft", 2, settings={"INFERENCE_PRECISION_HINT": "f32"}))
    with SpecPipeline(root) as opened:
        result = opened.generate("def add", max_new_tokens=6)
        assert (result.metrics.mode, result.metrics.engine) == ("draft", "genai")
        assert "tuned on this machine on 2026-11-28: draft-g2" in result.metrics.why
        text = str(opened.explain())
        assert "settings: INFERENCE_PRECISION_HINT=f32" in text and "AUTO: tuned on this machine" in text
        assert opened.choose(temperature=1.0)[0] == "native-hybrid"
        governor = opened._governor(Way("genai", "draft"))
        assert governor.plain_pace is None, "the profile's tokens/s hold the prompt's pass"
        text = opened.generate("def add", max_new_tokens=30).text
        for start in (5, 9, 14):
            *pieces, stopped = opened.stream("def add", max_new_tokens=30, stop=[text[start : start + 4]])
            assert isinstance(stopped, Result) and stopped.metrics.mode == "draft"
            assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) == stopped.text
            assert stopped.finish_reason == "stop" and text[start : start + 4] not in stopped.text
        governor._turn_off(0.5)
        assert opened.choose() == ("native-plain", governor.sentence()), "what the governor turned off is not told"
        assert f"greedy: mode 'native-plain', {governor.sentence()}" in str(opened.explain())
        opened._move_to_last_resort(EdgespecError("it is gone"))
        assert opened._governor(Way("genai", "draft")) is not governor
    foreign = tuned("genai", "draft", 2).model_copy(
        update={"machine": Here.on("CPU").machine.model_copy(update={"cpu": "another"})}
    )
    other = Path(shutil.copytree(tiny_pair, tmp_path / "foreign"))
    save_profile(other, foreign)
    with SpecPipeline(other) as opened:
        assert opened.choose()[0] == "native-hybrid"
        assert "tuned on another machine ('another'" in str(opened.explain())


def test_a_device_that_is_not_there_is_replaced_in_auto_and_refused_otherwise(tiny_pair: Path) -> None:
    pair = Pair.open(tiny_pair)
    found = placement.place(pair, "GPU", "NPU", auto=True)
    assert found.device == "CPU" and found.draft_device is None
    assert "there is no device 'GPU'" in found.why and "there is no device 'NPU'" in found.why
    with pytest.raises(EdgespecError, match="there is no device 'GPU'"):
        placement.place(pair, "GPU", None, auto=False)
    with pytest.raises(EdgespecError, match="there is no device 'NPU'"):
        placement.place(pair, "CPU", "NPU", auto=False)
