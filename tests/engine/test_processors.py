"""Distributions against a slow rendering of the same rules, token by token."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from edgespec.engine.draws import draw, draw_distinct, draw_replaced
from edgespec.engine.processors import Processor
from edgespec.engine.topk import top_k, top_k_rows
from edgespec.errors import EdgespecError
from edgespec.sampling import GREEDY, Sampling


def slowly(logits: list[float], prompt: list[int], answer: list[int], how: Sampling) -> list[float]:
    """openvino_genai's chain of transforms, one token at a time."""
    values = list(logits)
    for token in set(prompt) | set(answer):
        values[token] *= 1 / how.repetition_penalty if values[token] >= 0 else how.repetition_penalty
    for token in set(answer):
        values[token] -= how.presence_penalty if values[token] >= 0 else -how.presence_penalty
    for token, count in Counter(answer).items():
        values[token] -= how.frequency_penalty * (count if values[token] >= 0 else -count)
    for token, bias in how.logit_bias.items():
        values[token] += bias
    order = sorted(range(len(values)), key=lambda token: (-values[token], token))
    if how.greedy:
        return [float(token == order[0]) for token in range(len(values))]
    if how.top_k:
        order = order[: how.top_k]
    weights = {token: math.exp((values[token] - values[order[0]]) / how.temperature) for token in order}
    total = sum(weights.values())
    kept: dict[int, float] = {}
    for token in order:
        if weights[token] >= how.min_p:
            kept[token] = weights[token]
        if how.top_p < 1 and sum(weights[other] for other in order[: order.index(token) + 1]) / total > how.top_p:
            break
    return [kept.get(token, 0.0) / sum(kept.values()) for token in range(len(values))]


@settings(deadline=None)
@given(
    st.lists(st.floats(-6, 6), min_size=4, max_size=12),
    st.lists(st.integers(0, 3), max_size=5),
    st.lists(st.integers(0, 3), max_size=5),
    st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
        top_k=st.integers(0, 5),
        top_p=st.sampled_from([1.0, 0.9871, 0.6931, 0.3137, 0.0511]),
        min_p=st.sampled_from([0.0, 0.03, 0.41]),
        repetition_penalty=st.sampled_from([1.0, 1.3]),
        presence_penalty=st.sampled_from([0.0, 0.7, -1.1]),
        frequency_penalty=st.sampled_from([0.0, 0.37]),
        logit_bias=st.dictionaries(st.integers(0, 3), st.integers(-3, 3), max_size=2),
    ),
)
def test_distribution_is_the_slow_one(logits: list[float], prompt: list[int], answer: list[int], how: Sampling) -> None:
    processor = Processor(how, len(logits), prompt_length=len(prompt))
    expected = slowly(logits, prompt, answer, how)
    row = np.asarray(logits)
    assert processor.distribution(row, prompt + answer) == pytest.approx(expected, abs=1e-9)
    assert row.tolist() == logits
    if how.greedy:
        assert expected[processor.argmax(row, prompt + answer)] == 1.0


def test_padding_and_forbidden_tokens_are_never_drawn() -> None:
    row = np.asarray([1.0, 2.0, 3.0, 50.0], np.float32)
    how = Sampling(1.0, logit_bias={2: -math.inf})
    assert Processor(how, 3).distribution(row, []).tolist()[2] == 0
    assert Processor(GREEDY, 3).argmax(row, []) == 2
    with pytest.raises(EdgespecError, match="ends at 2"):
        Processor(Sampling(logit_bias={3: 1.0}), 3)


def test_no_token_left_is_a_sentence() -> None:
    how = Sampling(1.0, logit_bias={0: -math.inf, 1: -math.inf})
    with pytest.raises(EdgespecError, match="forbidden"):
        Processor(how, 2).distribution(np.zeros(2, np.float32), [])
    with pytest.raises(EdgespecError, match="not numbers"):
        Processor(Sampling(1.0), 2).distribution(np.asarray([0, np.nan], np.float32), [])


def test_a_tiny_temperature_is_nearly_greedy() -> None:
    row = np.asarray([3.0, 3.1, -2.0], np.float32)
    assert Processor(Sampling(1e-45), 3).distribution(row, []).tolist() == [0, 1, 0]


def test_argmax_without_penalties_allocates_nothing_of_the_vocabularys_size() -> None:
    row = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    processor = Processor(GREEDY, 100_000)
    tracemalloc.start()
    processor.argmax(row, [1, 2, 3])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000


def test_a_constraint_sees_the_answer_alone_and_masks_before_the_penalties() -> None:
    class OnlyAfter:
        def allowed(self, answer: list[int]) -> np.ndarray | None:
            return np.asarray([True, False, True, False]) if list(answer) == [3] else None

    row = np.asarray([1.0, 9.0, 2.0, 8.0], np.float32)
    processor = Processor(GREEDY, 4, prompt_length=2, constraint=OnlyAfter())
    assert processor.argmax(row, [0, 3]) == 1
    assert processor.argmax(row, [0, 3, 3]) == 2
    assert row.tolist() == [1, 9, 2, 8]


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 5, 255, 256, 2000, 5001]), st.integers(0, 12), st.integers(1, 400))
def test_top_k_is_a_stable_sorts_head(seed: int, size: int, k: int, levels: int) -> None:
    """With few levels most values are equal, and with one all are."""
    row = np.random.default_rng(seed).integers(0, levels, size).astype(np.float32)
    row[row == 1] = -np.inf
    assert top_k(row, k).tolist() == np.argsort(-row, kind="stable")[:k].tolist()


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 5, 255, 256, 2000, 5001]), st.integers(0, 12), st.integers(1, 400))
def test_top_k_of_rows_has_the_largest_values(seed: int, size: int, k: int, levels: int) -> None:
    rows = np.random.default_rng(seed).integers(0, levels, (3, size)).astype(np.float32)
    rows[rows == 1] = -np.inf
    found = top_k_rows(rows, k)
    assert found.shape == (3, min(k, size))
    for row, ids in zip(rows, found.tolist(), strict=True):
        assert len(set(ids)) == len(ids)
        assert row[ids].tolist() == sorted(row.tolist(), reverse=True)[:k]


