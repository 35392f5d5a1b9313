"""Scores: distances of distributions by hand, forced logits of a real tiny model, and what the bounds do with them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
from workbench import Workbench

from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.profile import Quality
from edgespec.settings import EXACT
from edgespec.tuning.quality import (
    BLOCK_ELEMENTS,
    CHUNK,
    PROMPT_PLACES,
    WORKING_BYTES,
    Bounds,
    distance,
    forced_logits,
    log_chances,
)
from edgespec.tuning.scoring import Scores

LN2, LN3 = float(np.log(2)), float(np.log(3))


def test_the_distance_of_known_distributions() -> None:
    p = np.log(np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]], np.float32))
    q = np.log(np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]], np.float32)) + 3.0  # a constant changes nothing
    agreement, kl = distance(p, q)
    assert agreement == 0.5
    assert kl == pytest.approx((0.5 * LN2 - 0.25 * LN2) / 2, rel=1e-5)
    assert distance(p, p) == (1.0, 0.0)


def test_more_places_than_a_block() -> None:
    draw = np.random.default_rng(0)
    p, q = draw.normal(0, 2, (2, 150, 11)).astype(np.float32)
    a, b = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (p.astype(float), q.astype(float)))
    agreement, kl = distance(p, q)
    assert agreement == pytest.approx((p.argmax(-1) == q.argmax(-1)).mean())
    assert kl == pytest.approx((a * np.log(a / b)).sum(-1).mean(), rel=1e-6)


def test_what_is_no_number_is_infinitely_far() -> None:
    p = np.zeros((2, 3), np.float32)
    broken = np.full((2, 3), np.nan, np.float32)
    assert distance(p, broken)[1] == float("inf")
    with pytest.raises(EdgespecError, match="cannot be compared"):
        distance(p, np.zeros((1, 3), np.float32))


def test_forced_logits_are_the_models_own(tiny_pair: Path) -> None:
    """Fed in chunks behind a long and a short prompt, they are those of one pass over everything."""
    from edgespec.engine.stateful import StatefulModel

    folder = tiny_pair / "target"
    draw = np.random.default_rng(1)
    texts = [(draw.integers(0, 300, n).tolist(), draw.integers(0, 300, m).tolist()) for n, m in ((50, 11), (5, 2))]
    found = forced_logits(folder, "CPU", EXACT, texts)
    model = StatefulModel(str(folder / "openvino_model.xml"), "CPU", EXACT)
    wanted = []
    for prompt, answer in texts:
        model.reset()
        whole = model.feed(np.asarray(prompt + answer[:-1])).copy()
        wanted.append(whole[max(0, len(prompt) - PROMPT_PLACES) :])
    assert found.shape == (PROMPT_PLACES + 10 + 5 + 1, 320) and found.dtype == np.float32 and CHUNK < 11
    np.testing.assert_allclose(found, np.concatenate(wanted), atol=1e-4)


def test_the_reference_agrees_with_itself_and_a_coarse_cache_does_not(tiny_pair: Path) -> None:
    texts = [(list(range(1, 41)), list(range(41, 80)))]
    folder = tiny_pair / "target"
    exact = forced_logits(folder, "CPU", EXACT, texts)
    assert distance(exact, forced_logits(folder, "CPU", EXACT, texts)) == (1.0, 0.0)
    coarse = forced_logits(folder, "CPU", {**EXACT, "KV_CACHE_PRECISION": "u4"}, texts)
    assert distance(exact, coarse)[1] > 1e-6


@pytest.mark.parametrize(("agreement", "kl", "kept"), [(0.99, 0.001, True), (0.97, 0.001, False), (0.99, 0.1, False)])
def test_both_bounds_count(agreement: float, kl: float, kept: bool) -> None:
    quality = Quality(top1_agreement=agreement, kl_nats=kl, tokens=9, least_top1_agreement=0.98, most_kl_nats=0.005)
    assert Bounds(0.98, 0.005).keep(quality) is kept


def test_bounds_that_mean_nothing_are_refused() -> None:
    for bounds in ((1.5, 0.1), (0.9, -0.1)):
        with pytest.raises(EdgespecError, match="an agreement lies between 0 and 1"):
            Bounds(*bounds)


@pytest.fixture
def scores_of(make_pair: Callable[..., Path]) -> Callable[..., Scores]:
    pair = Pair.open(make_pair())

    def build(bench: Workbench, **how: Any) -> Scores:
        scores = Scores(bench.world(), pair, "GPU", Bounds(), **how)
        scores.texts = [((1, 2), tuple(range(40)))]
        return scores

    return build


def test_a_score_is_made_once_and_shared_by_settings_with_the_same_numbers(scores_of: Callable[..., Scores]) -> None:
    bench = Workbench()
    with scores_of(bench) as scores:
        first = scores.of({"INFERENCE_PRECISION_HINT": "f32"})
        threads = scores.of({"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 4})
        assert first is threads and first.kept
        scores.of({"INFERENCE_NUM_THREADS": 4})
    assert bench.forced == ["exact", "INFERENCE_PRECISION_HINT=f32", "default"]


def test_what_cannot_be_scored_is_kept_only_if_it_changes_nothing(scores_of: Callable[..., Scores]) -> None:
    class NoReference(Workbench):
        def force(self, *args: Any, **how: Any) -> None:
            raise EdgespecError("no such property")

    with scores_of(NoReference()) as scores:
        assert scores.of({}).kept
        refused = scores.of({"KV_CACHE_PRECISION": "u4"})
        assert not refused.kept and "the exact reference could not be computed: no such property" in refused.sentence()
    bench = Workbench()
    with scores_of(bench, scored=False) as scores:
        assert scores.of({}).kept and not scores.of({"KV_CACHE_PRECISION": "u4"}).kept
        assert "settings cannot be scored on GPU" in scores.of({"KV_CACHE_PRECISION": "u4"}).sentence()
    assert bench.forced == []


def test_one_setting_that_the_device_refuses_does_not_end_the_tune(scores_of: Callable[..., Scores]) -> None:
    class Picky(Workbench):
        def force(self, pair: Any, **how: Any) -> None:
            if how["settings"].get("KV_CACHE_PRECISION") == "u4":
                raise EdgespecError("u4 is not supported")
            super().force(pair, **how)

    with scores_of(Picky()) as scores:
        assert "could not be scored: u4 is not supported" in scores.of({"KV_CACHE_PRECISION": "u4"}).sentence()
        assert scores.of({"KV_CACHE_PRECISION": "f16"}).kept


def test_nothing_is_scored_before_there_is_a_text(scores_of: Callable[..., Scores]) -> None:
    bench = Workbench()
    with scores_of(bench) as scores:
        scores.texts = []
        assert scores.of({}).kept and scores.of({}).quality is None
        assert not scores.of({"KV_CACHE_PRECISION": "f16"}).kept
    assert bench.forced == []


def test_a_large_vocabulary_takes_no_more_memory() -> None:
    """64 places of 262,144 tokens, 67 MB in f32: widened to f64 in one piece, each comparison would hold 0.4 GB."""
    draw = np.random.default_rng(1)
    p = draw.standard_normal((64, 262_144), np.float32)
    q = p + np.float32(0.1)
    tokens = draw.integers(0, p.shape[1], len(p))
    for read in (lambda: distance(p, q), lambda: log_chances(q, tokens)):
        tracemalloc.start()
        try:
            read()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert BLOCK_ELEMENTS * 8 < peak <= WORKING_BYTES + 100_000  # numpy tells tracemalloc what it allocates


def test_log_chances_are_the_softmax_at_the_tokens() -> None:
    logits = np.random.default_rng(2).normal(0, 3, (37, 50_000)).astype(np.float32)  # more than one block
    tokens = np.arange(37) * 1000
    expected = scipy.special.log_softmax(logits.astype(float), axis=-1)[np.arange(37), tokens]
    assert log_chances(logits, tokens) == pytest.approx(expected, abs=1e-12)
