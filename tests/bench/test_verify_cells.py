"""Cells against brute force: every answer enumerated, on tables and on the tiny pair's own IR."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_world import END, TableTarget, table

from edgespec.bench.target import ModelTarget
from edgespec.bench.verify.cells import NEVER, Cells, cut
from edgespec.engine.processors import Processor
from edgespec.engine.stateful import StatefulModel
from edgespec.pair import Pair
from edgespec.sampling import Sampling
from edgespec.settings import EXACT

NextToken = Callable[[np.ndarray, Sequence[int]], np.ndarray]
CONTEXT = [3, 1]


def all_answers(vocabulary: int, tokens: int, stop: set[int]) -> list[tuple[int, ...]]:
    """Every answer of `tokens` tokens, and of fewer that end in a stop token."""
    found: list[tuple[int, ...]] = []
    for length in range(1, tokens + 1):
        for answer in itertools.product(range(vocabulary), repeat=length):
            if not set(answer[:-1]) & stop and (length == tokens or answer[-1] in stop):
                found.append(answer)
    return found


def by_cell(cells: Cells, logits: np.ndarray, next_token: NextToken, stop: set[int]) -> np.ndarray:
    """The probability of every cell, one answer at a time."""
    out = np.zeros(len(cells))
    for answer in all_answers(len(logits), cells.tokens, stop):
        text, p = list(CONTEXT), 1.0
        for token in answer:
            p *= next_token(logits[text[-1]], text)[token]
            text.append(token)
        out[cells.of(answer)] += p
    return out


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([0.0, 0.5, 2.0, 6.0]),
    tokens=st.integers(1, 3),
    floor=st.sampled_from([1e-9, 0.003, 0.02, 0.3, 1.0]),
    stop=st.sets(st.integers(0, 5), max_size=2),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.integers(0, 6),
    top_p=st.sampled_from([0.3, 0.9, 1.0]),
)
def test_every_cell_has_the_probability_of_its_answers(
    seed: int, spread: float, tokens: int, floor: float, stop: set[int], temperature: float, top_k: int, top_p: float
) -> None:
    target, draft = table(seed, spread, 6), table(seed + 1, spread, 6)
    next_token = Processor(Sampling(temperature, top_k, top_p), 6).distribution
    cells = cut(TableTarget(target), CONTEXT, next_token, tokens=tokens, floor=floor, stop_ids=stop)
    assert cells.probabilities.sum() == pytest.approx(1)
    assert cells.probabilities[NEVER] == 0
    np.testing.assert_allclose(cells.probabilities, by_cell(cells, target, next_token, stop), atol=1e-12)
    np.testing.assert_allclose(cells.under(TableTarget(target), CONTEXT, next_token), cells.probabilities, atol=1e-12)
    other = cells.under(TableTarget(draft), CONTEXT, next_token)
    np.testing.assert_allclose(other, by_cell(cells, draft, next_token, stop), atol=1e-12)


def test_a_low_floor_tells_every_answer_apart_and_a_high_one_none() -> None:
    target = TableTarget(table(5, 1.0, 6))
    next_token = Processor(Sampling(1.0), 6).distribution
    fine = cut(target, CONTEXT, next_token, tokens=2, floor=1e-12, stop_ids={END})
    answers = all_answers(6, 2, {END})
    assert len({fine.of(answer) for answer in answers}) == len(answers)
    coarse = cut(target, CONTEXT, next_token, tokens=2, floor=1.1, stop_ids={END})
    assert len({coarse.of(answer) for answer in answers}) == 1


def test_what_the_target_cannot_say_has_a_cell_of_its_own() -> None:
    target = TableTarget(table(7, 1.0, 6))
    next_token = Processor(Sampling(1.0, top_k=2), 6).distribution
    cells = cut(target, CONTEXT, next_token, tokens=2, floor=0.01, stop_ids={END})
    allowed = np.flatnonzero(next_token(target.logits[CONTEXT[-1]], CONTEXT))
    forbidden = next(token for token in range(6) if token not in allowed)
    assert cells.of((forbidden, 1)) == NEVER
    assert cells.of(()) == NEVER, "an answer without a token"
    going_on = next(int(token) for token in allowed if token != END)
    assert cells.of((going_on,)) == NEVER, "it ended where no end is"
    assert cells.of((going_on, 10**6)) == NEVER, "a token beyond the vocabulary"
    assert cells.count([(forbidden, 1), (forbidden, 2)])[NEVER] == 2


@pytest.fixture(scope="module")
def tiny_target(tiny_pair: Path) -> ModelTarget:
    return ModelTarget(Pair.open(tiny_pair).target)


def test_the_tiny_pair_by_brute_force(tiny_pair: Path, tiny_target: ModelTarget) -> None:
    """All 320 first tokens and all 102,400 pairs, one token a pass, against the tree in batches."""
    context = [10, 20, 30, 40]
    sampling = Sampling(0.7, top_p=0.9)
    next_token = Processor(sampling, tiny_target.vocab_size).distribution
    cells = cut(tiny_target, context, next_token, tokens=2, floor=0.002)
    assert len(cells) > 50

    model = StatefulModel(str(Pair.open(tiny_pair).target / "openvino_model.xml"), "CPU", EXACT)
    first = next_token(model.feed(np.asarray(context))[-1].copy(), context)
    brute = np.zeros(len(cells))
    for token in np.flatnonzero(first):
        model.reset()
        second = next_token(model.feed(np.asarray([*context, token]))[-1], [*context, int(token)])
        for other in np.flatnonzero(second):
            brute[cells.of((int(token), int(other)))] += first[token] * second[other]
    np.testing.assert_allclose(cells.probabilities, brute, atol=2e-6)


def test_logits_along_an_answer_are_the_same_in_one_pass_and_token_by_token(tiny_target: ModelTarget) -> None:
    context, answer = [5, 6, 7], [8, 9, 10, 11]
    at_once = tiny_target.along(context, answer)
    assert at_once.shape == (4, tiny_target.vocab_size)
    np.testing.assert_allclose(at_once, tiny_target.along(context, answer, one_by_one=True), atol=1e-4)
    behind = [row.copy() for row in tiny_target.behind(context, [(8, 9), (9, 8), (8, 8)])]
    np.testing.assert_allclose(behind[0], at_once[2], atol=1e-4)
    assert not np.allclose(behind[1], at_once[2], atol=1e-2)
    assert tiny_target.along(context, []).shape == (0, tiny_target.vocab_size)
