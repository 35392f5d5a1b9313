"""An engine that breaks down after it was loaded: auto goes on elsewhere from the tokens that were said, an explicit
mode says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgespec import EdgespecError, Pair, SpecPipeline
from edgespec.engine import model
from edgespec.runtime import Lengths, Piece, Result, memory, npu, pipeline, routing
from edgespec.runtime.governor import Governor
from edgespec.runtime.memory import estimate
from edgespec.runtime.modes import Way
from edgespec.settings import EXACT

PROMPT = "def add(a, b):\n    return"
REGEX = "[a-z]{3} [a-z]{3} [0-9]{4}"


class Breaker:
    """Breaks a native engine down by its target's own request; calls: passes it still makes."""

    def __init__(self) -> None:
        self.infer = model._infer()
        self.doomed: Any = None
        self.left = 0

    def doom(self, opened: SpecPipeline, calls: int) -> None:
        engine: Any = opened._the_engines.opened[-1].engine
        self.doomed, self.left = engine._sequence._request, calls

    def __call__(self, request: Any, *given: Any, **named: Any) -> Any:
        if request is self.doomed:
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("somewhere\nthe device is gone")
        return self.infer(request, *given, **named)


class BrokenPipeline:
    """openvino-genai's pipeline that says a few tokens and then fails."""

    def __init__(self, real: Any, tokens: int) -> None:
        self.real = real
        self.tokens = tokens

    def generate(self, prompt: Any, config: Any, streamer: Any) -> Any:
        if self.tokens:
            config.max_new_tokens = self.tokens
            self.real.generate(prompt, config, streamer)
        raise RuntimeError("Check failed\nthe device is gone")

    def get_generation_config(self) -> Any:
        return self.real.get_generation_config()


@pytest.fixture
def breaker(monkeypatch: pytest.MonkeyPatch) -> Breaker:
    found = Breaker()
    monkeypatch.setattr(model, "_infer", lambda: found)
    return found


@pytest.fixture(scope="module")
def expected(tiny_pair: Path) -> Iterator[SpecPipeline]:
    """What every mode must say."""
    with SpecPipeline(tiny_pair, mode="native-plain", settings=EXACT) as opened:
        yield opened


def break_genai(opened: SpecPipeline, tokens: int) -> None:
    engine: Any = opened._the_engines.opened[-1].engine
    engine._pipeline = BrokenPipeline(engine._pipeline, tokens)


