"""Acceptance by real speculative decoding: its two ends, its figures, and the PyTorch twin held against the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgespec.engine.step import Step
from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.settings import EXACT
from edgespec.train.evaluate import HeldOut, Service, by_task, evaluate_at, evaluate_pair, read_temperatures
from edgespec.train.models import load_model, load_tokenizer
from edgespec.train.sequence import TorchModel

PROMPTS = [HeldOut("code", "def add(a, b):"), HeldOut("prose", "The quick brown"), HeldOut("code", "for i in range(")]


def test_a_draft_that_is_the_target_is_always_believed(self_draft_pair: Pair) -> None:
    for document in evaluate_at(
        self_draft_pair, PROMPTS, gamma=3, temperatures=[0.0, 0.6], max_new_tokens=25, settings=EXACT
    ):
        assert document["acceptance_rate"] == pytest.approx(1, abs=0.02)
        assert document["alpha"] == pytest.approx([1, 1, 1], abs=0.05)
        assert document["block_efficiency"] == pytest.approx(4, abs=0.2)  # 24 tokens in 6 passes of 4
        assert document["mbsu"] == pytest.approx(document["block_efficiency"] / 4)  # as large as the target: c = 1


def test_a_hostile_draft_is_never_believed_greedily(hostile_draft_pair: Pair) -> None:
    document = evaluate_pair(hostile_draft_pair, PROMPTS, gamma=3, max_new_tokens=12)
    assert document["acceptance_rate"] == 0 and document["block_efficiency"] == 1
    assert document["alpha"][0] == 0 and document["alpha"][1:] == [None, None]
    assert document["acceptance_ci95"] == [0, 0]


def test_sampled_acceptance_is_what_the_distributions_overlap(tiny_pair: Path) -> None:
    """At the first proposal acceptance has the chance sum min(p, q), averaged over where it is made; here the place is
    always the same, behind the prompt's first token, and 400 draws put the standard error below 0.025."""
    pair = Pair.open(tiny_pair)
    document = evaluate_pair(
        pair, [HeldOut("a", "def add")], gamma=1, temperature=1.0, max_new_tokens=3, samples=400, settings=EXACT
    )
    from edgespec.engine.native import NativeEngine

    engine = NativeEngine(pair, device="CPU", mode="plain", settings=EXACT)
    ids = engine.encode("def add")
    engine.close()
    chances: list[np.ndarray] = []
    for folder in (pair.target, pair.draft):
        assert folder is not None
        chances.append(_next_distributions(folder, ids))
    first = _next_distributions(pair.target, ids, behind=False)
    expected = float((first * np.minimum(*chances).sum(axis=1)).sum())
    assert document["acceptance_rate"] == pytest.approx(expected, abs=0.1)  # four standard errors
    assert document["samples"] == 400 and document["steps"] >= 390


def _next_distributions(folder: Path, ids: list[int], behind: bool = True) -> np.ndarray:
    """[vocabulary] after `ids`, or [vocabulary, vocabulary] after each possible next token."""
    from edgespec.engine.model import open_model

    sequence = open_model(folder, "CPU", EXACT).sequence()

    def softmax(row: np.ndarray) -> np.ndarray:
        wide = np.exp(row.astype(np.float64) - row.max())
        return wide / wide.sum()

    row = np.array(sequence.feed(ids)[0])
    if not behind:
        return softmax(row)
    rows = []
    for token in range(len(row)):
        sequence.rollback(len(ids))
        rows.append(softmax(np.array(sequence.feed([token])[0])))
    return np.stack(rows)


def test_the_same_seed_gives_the_same_figures(tiny_pair: Path) -> None:
    pair = Pair.open(tiny_pair)
    options: dict[str, Any] = {"gamma": 2, "temperature": 0.8, "max_new_tokens": 20}
    first = evaluate_pair(pair, PROMPTS, seed=3, **options)
    assert evaluate_pair(pair, PROMPTS, seed=3, **options) == first


