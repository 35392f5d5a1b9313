from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from edgespec.engine.drafters import DRAFTERS
from edgespec.engine.genai import GenaiEngine
from edgespec.engine.native import NativeEngine
from edgespec.engine.stateful import StatefulModel
from edgespec.engine.step import acceptance_rate, block_efficiency
from edgespec.errors import EdgespecError
from edgespec.pair import Pair, record_files, write_manifest
from edgespec.sampling import Sampling
from edgespec.settings import EXACT

PROMPTS = (
    "def add(a, b):\n    return",
    "class Stack:\n    def push",
    "for i in range(10):\n    print(i, i * i)\nfor i in",
)
Open = Callable[..., NativeEngine]


@pytest.fixture(scope="module")
def pair(tiny_pair: Path) -> Pair:
    return Pair.open(tiny_pair)


@pytest.fixture(scope="module")
def open_native() -> Iterator[Open]:
    """One engine for each pair and mode: compiling takes longest."""
    opened: dict[tuple[Path, str], NativeEngine] = {}

    def open_it(pair: Pair, mode: str) -> NativeEngine:
        if (pair.root, mode) not in opened:
            opened[pair.root, mode] = NativeEngine(pair, device="CPU", mode=mode, settings=EXACT)
        return opened[pair.root, mode]

    yield open_it
    for engine in opened.values():
        engine.close()


def test_plain_says_what_genai_says(pair: Pair, open_native: Open) -> None:
    genai, native = GenaiEngine(pair, device="CPU", settings=EXACT), open_native(pair, "plain")
    for text in PROMPTS:
        ids = native.encode(text)
        assert ids == genai.encode(text)
        expected, answer = genai.generate(ids, 40), native.generate(ids, 40)
        assert answer.token_ids == expected.token_ids
        assert native.decode(answer.token_ids) == genai.decode(expected.token_ids)
        assert [len(step.tokens) for step in answer.steps] == [1] * 40


@pytest.mark.parametrize("mode", [mode for mode in DRAFTERS if mode != "plain"])
def test_every_mode_says_what_plain_says(pair: Pair, open_native: Open, mode: str) -> None:
    plain, engine = open_native(pair, "plain"), open_native(pair, mode)
    for text in PROMPTS:
        ids = plain.encode(text)
        answer = engine.generate(ids, 40)
        assert answer.token_ids == plain.generate(ids, 40).token_ids
        assert [token for step in answer.steps for token in step.tokens] == answer.token_ids
        assert 0 < answer.ttft_s <= answer.wall_s
        for step in answer.steps[1:]:
            assert step.accepted == len(step.tokens) - 1 <= (step.proposed or 0)
            assert step.draft_s is not None and step.verify_s is not None


def test_penalties_and_biases_bind_a_draft_too(pair: Pair, open_native: Open) -> None:
    sampling = Sampling(repetition_penalty=1.3, frequency_penalty=0.5, logit_bias={17: 2.0})
    ids = open_native(pair, "plain").encode(PROMPTS[0])
    plain = open_native(pair, "plain").generate(ids, 30, sampling=sampling).token_ids
    assert plain != open_native(pair, "plain").generate(ids, 30).token_ids
    for mode in ("draft", "tree", "ngram"):
        assert open_native(pair, mode).generate(ids, 30, sampling=sampling).token_ids == plain


class Even:
    """Allows even ids, and nothing twice in a row."""

    def allowed(self, answer: Sequence[int]) -> np.ndarray:
        mask = np.arange(320) % 2 == 0
        mask[list(answer[-1:])] = False
        return mask


@pytest.mark.parametrize("mode", ["plain", "draft", "tree", "tree-sampled", "copy"])
def test_a_constraint_binds_drafts_and_branches(pair: Pair, open_native: Open, mode: str) -> None:
    engine = open_native(pair, mode)
    ids = engine.encode(PROMPTS[0])
    for sampling in (Sampling(), Sampling(1.0, seed=0)):
        tokens = engine.generate(ids, 30, sampling=sampling, constraint=Even()).token_ids
        assert all(token % 2 == 0 for token in tokens)
        assert all(a != b for a, b in pairwise(tokens))
    expected = open_native(pair, "plain").generate(ids, 30, constraint=Even()).token_ids
    assert engine.generate(ids, 30, constraint=Even()).token_ids == expected


@pytest.mark.parametrize(("gamma", "count"), [(1, 20), (3, 21), (5, 7)])
def test_a_self_draft_accepts_everything(self_draft_pair: Pair, open_native: Open, gamma: int, count: int) -> None:
    engine = open_native(self_draft_pair, "draft")
    answer = engine.generate(engine.encode(PROMPTS[0]), count, gamma=gamma)
    assert len(answer.token_ids) == count
    assert acceptance_rate(answer.steps) == 1
    assert all(step.proposed == gamma for step in answer.steps[1:-1])