def draft_by_genai_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a profile had found it to pay; else its first answer would be a plain one."""
    monkeypatch.setattr(routing, "HYBRID", Way("genai", "draft"))
    monkeypatch.setattr(
        pipeline, "governor_for", lambda way, profile: Governor(interleaves=way.engine == "native", proven=True)
    )


def whole(items: list[Piece | Result]) -> Result:
    """The result of a stream whose pieces are the answer, each token once."""
    *pieces, result = items
    assert isinstance(result, Result)
    said = [piece for piece in pieces if isinstance(piece, Piece)]
    assert [token for piece in said for token in piece.token_ids] == result.token_ids
    assert "".join(piece.text for piece in said) == result.text
    return result


@pytest.mark.parametrize("calls", [0, 1, 4])
def test_a_native_engine_that_fails_leaves_the_rest_to_the_next_way(
    tiny_pair: Path, expected: SpecPipeline, breaker: Breaker, calls: int
) -> None:
    answer = expected.generate(PROMPT, max_new_tokens=24)
    with SpecPipeline(tiny_pair, settings=EXACT) as opened:
        breaker.doom(opened, calls)
        result = whole(list(opened.stream(PROMPT, max_new_tokens=24)))
        assert (result.token_ids, result.text, result.finish_reason) == (answer.token_ids, answer.text, "length")
        assert result.metrics.mode == "native-adaptive-copy"
        why = result.metrics.why
        assert why.startswith("mode 'native-hybrid' failed after ") and "the device is gone" in why
        assert ("after 0 tokens" in why) == (calls == 0)
        assert result.metrics.ttft_ms is not None and 0 < result.metrics.ttft_ms <= result.metrics.wall_ms
        told = str(opened.explain())
        assert "passed over: native-hybrid on CPU: it failed while it answered: a pass over" in told
        assert "loaded: native-hybrid" not in told, "what broke down is freed"
        assert opened.generate(PROMPT, max_new_tokens=3).metrics.mode == "native-adaptive-copy"


@pytest.mark.parametrize("tokens", [0, 5])
def test_a_genai_engine_that_fails_leaves_the_rest_to_the_next_way(
    tiny_pair: Path, expected: SpecPipeline, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    draft_by_genai_first(monkeypatch)
    answer = expected.generate(PROMPT, max_new_tokens=24)
    with SpecPipeline(tiny_pair, settings=EXACT) as opened:
        break_genai(opened, tokens)
        result = whole(list(opened.stream(PROMPT, max_new_tokens=24)))
        assert result.token_ids == answer.token_ids and result.metrics.mode == "native-adaptive-copy"
        assert result.metrics.why.startswith(f"mode 'draft' failed after {tokens} tokens of this answer")
        assert "openvino-genai failed on CPU: the device is gone" in result.metrics.why


def test_a_failure_behind_the_last_token_changes_nothing(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft_by_genai_first(monkeypatch)
    for ends_by in ("limit", "token"):
        with SpecPipeline(tiny_pair, settings=EXACT) as opened:
            ids = opened.generate(PROMPT, max_new_tokens=9).token_ids
            count = next(n for n in range(2, 9) if ids[n] not in ids[:n]) + 1
            break_genai(opened, count)
            more: Any = {"max_new_tokens": count}
            if ends_by == "token":
                more = {"max_new_tokens": 100, "stop_token_ids": [ids[count - 1]]}
            result = opened.generate(PROMPT, **more)
            assert result.token_ids == ids[:count] and result.metrics.mode == "draft"
            assert result.finish_reason == ("length" if ends_by == "limit" else "stop")
            assert "passed over: draft on CPU" in str(opened.explain())


@pytest.mark.parametrize("mode", ["native-draft", "native-plain"])
def test_an_explicit_native_mode_says_so_and_loads_anew_for_the_next_request(
    tiny_pair: Path, breaker: Breaker, mode: str
) -> None:
    with SpecPipeline(tiny_pair, mode=mode, settings=EXACT) as opened:
        answer = opened.generate(PROMPT, max_new_tokens=9).token_ids
        breaker.doom(opened, 3)
        with pytest.raises(EdgespecError, match=r"a pass over \d+ tokens failed: the device is gone"):
            opened.generate(PROMPT, max_new_tokens=9)
        assert opened.generate(PROMPT, max_new_tokens=9).token_ids == answer, "the device may be back"


@pytest.mark.parametrize("mode", ["draft", "plain", "lookup"])
def test_an_explicit_genai_mode_says_so(tiny_pair: Path, mode: str) -> None:
    with SpecPipeline(tiny_pair, mode=mode, settings=EXACT) as opened:
        break_genai(opened, 2)
        stream = opened.stream(PROMPT, max_new_tokens=9)
        with pytest.raises(EdgespecError, match="openvino-genai failed on CPU: the device is gone"):
            list(stream)
        assert len(opened.generate(PROMPT, max_new_tokens=9).token_ids) == 9


def test_when_nothing_works_any_more_the_failure_is_told(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no driver")

    with SpecPipeline(tiny_pair) as opened:
        monkeypatch.setattr(model, "_infer", lambda: broken)
        monkeypatch.setattr("edgespec.engine.genai.GenaiEngine._config", broken)
        with pytest.raises(EdgespecError, match="no driver"):
            opened.generate(PROMPT)
        monkeypatch.undo()
        assert opened.generate(PROMPT, max_new_tokens=2).token_ids, "the last way is tried again"


def test_a_device_that_vanishes_gives_way_to_the_cpu(
    tiny_pair: Path, expected: SpecPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = expected.generate(PROMPT, max_new_tokens=16)
    monkeypatch.setenv("NPUW_DEVICES", "CPU")
    monkeypatch.setattr(npu, "STEP", 64)
    lengths = Lengths(prompt=64, response=64, gamma=4)
    with SpecPipeline(tiny_pair, device="NPU", settings=EXACT, npu_lengths=lengths) as opened:
        break_genai(opened, 4)
        monkeypatch.delenv("NPUW_DEVICES")
        result = whole(list(opened.stream(PROMPT, max_new_tokens=16)))
        assert result.token_ids == answer.token_ids
        assert (result.metrics.device, result.metrics.mode) == ("CPU", "native-hybrid")
        assert "failed after 4 tokens" in result.metrics.why
        assert "so the CPU is used" in opened.explain().lines[0]


@pytest.mark.parametrize(
    "options",
    [
        {"presence_penalty": 1.5, "frequency_penalty": 0.5},
        {"repetition_penalty": 1.3},
        {"regex": REGEX},
        {"stop": ["zzz"]},
    ],
)
def test_what_counts_the_answers_tokens_counts_those_of_the_engine_that_failed(
    tiny_pair: Path, expected: SpecPipeline, breaker: Breaker, options: Any
) -> None:
    answer = expected.generate(PROMPT, max_new_tokens=14, **options)
    with SpecPipeline(tiny_pair, settings=EXACT) as opened:
        breaker.doom(opened, 4)
        result = whole(list(opened.stream(PROMPT, max_new_tokens=14, **options)))
        assert "failed after" in result.metrics.why and "after 0 tokens" not in result.metrics.why
        assert result.token_ids == answer.token_ids


def test_a_stop_string_is_found_across_the_break(tiny_pair: Path, expected: SpecPipeline, breaker: Breaker) -> None:
    text = expected.generate(PROMPT, max_new_tokens=24).text
    for calls in (2, 3, 4, 5):
        with SpecPipeline(tiny_pair, settings=EXACT) as opened:
            breaker.doom(opened, calls)
            result = whole(list(opened.stream(PROMPT, max_new_tokens=24, stop=[text[3:9]])))
        assert result.finish_reason == "stop" and result.text == text[: text.index(text[3:9])][: len(result.text)]
        assert text[3:9] not in result.text


def test_a_seed_draws_other_numbers_behind_the_break(tiny_pair: Path, breaker: Breaker) -> None:
    with SpecPipeline(tiny_pair, settings=EXACT) as opened:
        breaker.doom(opened, 4)
        result = whole(list(opened.stream(PROMPT, max_new_tokens=14, temperature=1.0, seed=2**63 - 1)))
        assert len(result.token_ids) == 14 or result.finish_reason == "stop"


def test_a_draft_that_does_not_load_is_passed_over(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino_genai

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Check failed\nthe draft's weights are not to be read")

    monkeypatch.setattr(openvino_genai, "draft_model", broken)
    draft_by_genai_first(monkeypatch)
    with SpecPipeline(tiny_pair) as opened:
        metrics = opened.generate(PROMPT, max_new_tokens=3).metrics
        assert metrics.mode == "native-adaptive-copy"
        assert "mode 'draft' could not be loaded: openvino-genai could not load" in metrics.why
    with pytest.raises(EdgespecError, match=r"in mode 'draft': the draft's weights are not to be read"):
        SpecPipeline(tiny_pair, mode="draft")


def test_what_did_not_fit_is_tried_again_when_memory_is_free(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair.open(tiny_pair)
    monkeypatch.setattr(memory, "BASE_BYTES", 0)
    free = round(estimate(pair, Way("native", "adaptive-copy")).total_bytes / 0.95) + 2
    monkeypatch.setattr(memory, "available_memory_bytes", lambda: free)
    with SpecPipeline(tiny_pair) as opened:
        assert opened.generate(PROMPT, max_new_tokens=3).metrics.mode == "native-adaptive-copy"
        assert opened.choose()[0] == "native-adaptive-copy"
        assert "passed over: native-hybrid on CPU: it could not be loaded: 'tiny' in mode" in str(opened.explain())
        free = 10 * free
        assert opened.choose()[0] == "native-hybrid"
        assert opened.generate(PROMPT, max_new_tokens=3).metrics.mode == "native-hybrid"
        assert "passed over" not in str(opened.explain())


def test_a_losing_genai_draft_and_plain_decoding_are_not_held_together_where_they_do_not_fit(
    tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair.open(tiny_pair)
    monkeypatch.setattr(memory, "BASE_BYTES", 0)
    draft_by_genai_first(monkeypatch)
    one = round(estimate(pair, Way("genai", "draft")).total_bytes / 0.95) + 2
    for limit, tried in ((one, False), (4 * one, True)):
        with SpecPipeline(tiny_pair, memory_limit_bytes=limit) as opened:
            governor = opened._governors["draft"]
            governor.on = False
            governor.begin = lambda: None  # type: ignore[method-assign]
            assert opened.generate(PROMPT, max_new_tokens=6).metrics.mode == "plain"
            ways = [entry.way.name for entry in opened._the_engines.opened]
            assert ways == (["draft", "plain"] if tried else ["plain"])
            governor._since_off = 10**6
            assert opened.choose()[0] == ("draft" if tried else "plain")
            assert opened.generate(PROMPT, max_new_tokens=6).metrics.mode == ("draft" if tried else "plain")
