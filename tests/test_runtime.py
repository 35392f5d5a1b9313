from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from edgespec import EdgespecError, Pair, SpecPipeline, runtime
from edgespec.runtime import Piece, Result

PROMPT = "def add(a, b):\n    return"


@pytest.fixture(scope="module")
def pipeline(tiny_pair: Path) -> SpecPipeline:
    return SpecPipeline(tiny_pair, device="CPU")


def test_generate_gives_text_tokens_and_figures(pipeline: SpecPipeline) -> None:
    result = pipeline.generate(PROMPT, max_new_tokens=12)
    assert isinstance(result, Result) and result.text
    assert result.finish_reason in ("stop", "length") and 0 < len(result.token_ids) <= 12
    metrics = result.metrics
    assert metrics.mode == "draft" and "the pair has a draft" in metrics.why
    assert metrics.ttft_ms > 0 and metrics.tokens_per_second > 0 and metrics.acceptance_rate is not None


def test_streamed_pieces_are_the_generated_text(pipeline: SpecPipeline) -> None:
    for prompt in (PROMPT, "naïve 🙂", "日本"):
        whole = pipeline.generate(prompt, max_new_tokens=40)
        *pieces, result = pipeline.stream(prompt, max_new_tokens=40)
        assert isinstance(result, Result) and result.token_ids == whole.token_ids
        assert all(isinstance(piece, Piece) for piece in pieces)
        assert "".join(piece.text for piece in pieces) == whole.text  # type: ignore[union-attr]
        assert [token for piece in pieces for token in piece.token_ids] == whole.token_ids  # type: ignore[union-attr]


def test_modes_agree_and_are_obeyed(tiny_pair: Path, pipeline: SpecPipeline) -> None:
    expected = pipeline.generate(PROMPT, max_new_tokens=20).token_ids
    for mode in ("plain", "lookup", "draft"):
        with SpecPipeline(tiny_pair, mode=mode) as explicit:  # type: ignore[arg-type]
            result = explicit.generate(PROMPT, max_new_tokens=20)
        assert result.metrics.mode == mode and result.metrics.why == "asked for"
        assert result.token_ids == expected


def test_auto_never_samples_through_the_draft(pipeline: SpecPipeline) -> None:
    result = pipeline.generate(PROMPT, max_new_tokens=10, temperature=0.8, seed=1)
    assert result.metrics.mode == "lookup" and "target's distribution" in result.metrics.why
    refusal = pytest.raises(EdgespecError, match="does not follow the target's distribution")
    with SpecPipeline(Pair.open(pipeline._pair.root), mode="draft") as explicit, refusal:
        explicit.generate(PROMPT, temperature=0.8)


def test_leaving_the_stream_early_frees_the_pipeline(pipeline: SpecPipeline) -> None:
    for _ in pipeline.stream(PROMPT, max_new_tokens=400):
        break
    assert pipeline.generate(PROMPT, max_new_tokens=3).token_ids
    assert not [thread for thread in threading.enumerate() if thread.name == "edgespec-generate"]


def test_stop_from_another_thread_ends_the_answer(pipeline: SpecPipeline) -> None:
    stream = pipeline.stream(PROMPT, max_new_tokens=400)
    next(stream)
    stopper = threading.Thread(target=pipeline.stop)
    stopper.start()
    stopper.join()
    *_, result = stream
    assert isinstance(result, Result) and len(result.token_ids) < 200


def test_a_call_inside_an_open_stream_is_refused_not_hung(pipeline: SpecPipeline) -> None:
    stream = pipeline.stream(PROMPT, max_new_tokens=50)
    next(stream)
    with pytest.raises(EdgespecError, match="still open in this thread"):
        pipeline.generate(PROMPT, max_new_tokens=2)
    stream.close()  # type: ignore[attr-defined]
    assert pipeline.generate(PROMPT, max_new_tokens=2).token_ids


def test_auto_passes_over_what_cannot_be_loaded(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = runtime.open_engine

    def no_draft(pair: Pair, **options: Any) -> Any:
        if options["mode"] == "draft":
            raise EdgespecError("the driver does not like it")
        return real(pair, **options)

    monkeypatch.setattr(runtime, "open_engine", no_draft)
    with SpecPipeline(tiny_pair) as fallen:
        metrics = fallen.generate(PROMPT, max_new_tokens=4).metrics
    assert metrics.mode == "lookup" and "could not be loaded: the driver does not like it" in metrics.why
    with pytest.raises(EdgespecError, match="the driver does not like it"):
        SpecPipeline(tiny_pair, mode="draft")


def test_a_mode_that_does_not_exist_is_refused(tiny_pair: Path) -> None:
    with pytest.raises(EdgespecError, match="there is no mode 'warp'"):
        SpecPipeline(tiny_pair, mode="warp")  # type: ignore[arg-type]


def test_threads_take_turns(pipeline: SpecPipeline) -> None:
    expected = pipeline.generate(PROMPT, max_new_tokens=15).token_ids
    found: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: found.append(pipeline.generate(PROMPT, max_new_tokens=15).token_ids))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_empty_prompt_and_closed_pipeline(tiny_pair: Path) -> None:
    pipeline = SpecPipeline(tiny_pair)
    with pytest.raises(EdgespecError, match="the prompt is empty"):
        pipeline.generate("")
    with pytest.raises(EdgespecError, match="the prompt is empty"):
        list(pipeline.stream(""))
    pipeline.close()
    with pytest.raises(EdgespecError, match="this pipeline is closed"):
        pipeline.generate(PROMPT)
