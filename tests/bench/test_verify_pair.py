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


@pytest.mark.parametrize("sampling", [Sampling(1.0, top_k=12), Sampling(0.8, top_k=40, top_p=0.9)], ids=["k", "kp"])
def test_openvino_genai_samples_as_the_target_says(tiny_pair: Path, sampling: Sampling) -> None:
    result = check(tiny_pair, ["plain", "lookup"], draws=Draws(sampling, samples=600, contexts=1))
    assert result["passed"]
    assert [record["arm"] for record in result["sampled"]] == ["plain", "lookup"]
    assert all(record["finds"] < record["draft_variation"] for record in result["sampled"])


def test_openvino_genai_with_a_draft_does_not_which_is_why_it_is_refused(tiny_pair: Path) -> None:
    draws = Draws(Sampling(1.0, top_k=12), samples=600, contexts=1)
    result = check(tiny_pair, ["genai-draft-sampled"], draws=draws)
    verdicts = {record["arm"]: record["passed"] for record in result["sampled"]}
    assert verdicts == {"plain": True, "genai-draft-sampled": False}
    assert "genai-draft-sampled" not in result["greedy"]
    with pytest.raises(EdgespecError, match="cannot be checked greedily: it is there to be sampled"):
        check(tiny_pair, ["genai-draft-sampled"])


def test_every_arm_says_the_same_words_under_exact_settings(tiny_pair: Path) -> None:
    result = check(tiny_pair, ["draft", "lookup"])
    assert result["passed"]
    assert {name: (record["matched"], record["total"]) for name, record in result["greedy"].items()} == {
        name: (3, 3) for name in ("plain", "draft", "lookup")
    }


def test_default_settings_come_with_a_control(tiny_pair: Path) -> None:
    result = check(tiny_pair, ["draft"], exact=False)
    assert result["settings"] == "default"
    assert result["control"]["total"] == 3
    assert result["greedy"]["draft"]["control"] == "control"
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
