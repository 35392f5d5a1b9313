"""Engines in processes of their own, on a real tiny pair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edgespec.bench.isolation import EngineLost, IsolatedEngine, in_a_worker
from edgespec.engine.genai import GenaiEngine
from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.sampling import Sampling


@pytest.fixture(scope="module")
def pair(tiny_pair: Path) -> Pair:
    return Pair.open(tiny_pair)


@pytest.fixture(scope="module")
def engine(pair: Pair) -> Iterator[IsolatedEngine]:
    engine = IsolatedEngine(pair, engine="genai", device="CPU", draft_device=None, mode="draft", settings={})
    yield engine
    engine.close()


def test_it_answers_as_the_engine_in_this_process_does(pair: Pair, engine: IsolatedEngine) -> None:
    here = GenaiEngine(pair, device="CPU", mode="draft")
    ids = engine.encode("def add(a, b):")
    assert ids == here.encode("def add(a, b):")
    there, ours = engine.generate(ids, 12, gamma=2), here.generate(ids, 12, gamma=2)
    assert there.token_ids == ours.token_ids
    assert there.steps == ours.steps
    assert 0 < there.ttft_s < there.wall_s
    assert engine.decode(ids) == "def add(a, b):"
    assert engine.peak_rss_bytes is not None and engine.peak_rss_bytes >= engine.rss_before_bytes > 10**7


def test_its_own_sentences_come_through_and_it_goes_on(engine: IsolatedEngine) -> None:
    with pytest.raises(EdgespecError, match="does not follow the target's distribution"):
        engine.generate([1, 2], 4, gamma=2, sampling=Sampling(temperature=1.0))
    with pytest.raises(EdgespecError, match="no chat template"):
        engine.chat_prompt([{"role": "user", "content": "hi"}])
    assert engine.generate([1, 2], 4, gamma=2).token_ids


def test_a_death_is_a_sentence(pair: Pair) -> None:
    engine = IsolatedEngine(pair, engine="genai", device="CPU", draft_device=None, mode="plain", settings={})
    psutil.Process(engine.pid).kill()
    with pytest.raises(EngineLost, match=r"the engine's process ended (by signal 9|with exit code)"):
        engine.generate([1, 2], 4)
    with pytest.raises(EngineLost, match="ended"):
        engine.encode("more")


def test_silence_has_an_end(pair: Pair) -> None:
    how = {"engine": "genai", "device": "CPU", "draft_device": None, "mode": "plain", "settings": {}}
    engine = IsolatedEngine(pair, answer_timeout_s=1e-4, **how)
    pid = engine.pid
    psutil.Process(pid).suspend()  # or its answer might come before this process gets to look at the clock
    with pytest.raises(EngineLost, match="no answer within"):
        engine.generate([1, 2], 400)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_an_engine_that_does_not_load_leaves_no_process(pair: Pair) -> None:
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(EdgespecError, match="there is no device 'TPU'"):
        IsolatedEngine(pair, engine="genai", device="TPU", draft_device=None, mode="plain", settings={})
    assert set(psutil.Process().children(recursive=True)) <= before


def test_meters_run_in_a_worker(pair: Pair) -> None:
    found = in_a_worker(
        "costs", pair=str(pair.root), device="CPU", lengths=[1, 2], drafting=True, context=8, repetitions=2
    )
    assert [n for n, _ in found["target"]] == [1, 2]
    assert [n for n, _ in found["draft"]] == [1]
    assert all(seconds > 0 for items in found.values() for _, seconds in items)
    assert 1e8 < in_a_worker("bandwidth", device="CPU") < 1e13