def test_draws_follow_their_distribution() -> None:
    """Null: one draw, the first and the second of two with replacement, and ordered pairs without, are what the
    distribution says. Four tests at 1e-4."""
    q, rng, n = np.asarray([0.5, 0.0, 0.3, 0.2]), np.random.default_rng(3), 4000
    singles = Counter(draw(q, rng) for _ in range(n))
    pairs = [draw_replaced(q, 2, rng) for _ in range(n)]
    for counts in (singles, Counter(pair[0] for pair in pairs), Counter(pair[1] for pair in pairs)):
        assert counts[1] == 0
        assert chisquare([counts[token] for token in (0, 2, 3)], n * q[[0, 2, 3]]).pvalue > 1e-4
    distinct = Counter(tuple(draw_distinct(q, 2, rng)) for _ in range(n))
    expected = {(a, b): q[a] * q[b] / (1 - q[a]) for a in (0, 2, 3) for b in (0, 2, 3) if a != b}
    assert set(distinct) <= set(expected)
    assert chisquare([distinct[pair] for pair in expected], [n * mass for mass in expected.values()]).pvalue > 1e-4
    assert sorted(draw_distinct(q, 9, rng)) == [0, 2, 3]


def test_a_draw_from_a_large_vocabulary_follows_its_distribution() -> None:
    """Null: tokens of 1,500, most of probability zero, by blocks and the last in a block that is not whole. 1e-4."""
    q, rng = np.zeros(1500), np.random.default_rng(4)
    ids = [0, 3, 511, 512, 700, 1023, 1024, 1499]
    q[ids] = [0.05, 0.2, 0.1, 0.15, 0.05, 0.1, 0.05, 0.3]
    counts = Counter(draw(q, rng) for _ in range(4000))
    assert set(counts) <= set(ids)
    assert chisquare([counts[token] for token in ids], 4000 * q[ids]).pvalue > 1e-4


def test_the_end_of_the_interval_falls_on_a_token_that_can_be_drawn() -> None:
    class Last:
        def random(self) -> float:
            return 1.0  # beyond what a generator gives, as rounding may make it

    for size in (5, 1100, 2000):
        q = np.zeros(size)
        q[2] = 1.0
        assert draw(q, Last()) == 2  # type: ignore[arg-type]


def test_sampling_is_frozen_hashable_and_travels() -> None:
    bias = {3: -1.0}
    how = Sampling(logit_bias=bias, stop_token_ids=[5], stop_strings=["\n\n"])  # type: ignore[arg-type]
    bias[3] = 2.0
    assert how.logit_bias == {3: -1.0} and how.stop_token_ids == (5,)
    assert pickle.loads(pickle.dumps(how)) == how and hash(how) == hash(pickle.loads(pickle.dumps(how)))
    assert Sampling() == GREEDY and Sampling().logit_bias == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"min_p": 1.0}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": float("nan")}, "frequency_penalty"),
        ({"logit_bias": {-1: 0.0}}, "logit_bias"),
        ({"logit_bias": {1: float("inf")}}, "logit_bias"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"stop_token_ids": (-2,)}, "stop_token_ids"),
        ({"stop_strings": "end"}, "stop_strings"),
        ({"stop_strings": ("",)}, "stop string"),
    ],
)
def test_wrong_sampling_is_a_sentence(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(EdgespecError, match=said):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_genai_gets_everything_it_can_do_and_refuses_the_rest() -> None:
    import openvino_genai

    config = openvino_genai.GenerationConfig()
    config.stop_token_ids = {0}
    how = Sampling(0.5, 7, 0.9, 3, 0.1, 1.2, 0.3, 0.4, stop_token_ids=(9,), stop_strings=("end",))
    how.apply(config)
    assert config.do_sample and config.top_k == 7 and config.rng_seed == 3
    assert [config.temperature, config.top_p, config.min_p] == pytest.approx([0.5, 0.9, 0.1])
    penalties = [config.repetition_penalty, config.presence_penalty, config.frequency_penalty]
    assert penalties == pytest.approx([1.2, 0.3, 0.4])
    assert config.stop_token_ids == {0, 9} and config.stop_strings == {"end"}
    greedy = openvino_genai.GenerationConfig()
    Sampling(presence_penalty=0.5).apply(greedy)
    assert not greedy.do_sample and greedy.presence_penalty == pytest.approx(0.5)
    with pytest.raises(EdgespecError, match="logit_bias"):
        Sampling(logit_bias={1: 1.0}).apply(greedy)


def test_how_sure_a_greedy_choice_is_counts_what_is_left_only() -> None:
    row = np.log(np.asarray([0.5, 0.3, 0.2], np.float32))
    assert Processor(GREEDY, 3).surest(row, []) == (0, pytest.approx(0.5))
    biased = Processor(Sampling(temperature=0.0, logit_bias={0: -np.inf}), 3)
    assert biased.surest(row, []) == (1, pytest.approx(0.6))
    assert Processor(GREEDY, 3).surest(np.asarray([0.0, np.nan, np.inf], np.float32), [])[1] == 0.0
    assert Processor(GREEDY, 3).surest(np.asarray([0.0, -1e30, 1e30], np.float32), []) == (2, 1.0)