def test_a_self_drafts_draws_are_all_accepted(self_draft_pair: Pair, open_native: Open) -> None:
    engine = open_native(self_draft_pair, "draft")
    answer = engine.generate(engine.encode(PROMPTS[0]), 40, gamma=3, sampling=Sampling(0.9, seed=1))
    assert (acceptance_rate(answer.steps) or 0) > 0.95, "p and q differ by rounding alone"


@pytest.mark.parametrize("mode", ["draft", "tree"])
def test_a_hostile_draft_changes_nothing(
    self_draft_pair: Pair, hostile_draft_pair: Pair, open_native: Open, mode: str
) -> None:
    engine = open_native(hostile_draft_pair, mode)
    ids = engine.encode(PROMPTS[0])
    answer = engine.generate(ids, 40, gamma=4)
    assert answer.token_ids == open_native(self_draft_pair, "draft").generate(ids, 40).token_ids
    assert acceptance_rate(answer.steps) == 0
    assert block_efficiency(answer.steps) == 1


@pytest.mark.parametrize("mode", ["draft", "tree-sampled"])
def test_samples_follow_the_target(pair: Pair, open_native: Open, mode: str) -> None:
    """Null: the first two tokens are jointly drawn from the target's own distribution. Pearson's chi-square over
    400 seeded draws; a right engine fails at a seed with probability 1e-4."""
    draws = 400
    engine = open_native(pair, mode)
    sampling = Sampling(1.0, top_k=3)
    ids = engine.encode(PROMPTS[0])
    expected = joint(pair, ids, sampling.top_k)
    counts = dict.fromkeys(expected, 0)
    for seed in range(draws):
        seen: list[int] = []
        engine.generate(
            ids,
            6,
            gamma=3,
            sampling=replace(sampling, seed=seed),
            on_tokens=lambda tokens, seen=seen: seen.extend(tokens) or len(seen) > 1,  # type: ignore[misc]
            reuse_prefix=True,
        )
        counts[seen[0], seen[1]] += 1  # the first is the prompt's, the second came with a proposal
    statistic = sum((counts[cell] - draws * p) ** 2 / (draws * p) for cell, p in expected.items())
    assert statistic < chi2.ppf(1 - 1e-4, len(expected) - 1)


def joint(pair: Pair, ids: Sequence[int], k: int) -> dict[tuple[int, int], float]:
    """Probabilities of the next two tokens at temperature 1 and top-k, from the IR as it was exported."""
    model = StatefulModel(str(pair.target / "openvino_model.xml"), "CPU", EXACT)

    def top(context: Sequence[int]) -> dict[int, float]:
        model.reset()
        row = model.feed(np.asarray(context))[-1].astype(np.float64)
        best = np.argsort(-row)[:k]
        weights = np.exp(row[best] - row[best[0]])
        return dict(zip(best.tolist(), (weights / weights.sum()).tolist(), strict=True))

    return {(a, b): p * q for a, p in top(ids).items() for b, q in top([*ids, a]).items()}


