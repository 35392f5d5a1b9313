"""`verify` on the tiny pair: real engines that are right pass, openvino-genai's sampling with a draft does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgespec.bench.prompts import Prompt, Suite
from edgespec.bench.speakers import BatchSpeaker
from edgespec.bench.verify import Draws, run_verify
from edgespec.bench.verify.world import World
from edgespec.engine.drafters import DRAFTERS
from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.sampling import Sampling
from edgespec.settings import EXACT

TEXTS = ("def add(a, b):\n    return a + b\n", "for i in range(10):\n    print(i, i * i)\n", "class Stack:\n    def")
SUITE = Suite("three", tuple(Prompt(f"p-{i}", "code", (text,), False) for i, text in enumerate(TEXTS)))


def check(pair: Path, arms: list[str], **options: Any) -> dict[str, Any]:
    return run_verify(pair, prompts=SUITE, max_new_tokens=16, arms=arms, **options)


def test_what_samples_right_passes_and_openvino_genai_with_a_draft_does_not(tiny_pair: Path) -> None:
    """Which is why `GenaiEngine` refuses it (openvino.genai#4190), and what the native engine is for."""
    arms = ["lookup", "genai-draft-sampled", "native-draft", "native-recycling"]
    draws = Draws(Sampling(1.0, top_k=12), samples=240, tokens=2, contexts=1)
    result = check(tiny_pair, arms, draws=draws, gamma=3)
    verdicts = {record["arm"]: record["passed"] for record in result["sampled"]}
    assert verdicts == {"plain": True, **dict.fromkeys(arms, True), "genai-draft-sampled": False}
    assert "genai-draft-sampled" not in result["greedy"]
    assert all(record["passed"] and record["matched"] == 3 for record in result["greedy"].values())
    for record in result["sampled"]:
        assert record["finds"] < record["draft_variation"]
        assert not record["arm"].startswith("native-") or record["proposed"] > 0


def test_openvino_genai_cuts_by_top_k_and_top_p_as_our_processors_do(tiny_pair: Path) -> None:
    result = check(tiny_pair, ["plain"], draws=Draws(Sampling(0.8, top_k=40, top_p=0.9), samples=400, contexts=1))
    assert result["passed"]


def test_a_proof_is_only_for_sampling(tiny_pair: Path) -> None:
    with pytest.raises(EdgespecError, match="cannot be checked greedily: it is there to be sampled"):
        check(tiny_pair, ["genai-draft-sampled"])


def test_the_draft_says_the_same_words_under_exact_settings(tiny_pair: Path) -> None:
    result = check(tiny_pair, ["draft"])
    assert result["passed"] and result["logit_shift"] == 0
    assert result["greedy"]["draft"]["matched"] == result["greedy"]["draft"]["total"] == 3


def test_an_npu_is_refused(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPUW_DEVICES", "CPU")
    with pytest.raises(EdgespecError, match="verify the pair with --device CPU or GPU"):
        check(tiny_pair, ["draft"], device="NPU")


def test_default_settings_come_with_a_control(tiny_pair: Path) -> None:
    result = check(tiny_pair, ["draft", "native-copy"], exact=False)
    assert result["settings"] == "default"
    assert result["control"]["total"] == 3
    greedy = result["greedy"]
    assert (greedy["draft"]["control"], greedy["native-copy"]["control"]) == ("control", "native-plain")
    assert "p_value" not in greedy["plain"] and "p_value" not in greedy["native-plain"], "controls are not compared"
    assert result["passed"]


def test_a_batch_gives_every_seed_its_own_answer_and_repeats_it(tiny_pair: Path) -> None:
    speaker = BatchSpeaker(Pair.open(tiny_pair), "plain", "CPU", None, EXACT)
    ids, sampling = list(range(40, 60)), Sampling(1.0)
    first = [tuple(answer) for answer in speaker.sample(ids, 4, sampling, list(range(20)))]
    again = [tuple(answer) for answer in speaker.sample(ids, 4, sampling, list(range(20))[::-1])]
    assert first == again[::-1]
    assert len(set(first)) > 10


def test_the_world_knows_what_ends_a_text(tiny_pair: Path) -> None:
    world = World.real(Pair.open(tiny_pair), "cpu", None, {}, None)
    assert world.stop_ids == {0}
    assert set(world.voices) == {
        "plain",
        "draft",
        "lookup",
        "genai-draft-sampled",
        *(f"native-{mode}" for mode in DRAFTERS),
    }
    assert world.voices["plain"].control == ""
    assert {world.voices[f"native-{mode}"].control for mode in DRAFTERS if mode != "plain"} == {"native-plain"}
