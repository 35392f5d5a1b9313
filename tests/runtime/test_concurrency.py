"""Threads, tasks, callbacks, Stop and background loading: what each does, as documented."""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from gating import Gate

from edgespec import EdgespecError, Pair, SpecPipeline
from edgespec.engine import paged
from edgespec.runtime import Piece, Result
from edgespec.runtime import pipeline as module
from edgespec.runtime.worker import Job, Worker
from edgespec.settings import EXACT

PROMPT = "def add(a, b):\n    return"


def test_two_threads_take_turns_and_get_their_own_answers(pipeline: SpecPipeline) -> None:
    prompts = (PROMPT, "class Stack:\n    def push")
    expected = [pipeline.generate(prompt, max_new_tokens=15).token_ids for prompt in prompts]
    found: dict[int, list[list[int]]] = {0: [], 1: []}

    def ask(who: int) -> None:
        for _ in range(5):
            found[who].append(pipeline.generate(prompts[who], max_new_tokens=15).token_ids)

    threads = [threading.Thread(target=ask, args=(who,)) for who in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {who: [expected[who]] * 5 for who in found}


def test_sixteen_tasks_are_answered_and_the_loop_stays_free(pipeline: SpecPipeline) -> None:
    expected = pipeline.generate(PROMPT, max_new_tokens=10).token_ids
    ticks = 0
    order: list[int] = []

    async def ask(who: int) -> Result:
        answer = await pipeline.agenerate(PROMPT, max_new_tokens=10)
        order.append(who)
        return answer

    async def main() -> list[Result]:
        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        answers = await asyncio.gather(*(ask(who) for who in range(16)))
        ticking.cancel()
        return answers

    answers = asyncio.run(main())
    assert [answer.token_ids for answer in answers] == [expected] * 16
    assert ticks > 16
    assert order == list(range(16)), "they are answered in the order they came in"


def test_an_asynchronous_stream_says_the_same_and_a_cancelled_task_ends_it(pipeline: SpecPipeline) -> None:
    expected = pipeline.generate(PROMPT, max_new_tokens=20)

    async def collect() -> list[Piece | Result]:
        return [item async for item in pipeline.astream(PROMPT, max_new_tokens=20)]

    *pieces, result = asyncio.run(collect())
    assert isinstance(result, Result) and result.token_ids == expected.token_ids
    assert "".join(piece.text for piece in pieces) == expected.text  # type: ignore[union-attr]

    async def cancel() -> None:
        task = asyncio.create_task(pipeline.agenerate(PROMPT, max_new_tokens=450))
        stream = pipeline.astream(PROMPT, max_new_tokens=450)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stream.__anext__()
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()

    asyncio.run(cancel())
    assert pipeline.generate(PROMPT, max_new_tokens=3).token_ids, "both are over"


def test_refusals_reach_an_event_loop_too(pipeline: SpecPipeline) -> None:
    async def ask() -> None:
        with pytest.raises(EdgespecError, match="the prompt is empty"):
            await pipeline.agenerate("")
        with pytest.raises(EdgespecError, match="the prompt is empty"):
            async for _ in pipeline.astream(""):
                pass

    asyncio.run(ask())


def test_a_loop_that_is_gone_does_not_take_the_pipeline_along(pipeline: SpecPipeline) -> None:
    async def leave() -> None:
        pipeline.astream(PROMPT, max_new_tokens=450)

    asyncio.run(leave())
    assert pipeline.generate(PROMPT, max_new_tokens=3).token_ids


@pytest.mark.parametrize("mode", ["native-draft", "draft", "plain"])
def test_an_exception_in_a_callback_reaches_the_caller(tiny_pair: Path, mode: str) -> None:
    seen: list[Piece] = []

    def broken(piece: Piece) -> None:
        seen.append(piece)
        if len(seen) == 3:
            raise RuntimeError("from the callback")

    with SpecPipeline(tiny_pair, mode=mode) as opened:
        with pytest.raises(RuntimeError, match="from the callback"):
            opened.generate(PROMPT, max_new_tokens=400, on_piece=broken)
        assert len(seen) == 3
        assert opened.generate(PROMPT, max_new_tokens=3).token_ids, "the pipeline survives it"


def test_a_callback_may_call_the_pipeline(pipeline: SpecPipeline) -> None:
    inner: list[Result] = []

    def ask(piece: Piece) -> None:
        if not inner:
            inner.append(pipeline.generate("class", max_new_tokens=2))

    result = pipeline.generate(PROMPT, max_new_tokens=6, on_piece=ask)
    assert len(result.token_ids) == 6 and len(inner[0].token_ids) == 2


@pytest.mark.parametrize("mode", ["native-draft", "draft"])
def test_stop_ends_an_answer_within_its_step(self_draft_pair: Pair, gate: Gate, mode: str) -> None:
    """Stopped in its fifth step, an answer ends with it; of genai's, whose streamer runs beside it, nothing that it
    computed later shows."""
    gate.step = 5
    with SpecPipeline(self_draft_pair, mode=mode, gamma=3, settings=EXACT) as opened:
        stream = opened.stream(PROMPT, max_new_tokens=450)
        assert gate.reached.wait(60)
        opened.stop()
        *items, result = stream
    assert isinstance(result, Result) and result.finish_reason == "cancelled"
    assert result.token_ids == gate.tokens and len(gate.tokens) == 1 + 4 * 4, "gamma 3: four tokens a step"
    pieces = [item for item in items if isinstance(item, Piece)]
    assert [token for piece in pieces for token in piece.token_ids] == result.token_ids
    assert "".join(piece.text for piece in pieces) == result.text


def test_stop_reaches_what_waits_and_nothing_later(pipeline: SpecPipeline, gate: Gate) -> None:
    running = pipeline.stream(PROMPT, max_new_tokens=450)
    waiting = pipeline.stream(PROMPT, max_new_tokens=450)
    assert gate.reached.wait(60)
    pipeline.stop()
    assert [list(stream)[-1].finish_reason for stream in (running, waiting)] == ["cancelled"] * 2  # type: ignore[union-attr]
    assert waiting.result is not None and waiting.result.token_ids == []
    gate.opened.set()
    assert pipeline.generate(PROMPT, max_new_tokens=3).finish_reason == "length"


def test_a_stream_that_is_left_or_lost_frees_the_pipeline(pipeline: SpecPipeline) -> None:
    for _ in pipeline.stream(PROMPT, max_new_tokens=450):
        break
    lost = pipeline.stream(PROMPT, max_new_tokens=450)
    next(lost)
    del lost
    gc.collect()
    closed = pipeline.stream(PROMPT, max_new_tokens=450)
    closed.close()
    assert list(closed) == []
    assert pipeline.generate(PROMPT, max_new_tokens=3).token_ids


def test_a_busy_pipeline_refuses_where_it_was_told_to(tiny_pair: Path, gate: Gate) -> None:
    with SpecPipeline(tiny_pair, busy="refuse") as opened:
        stream = opened.stream(PROMPT, max_new_tokens=450)
        assert gate.reached.wait(60)
        with pytest.raises(EdgespecError, match="is answering another call, and was made with busy='refuse'"):
            opened.generate(PROMPT)
        opened.stop()
        gate.opened.set()
        assert opened.generate(PROMPT, max_new_tokens=2).token_ids, "what was stopped keeps nobody busy"
        list(stream)


def test_loading_goes_on_after_stop_and_keeps_nobody_busy(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_load, load = threading.Event(), SpecPipeline._load

    def held(self: SpecPipeline, job: Job | None = None) -> None:
        assert may_load.wait(60)
        load(self, job)

    monkeypatch.setattr(SpecPipeline, "_load", held)
    with SpecPipeline(tiny_pair, background=True, busy="refuse") as opened:
        opened.stop()
        early = opened.stream(PROMPT, max_new_tokens=3)
        with pytest.raises(EdgespecError, match="is answering another call"):
            opened.generate(PROMPT)
        opened.stop()
        may_load.set()
        assert opened.generate(PROMPT, max_new_tokens=3).finish_reason == "length"
        *_, result = early
        assert isinstance(result, Result) and result.finish_reason == "cancelled" and opened.ready


def test_closed_before_it_was_loaded_is_a_sentence(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = module._load_in_background

    def when_closed(me: weakref.ref[SpecPipeline], job: Job) -> None:
        while not job.cancelled:
            threading.Event().wait(0.01)
        load(me, job)

    monkeypatch.setattr(module, "_load_in_background", when_closed)
    opened = SpecPipeline(tiny_pair, background=True)
    stream = opened.stream(PROMPT)
    opened.close()
    with pytest.raises(EdgespecError, match="was closed before it was loaded; make a new SpecPipeline"):
        list(stream)
    with pytest.raises(EdgespecError, match="this pipeline is closed"):
        opened.wait_until_ready()


def test_questions_do_not_wait_for_an_answer(pipeline: SpecPipeline, gate: Gate) -> None:
    """The answer is held until they are answered: a question that waited for it would wait for ever."""
    stream = pipeline.stream(PROMPT, max_new_tokens=20)
    assert gate.reached.wait(60)
    pipeline.wait_until_ready()
    assert pipeline.choose()[0] == "native-hybrid" and pipeline.explain().lines and not pipeline.has_chat_template
    gate.opened.set()
    list(stream)


def test_background_loading_returns_at_once_and_calls_wait_for_it(tiny_pair: Path, tmp_path: Path) -> None:
    with SpecPipeline(tiny_pair, background=True) as opened:
        stream = opened.stream(PROMPT, max_new_tokens=4)
        *_, result = stream
        assert opened.ready and isinstance(result, Result) and len(result.token_ids) == 4
    with SpecPipeline(tmp_path / "nowhere", background=True) as broken:
        with pytest.raises(EdgespecError, match="there is no directory"):
            broken.generate(PROMPT)
        with pytest.raises(EdgespecError, match="there is no directory"):
            broken.wait_until_ready()
        assert not broken.ready


def test_no_thread_is_left(tiny_pair: Path) -> None:
    SpecPipeline(tiny_pair).close()

    def working() -> int:
        return sum(thread.name == "edgespec" for thread in threading.enumerate())

    before = working()
    for _ in range(3):
        opened = SpecPipeline(tiny_pair, mode="native-copy")
        assert working() == before + 1
        opened.close()
    forgotten = SpecPipeline(tiny_pair, mode="native-copy")
    forgotten_thread = forgotten._worker._thread
    del forgotten
    gc.collect()
    forgotten_thread.join(60)
    assert working() == before


def test_the_workers_own_thread_is_refused_rather_than_hung() -> None:
    worker = Worker()
    refusals: queue.SimpleQueue[str] = queue.SimpleQueue()

    def work(job: Job) -> None:
        with pytest.raises(EdgespecError) as refusal:
            worker.call(lambda _: None)
        refusals.put(str(refusal.value))

    worker.call(work)
    assert "cannot be called from its own thread" in refusals.get()
    worker.close(lambda job: None)


@pytest.mark.parametrize("mode", ["native-plain", "native-draft", "native-hybrid"])
def test_stop_during_a_long_prompt_ends_it_between_two_chunks(
    tiny_pair: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Of seventeen chunks the one that runs is the last; what it left in the caches is sound."""
    monkeypatch.setattr(paged, "CHUNK", 10)
    prompt = PROMPT * 12
    read = paged.PagedSequence.read
    chunks: list[int] = []
    with SpecPipeline(tiny_pair, mode=mode, settings=EXACT) as opened:
        expected = opened.generate(prompt, max_new_tokens=6).token_ids
        last = 0

        def stop_behind(self: paged.PagedSequence, ids: Sequence[int], rows: int) -> Any:
            chunks.append(len(ids))
            if len(chunks) == last:
                opened.stop()
            return read(self, ids, rows)

        monkeypatch.setattr(paged.PagedSequence, "read", stop_behind)
        opened.generate(prompt, max_new_tokens=1)
        reads = len(chunks)
        assert reads > 15 and max(chunks) == 10
        for last in (
            (2, reads + 5) if mode == "native-draft" else (2,)
        ):  # while the target reads, and while the draft does
            chunks.clear()
            result = opened.generate(prompt, max_new_tokens=6)
            assert result.finish_reason == "cancelled" and len(chunks) == last
            assert len(result.token_ids) == (last > reads)
            assert (result.metrics.ttft_ms is None) == (last < reads)
        last = 0
        assert opened.generate(prompt, max_new_tokens=6, reuse_prefix=True).token_ids == expected
