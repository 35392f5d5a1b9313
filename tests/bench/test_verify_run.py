"""`edgespec verify` on scripted arms: right ones pass, wrong ones are found, and the document says why."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_world import TableSpeaker, scripted, table

from edgespec import cli
from edgespec.bench.prompts import Suite
from edgespec.bench.verify import run_verify, variation
from edgespec.bench.verify.expectation import Draws
from edgespec.bench.verify.telling import arm_sentence, notes, verification_sentence
from edgespec.bench.verify.world import World
from edgespec.errors import EdgespecError
from edgespec.sampling import Sampling

TARGET, DRAFT = table(1), table(2)
DRAWS = Draws(Sampling(1.0), samples=600, tokens=3, contexts=2)
Verify = Callable[..., dict[str, Any]]


@pytest.fixture
def verify(make_pair: Callable[..., Path], suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Verify:
    pair = make_pair()
    monkeypatch.setattr(variation, "REPLICATES", 1999)

    def run(
        speakers: dict[str, TableSpeaker], /, *, world: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        made = scripted(speakers, target=TARGET, draft=DRAFT, **(world or {}))
        return run_verify(pair, prompts=suite, max_new_tokens=12, world=made, **options)

    return run


def test_right_arms_pass_both_checks(verify: Verify) -> None:
    speaker = TableSpeaker(TARGET)
    speakers = {"draft": speaker, "lookup": TableSpeaker(TARGET)}
    result = verify(speakers, arms=["draft", "lookup"], draws=DRAWS)
    assert result["passed"]
    assert {name: record["matched"] for name, record in result["greedy"].items()} == {
        "plain": 12,
        "draft": 12,
        "lookup": 12,
    }
    assert [(record["arm"], record["samples"]) for record in result["sampled"]] == [
        (arm, 600) for arm in ("plain", "draft", "lookup") for _ in range(2)
    ]
    for record in result["sampled"]:
        assert 0 < record["null_median"] < record["null_bound95"] < record["draft_variation"] < 1
        assert 0 < record["finds"] < record["draft_variation"]
        assert record["acceptance_rate"] == 0.5
    assert result["control"] is None and result["tests"] == 6
    assert speaker.closed >= 2, "after each check"
    assert verification_sentence(result).startswith("PASS")
    json.dumps(result, allow_nan=False)


def test_what_looks_wrong_by_chance_is_sampled_once_more(verify: Verify) -> None:
    """Seed 0 is one of the 5 in 100 in which a right arm looks wrong at first."""
    result = verify({"draft": TableSpeaker(TARGET), "lookup": TableSpeaker(TARGET)}, draws=DRAWS, seed=0)
    (doubtful,) = [record for record in result["sampled"] if record["again"]]
    assert doubtful["p_value"] < 0.05 / 6
    assert doubtful["again"]["p_value"] > 0.05 and doubtful["passed"] and result["passed"]
    assert any("looked wrong at first" in note and "fresh samples" in note for note in notes(result))


def test_an_arm_that_follows_its_draft_is_found(verify: Verify) -> None:
    follower = TableSpeaker(TARGET, draft=DRAFT, share=0.5)
    result = verify({"bad": follower, "good": TableSpeaker(TARGET)}, arms=["bad", "good"], draws=DRAWS)
    verdicts = {(record["arm"], record["passed"]) for record in result["sampled"]}
    assert verdicts == {("plain", True), ("bad", False), ("good", True)}
    assert result["greedy"]["bad"]["passed"], "it is only wrong when it samples"
    assert not result["passed"]
    assert verification_sentence(result) == "FAIL: bad changes what the model says."
    assert "do NOT follow the target's distribution" in arm_sentence(result, "bad")


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        ({"temperature": 1.0}, {"temperature": 1.3}),
        ({"temperature": 1.0, "top_p": 0.8}, {"top_p": 1.0}),
        ({"temperature": 1.0, "top_k": 5}, {"top_k": 7}),
    ],
)
def test_an_arm_that_drops_an_option_is_found(verify: Verify, asked: dict[str, Any], done: dict[str, Any]) -> None:
    draws = replace(DRAWS, sampling=Sampling(**asked), samples=1500)
    deaf = TableSpeaker(TARGET, change=lambda sampling: replace(sampling, **done))
    result = verify({"deaf": deaf}, arms=["deaf"], draws=draws)
    assert {(record["arm"], record["passed"]) for record in result["sampled"]} == {("plain", True), ("deaf", False)}


def test_other_words_fail_under_exact_settings(verify: Verify) -> None:
    result = verify({"bad": TableSpeaker(TARGET, flips={7: 3})}, arms=["bad"])
    record = result["greedy"]["bad"]
    assert (record["matched"], record["total"], record["unexplained"], record["passed"]) == (11, 12, 1, False)
    (found,) = record["first_divergence"]
    assert found["prompt"] == "test-05" and found["position"] == 3 and found["logit_gap"] > 0
    assert not result["passed"] and result["sampled"] == [] and result["sampling"] is None
    assert "rounding explains a logit gap up to 0, and" in arm_sentence(result, "bad")


def test_plain_decoding_that_is_not_greedy_is_not_speculations_fault(verify: Verify) -> None:
    flips = {7: 3}
    arms = {"plain": TableSpeaker(TARGET, flips=flips), "draft": TableSpeaker(TARGET, flips=flips)}
    result = verify(arms, arms=["draft"])
    assert not result["greedy"]["plain"]["passed"]
    assert result["greedy"]["draft"]["passed"]
    assert "plain decoding itself" in verification_sentence(result)


def near_ties() -> np.ndarray:
    """TARGET with the two likeliest tokens everywhere 0.001 apart."""
    ties = TARGET.copy()
    for row in ties:
        best, second = np.argsort(-row)[:2]
        row[second] = row[best] - 0.001
    return ties


def test_rounding_explains_near_ties_but_not_many_more_than_the_control(
    make_pair: Callable[..., Path], suite: Suite
) -> None:
    ties, pair = near_ties(), make_pair()
    arms = {
        "few": TableSpeaker(ties, flips={7: 3, 9: 1}),
        "many": TableSpeaker(ties, flips=dict.fromkeys(range(2, 12), 0)),
    }
    world = scripted(arms, target=ties, rounding=0.01, control={4: 2})
    result = run_verify(pair, prompts=suite, max_new_tokens=12, world=world, exact=False, arms=["few", "many"])
    few, many = result["greedy"]["few"], result["greedy"]["many"]
    assert result["control"]["matched"] == 11 and result["exact"] is False
    assert (few["matched"], few["unexplained"], few["passed"]) == (10, 0, True)
    assert few["p_value"] == pytest.approx(0.5)  # 2 against 1: chances 3/8 + 1/8
    assert (many["matched"], many["unexplained"], many["passed"]) == (2, 0, False)
    assert many["control"] == "control"
    assert "significantly fewer than its control, plain decoding in a batch" in arm_sentence(result, "many")

    calm = scripted(arms, target=ties, rounding=1e-5, control={4: 2})
    result = run_verify(pair, prompts=suite, max_new_tokens=12, world=calm, exact=False, arms=["few"])
    assert result["greedy"]["few"]["unexplained"] == 2, "gaps of 0.001 where rounding moves them by 0.00001"
    assert not result["passed"]


def test_under_default_settings_it_is_said_what_rounding_does_to_the_distribution(verify: Verify) -> None:
    result = verify({"draft": TableSpeaker(TARGET)}, draws=DRAWS, exact=False, world={"rounding": 0.05})
    shares = {record["rounding_variation"] for record in result["sampled"]}
    assert all(0 < share < 0.1 for share in shares)
    assert any("Rounding alone moves" in note for note in notes(result))
    exact = verify({"draft": TableSpeaker(TARGET)}, draws=DRAWS)
    assert {record["rounding_variation"] for record in exact["sampled"]} == {None}


def test_the_same_seed_gives_the_same_document(verify: Verify) -> None:
    arms = {"good": TableSpeaker(TARGET)}
    first, second, third = (verify(arms, arms=["good"], draws=DRAWS, seed=seed) for seed in (3, 3, 4))
    assert first == second
    assert [r["total_variation"] for r in first["sampled"]] != [r["total_variation"] for r in third["sampled"]]


def test_what_could_not_be_seen_is_said(verify: Verify) -> None:
    mute = TableSpeaker(TARGET, proposed=0)
    result = verify({"mute": mute}, arms=["mute"], draws=DRAWS)
    assert any("mute proposed nothing while sampling" in note for note in notes(result))
    result["sampled"][0] |= {"finds": None, "total_variation": 0.9, "passed": True}
    assert any("might pass" in note for note in notes(result))
    assert any("lie above their 95 % bound and pass" in note for note in notes(result))


def test_an_arm_that_cannot_be_loaded_is_refused_when_asked_for_and_else_left_out(verify: Verify) -> None:
    arms = {"draft": TableSpeaker(TARGET), "lookup": TableSpeaker(TARGET)}
    with pytest.raises(EdgespecError, match="lookup cannot be loaded"):
        verify(arms, arms=["draft", "lookup"], world={"fails": ["lookup"]})
    result = verify(arms, world={"fails": ["lookup"]}, draws=DRAWS)
    assert list(result["greedy"]) == ["plain", "draft"]
    assert result["left_out"] == ["lookup is left out: lookup cannot be loaded."]
    with pytest.raises(EdgespecError, match="plain cannot be loaded"):
        verify(arms, world={"fails": ["plain"]})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"arms": ["warp"]}, "--arms got 'warp'; this pair and device have plain, draft"),
        ({"arms": ["draft", "draft"]}, "names an arm twice"),
        ({"max_new_tokens": 0}, "--max-new-tokens is 0"),
        ({"gamma": 0}, "--gamma is 0"),
        ({"gamma": 2}, "--gamma is for arms that propose"),
        ({"draft_device": "GPU"}, "--draft-device is for arms with a draft"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_refusals(make_pair: Callable[..., Path], suite: Suite, options: dict[str, Any], sentence: str) -> None:
    world = scripted({"draft": TableSpeaker(TARGET)}, target=TARGET)
    with pytest.raises(EdgespecError, match=sentence):
        run_verify(make_pair(), prompts=suite, world=world, **options)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tokens": 5}, "--tokens is 5; give 1 to 4"),
        ({"samples": 10}, "--samples is 10; give 200 or more"),
        ({"sampling": Sampling()}, "nothing to sample"),
    ],
)
def test_draws_out_of_range_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        replace(DRAWS, **wrong)


@pytest.fixture
def command(make_pair: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command on a world whose arm `lookup` follows the draft when it samples."""
    pair = make_pair()
    world = scripted(
        {"draft": TableSpeaker(TARGET), "lookup": TableSpeaker(TARGET, draft=DRAFT, share=1.0)},
        target=TARGET,
        draft=DRAFT,
    )
    prompts = tmp_path / "three.jsonl"
    prompts.write_text("".join(json.dumps({"id": f"p-{i}", "prompt": "x"}) + "\n" for i in range(3)), encoding="utf-8")
    monkeypatch.setattr(World, "real", classmethod(lambda cls, *_: world))
    monkeypatch.setattr(variation, "REPLICATES", 999)
    monkeypatch.setitem(cli.VERBS, "verify", "")
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> int:
        argv = ["edgespec", "verify", str(pair), "--prompts", str(prompts), "--samples", "300", *words]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run


def test_the_exit_code_tells(command: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command("--out", "result", "--json") == 0
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    assert json.loads(line)["passed"] is True
    assert json.loads((tmp_path / "result" / "verify.json").read_text(encoding="utf-8")) == json.loads(line)
    assert "PASS" in captured.err

    assert command("--temperature", "1", "--json") == 1
    captured = capsys.readouterr()
    result = json.loads(captured.out.splitlines()[-1])
    assert not result["passed"] and result["sampling"]["samples"] == 300
    assert "FAIL: lookup changes what the model says." in " ".join(captured.err.split())

    assert command("--temperature", "1", "--arms", "draft") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--top-p", "0.9"), "--top-p changes sampled answers only"),
        (("--top-k", "9"), "--top-k changes sampled answers only"),
        (("--arms", "warp"), "--arms got 'warp'"),
        (("--temperature", "-1"), "temperature must lie between"),
        (("--temperature", "1", "--tokens", "9"), "--tokens is 9"),
    ],
)
def test_mistakes_are_sentences_and_exit_code_2(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], words: tuple[str, ...], complaint: str
) -> None:
    assert command(*words) == 2
    captured = capsys.readouterr()
    assert complaint in " ".join(captured.err.split())
    assert captured.out == ""