def test_a_seed_repeats_an_answer(pair: Pair, open_native: Open) -> None:
    engine = open_native(pair, "tree-sampled")
    ids = engine.encode(PROMPTS[0])
    runs = [engine.generate(ids, 20, sampling=Sampling(1.0, seed=seed)).token_ids for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("mode", ["plain", "draft", "tree"])
def test_a_kept_prefix_changes_nothing(pair: Pair, open_native: Open, mode: str) -> None:
    engine = open_native(pair, mode)
    ids = engine.encode(PROMPTS[0])
    first = engine.generate(ids, 20).token_ids
    asked = [*ids, *first, *engine.encode("\nprint(")]
    kept = engine.generate(asked, 20, reuse_prefix=True).token_ids
    assert kept == engine.generate(asked, 20).token_ids


@pytest.mark.parametrize("mode", ["plain", "draft"])
def test_the_end_of_text_ends_the_answer(pair: Pair, open_native: Open, tmp_path: Path, mode: str) -> None:
    ids = open_native(pair, "plain").encode(PROMPTS[0])
    answer = open_native(pair, "plain").generate(ids, 40).token_ids
    place = next(i for i in range(4, 40) if answer[i] not in answer[:i])
    stopped = open_native(pair, mode).generate(ids, 40, sampling=Sampling(stop_token_ids=(answer[place],)))
    assert (stopped.token_ids, stopped.finish_reason) == (answer[: place + 1], "stop")
    assert [token for step in stopped.steps for token in step.tokens] == stopped.token_ids
    root = Path(shutil.copytree(pair.root, tmp_path / "ends"))  # and the same written in the model's own files
    config = {"eos_token_id": [299, answer[place]]}
    (root / "target" / "generation_config.json").write_text(json.dumps(config), encoding="utf-8")
    target = pair.manifest.target.model_copy(update={"files": record_files(root / "target")})
    write_manifest(root, pair.manifest.model_copy(update={"target": target}))
    engine = NativeEngine(Pair.open(root), device="CPU", mode=mode, settings=EXACT)
    assert engine.generate(ids, 40).token_ids == stopped.token_ids


@pytest.mark.parametrize("mode", ["plain", "draft"])
def test_stop_strings_end_it_as_in_genai(pair: Pair, open_native: Open, mode: str) -> None:
    engine, genai = open_native(pair, mode), GenaiEngine(pair, device="CPU", settings=EXACT)
    ids = engine.encode(PROMPTS[0])
    text = engine.decode(engine.generate(ids, 40).token_ids)
    for stop in (text[7:10], text[20:22]):
        sampling = Sampling(stop_strings=(stop,))
        seen: list[int] = []
        answer = engine.generate(ids, 40, sampling=sampling, on_tokens=lambda tokens: bool(seen.extend(tokens)))  # noqa: B023
        assert answer.token_ids == seen == genai.generate(ids, 40, sampling=sampling).token_ids
        assert answer.finish_reason == "stop"
        assert [token for step in answer.steps for token in step.tokens] == answer.token_ids


def test_on_tokens_sees_everything_and_can_stop(pair: Pair, open_native: Open) -> None:
    engine = open_native(pair, "draft")
    ids, seen = engine.encode(PROMPTS[0]), list[int]()
    answer = engine.generate(ids, 30, on_tokens=lambda tokens: bool(seen.extend(tokens)))
    assert seen == answer.token_ids
    short = engine.generate(ids, 200, on_tokens=lambda _: True)
    assert len(short.token_ids) == 1 and short.finish_reason == "length"


def test_an_exception_in_the_callback_reaches_the_caller(pair: Pair, open_native: Open) -> None:
    engine = open_native(pair, "tree")
    ids, calls = engine.encode(PROMPTS[0]), list[int]()

    def broken(tokens: Sequence[int]) -> bool:
        calls.append(len(tokens))
        if len(calls) > 2:
            raise RuntimeError("from the callback")
        return False

    expected = engine.generate(ids, 20).token_ids
    with pytest.raises(RuntimeError, match="from the callback"):
        engine.generate(ids, 30, on_tokens=broken)
    assert engine.generate(ids, 20, reuse_prefix=True).token_ids == expected, "the engine must survive it"


def test_refusals(pair: Pair, open_native: Open) -> None:
    engine = open_native(pair, "draft")
    with pytest.raises(EdgespecError, match="the prompt is empty"):
        engine.generate([], 5)
    with pytest.raises(EdgespecError, match="max_new_tokens must be at least 1"):
        engine.generate([1], 0)
    with pytest.raises(EdgespecError, match="gamma must be at least 1"):
        engine.generate([1], 5, gamma=0)
    with pytest.raises(EdgespecError, match="has no mode 'eagle'; choose plain, draft"):
        NativeEngine(pair, device="CPU", mode="eagle")
    with pytest.raises(EdgespecError, match="there is no device 'TPU'"):
        NativeEngine(pair, device="TPU")
    with pytest.raises(EdgespecError, match="uses no draft; leave it out"):
        NativeEngine(pair, device="CPU", draft_device="CPU", mode="copy")


def test_an_npu_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPUW_DEVICES", "CPU")
    with pytest.raises(EdgespecError, match="an NPU runs models of fixed shape only"):
        NativeEngine(pair, device="NPU")


def test_a_pair_without_a_draft(pair: Pair, tmp_path: Path) -> None:
    root = tmp_path / "alone"
    shutil.copytree(pair.target, root / "target")
    write_manifest(root, pair.manifest.model_copy(update={"draft": None}))
    with pytest.raises(EdgespecError, match=r"mode 'tree' needs a draft and the pair .* has none"):
        NativeEngine(Pair.open(root), device="CPU", mode="tree")
    engine = NativeEngine(Pair.open(root), device="CPU", mode="copy", settings=EXACT)
    assert engine.generate([1, 2, 3, 1, 2], 5).token_ids


def test_a_closed_engine_has_freed_its_models(pair: Pair) -> None:
    engine = NativeEngine(pair, device="CPU", mode="draft")
    engine.generate([1], 2)
    engine.close()
    assert not hasattr(engine, "_target") and not hasattr(engine, "_sequence")
