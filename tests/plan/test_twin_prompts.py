"""Prompts after which answers have nothing in common, and why that matters for the interval of a measured alpha."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from tokenizers import Tokenizer

from edgespec.engine.step import Step
from edgespec.errors import EdgespecError
from edgespec.plan import apart_prompts, make_twins, measure_alpha
from edgespec.plan.cycle import draft_cycle, target_cycle
from edgespec.plan.tokenizer import synthetic_vocabulary

VOCAB = 2048


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twins("1x64", "1x64", 0.5, tmp_path_factory.mktemp("twin") / "hf", seed=6, vocab=VOCAB)[0]


def test_answers_have_no_token_in_common(twin: Path) -> None:
    prompts = apart_prompts(twin, 10, 100, seed=1)
    assert prompts == apart_prompts(twin, 10, 100, seed=1) != apart_prompts(twin, 10, 100, seed=2)
    tokenizer = Tokenizer.from_file(str(twin / "tokenizer.json"))
    cycle = target_cycle(synthetic_vocabulary(VOCAB).live, VOCAB, 6)
    answered = set()
    for prompt in prompts:
        token = np.asarray(tokenizer.encode(prompt).ids[-1])
        for _ in range(100):
            token = cycle.following(token)
            answered.add(int(token))
    assert len(answered) == 10 * 100


def test_no_room_is_said(twin: Path) -> None:
    with pytest.raises(
        EdgespecError, match=r"room for \d+ answers of 100 tokens that share none among 1,886, not for 30"
    ):
        apart_prompts(twin, 30, 100)


def test_what_is_no_twin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="is no twin"):
        apart_prompts(tmp_path, 1, 10)


@pytest.mark.parametrize("alpha", [0.3, 0.8])
def test_the_interval_of_a_measured_alpha_holds_what_was_asked_for(alpha: float) -> None:
    """120 twins, measured on 10 answers of 60 tokens each that share none (of 2,000), gamma 3.

    Null: a 95 % exact interval misses alpha in at most 5 % of the twins (drawing without replacement: fewer). More than
    the null's 1 - 1e-4 quantile of misses fails; so does none at all, whose chance is 3 % at 3 %."""
    misses = 0
    for seed in range(120):
        target = target_cycle(np.arange(2000), 2000, seed)
        draft = draft_cycle(target, alpha, seed)
        right = draft.following(target.order) == target.following(target.order)
        measured = measure_alpha([answer(right[start : start + 60], 3) for start in range(0, 2000, 200)], alpha)
        assert measured is not None
        misses += not measured.interval[0] <= alpha <= measured.interval[1]
    assert 0 < misses <= binom.isf(1e-4, 120, 0.05)


def answer(right: np.ndarray, gamma: int) -> list[Step]:
    """The steps of greedy verification over an answer whose proposals are right where `right` says."""
    steps, done = [Step((0,), 0, 0)], 1
    while done < len(right):
        proposed = min(gamma, len(right) - done - 1)
        accepted = 0
        while accepted < proposed and right[done - 1 + accepted]:
            accepted += 1
        steps.append(Step((0,) * (accepted + 1), proposed, accepted))
        done += accepted + 1
    return steps