def test_the_pytorch_twin_measures_what_the_engine_measures(
    tiny_pair: Path, tiny_target_checkpoint: Path, tiny_draft_checkpoint: Path
) -> None:
    target = load_model(tiny_target_checkpoint, dtype=torch.float32)
    draft = load_model(tiny_draft_checkpoint, dtype=torch.float32).train()
    tokenizer = load_tokenizer(tiny_target_checkpoint)
    asked = [(prompt.task, tokenizer(prompt.text)["input_ids"]) for prompt in PROMPTS]
    service = Service(target, asked, gamma=3, temperatures=[0.0, 0.7], max_new_tokens=30, stop_ids=[0])
    documents = service(draft)
    assert draft.training, "the draft was left in another mode"
    engine = evaluate_at(
        Pair.open(tiny_pair), PROMPTS, gamma=3, temperatures=[0.0, 0.7], max_new_tokens=30, settings=EXACT
    )
    for found, expected in zip(documents, engine, strict=True):
        assert found["temperature"] == expected["temperature"]
        assert found["acceptance_rate"] == pytest.approx(expected["acceptance_rate"], abs=0.05)
        assert set(found["by_task"]) == {"code", "prose"}
    greedy = ("acceptance_rate", "alpha", "block_efficiency", "steps")
    assert {name: documents[0][name] for name in greedy} == {name: engine[0][name] for name in greedy}


def test_a_torch_sequence_takes_tokens_back(tiny_target_checkpoint: Path) -> None:
    model = load_model(tiny_target_checkpoint, dtype=torch.float32).eval()
    ids = [5, 6, 7, 8, 9]
    straight = TorchModel(model).sequence().feed(ids, rows=5)
    sequence = TorchModel(model).sequence()
    sequence.feed([5, 6, 99, 98])
    sequence.rollback(2)
    grown = sequence.grow([7, 8, 50])
    sequence.keep((0, 1))
    assert list(sequence.tokens) == [5, 6, 7, 8] and sequence.slots == 4
    np.testing.assert_allclose(grown[:2], straight[2:4], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sequence.feed([9]), straight[4:], rtol=1e-4, atol=1e-5)
    with pytest.raises(EdgespecError, match="verifies chains only"):
        sequence.grow([1], parents=[-1])
    sequence.grow([1, 2])
    with pytest.raises(EdgespecError, match="a chain is open already"):
        sequence.grow([3])
    with pytest.raises(EdgespecError, match="only a prefix can be kept"):
        sequence.keep((1,))


def test_figures_by_hand() -> None:
    runs = [("a", [Step((1, 2), 3, 1), Step((3,), 3, 0)]), ("b", [Step((1, 2, 3, 4), 3, 3)])]
    found = by_task(runs, gamma=3, c_params=0.1)
    assert found["acceptance_rate"] == pytest.approx(4 / 9)
    assert found["alpha"] == [pytest.approx(2 / 3), pytest.approx(1 / 2), 1]
    assert found["block_efficiency"] == pytest.approx(7 / 3) and found["mbsu"] == pytest.approx(7 / 3 / 1.3)
    assert found["acceptance_ci95"] == [pytest.approx(1 / 6), 1], "both prompts drawn twice are the ends"
    assert found["by_task"]["b"]["acceptance_rate"] == 1 and found["by_task"]["b"]["acceptance_ci95"] is None
    ended = by_task([*runs, ("c", [])], gamma=3, c_params=0.1)  # its first token was its last
    assert ended["acceptance_ci95"] == found["acceptance_ci95"]
    assert ended["by_task"]["c"]["acceptance_rate"] is None and ended["by_task"]["c"]["acceptance_ci95"] is None


def test_no_prompt_no_sample_and_no_template_are_sentences(tiny_pair: Path, tiny_target_checkpoint: Path) -> None:
    pair = Pair.open(tiny_pair)
    with pytest.raises(EdgespecError, match="there is no prompt to evaluate on"):
        evaluate_pair(pair, [], gamma=2)
    with pytest.raises(EdgespecError, match="samples must be at least 1, not 0"):
        evaluate_pair(pair, PROMPTS, gamma=2, samples=0)
    with pytest.raises(EdgespecError, match="no chat template"):
        evaluate_pair(pair, [HeldOut("chat", "Hello", chat=True)], gamma=2)
    with pytest.raises(EdgespecError, match="no prompt to judge the draft by"):
        Service(load_model(tiny_target_checkpoint), [])


def test_temperatures_read_as_written() -> None:
    assert read_temperatures("0.6") == [0.6] and read_temperatures("0, 1") == [0.0, 1.0]
    with pytest.raises(EdgespecError, match=r"parted by commas, such as 0,0\.6, not 'warm'"):
        read_temperatures("warm")
    with pytest.raises(EdgespecError, match="temperature must lie between"):
        read_temperatures("-1")
