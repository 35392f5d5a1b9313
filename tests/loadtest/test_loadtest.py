"""Load on a scripted server: what is offered, what is counted, and what the report makes of rows."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import Live, ScriptedBackend, live

from edgespec.errors import EdgespecError
from edgespec.loadtest import Ask, Level, parse_clients, parse_rates, run_loadtest
from edgespec.loadtest.client import Target, ask, lines
from edgespec.loadtest.load import arrivals, offer
from edgespec.loadtest.page import render_page
from edgespec.loadtest.report import build_report
from edgespec.loadtest.rows import Header, Line, Reply, Row, Span, read_lines
from edgespec.serve import Access, Limits

PROMPTS = [("p1", "abc"), ("p2", "defg")]


def wish(url: str, *levels: Level, **more: Any) -> Ask:
    given: dict[str, Any] = {"prompts": PROMPTS, "suite": "mine", "sha256": "0" * 64, "seconds": 0.3, "max_tokens": 6}
    return Ask(url, levels, **given | more)


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with live(ScriptedBackend()) as opened:
        yield opened


def test_two_levels_become_rows_a_report_and_a_page(server: Live, tmp_path: Path) -> None:
    levels = (Level("closed", 3), Level("open", 20))
    report = run_loadtest(wish(f"{server.url}/v1", *levels), tmp_path / "out")
    assert report["schema"] == "edgespec.loadtest/1" and report["complete"]
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert build_report(read_lines(tmp_path / "out" / "rows.jsonl")) == report
    closed, opened = report["arms"]
    assert closed["answers"] == closed["requests"] >= 3 and closed["errors"]["count"] == 0
    assert closed["tokens"] == 6 * closed["answers"] and closed["answers_per_client"]["least"] >= 1
    assert 0 < closed["ttft_ms"]["median"] <= closed["wall_ms"]["median"] and closed["tpot_ms"]["p95"] > 0
    assert opened["requests"] == len(arrivals(20, 0.3, 1)) and opened["late_ms"]["median"] >= 0
    assert report["target"] == {"url": f"{server.url}/v1", "model": "tiny", "route": "chat"}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'id="levels"' in page and "<svg" in page and "closed-3" in page and "http://" not in page.split("<style>")[0]


def test_refusals_and_failures_are_counted_by_status_and_noted(tmp_path: Path) -> None:
    with live(ScriptedBackend(steps=0), limits=Limits(waiting=1, answer_s=0.3, grace_s=0.1)) as slow:
        report = run_loadtest(wish(f"{slow.url}/v1", Level("closed", 4), warmup=0, chat=False), tmp_path / "out")
    (arm,) = report["arms"]
    assert arm["answers"] == 0 and arm["errors"]["rate"] == 1 and set(arm["errors"]["by_status"]) == {"429", "504"}
    assert arm["throughput_tokens_per_second"] is None and report["best_arm"] is None
    assert any("refused with 429" in note for note in report["notes"]) and any(
        "failed" in note for note in report["notes"]
    )
    assert "No request was answered" in render_page(report)


def test_a_poisson_process_has_its_rate_and_its_seed() -> None:
    due = arrivals(50, 100, seed=3)
    assert due == arrivals(50, 100, seed=3) != arrivals(50, 100, seed=4) and due == sorted(due)
    gaps = np.diff(due)
    assert abs(len(due) - 5000) < 5 * 5000**0.5, "five standard deviations of a Poisson count"
    assert abs(float(np.std(gaps)) * 50 - 1) < 0.1, "exponential gaps spread as far as their mean"


def test_an_open_loop_does_not_wait_for_answers_and_a_closed_one_does() -> None:
    async def most_at_once(level: Level, expected: int) -> int:
        """Nothing is answered before `expected` requests are under way together."""
        running = most = 0
        answered = asyncio.Event()

        async def send(number: int, due: float) -> bool:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == expected:
                answered.set()
            await answered.wait()
            running -= 1
            return True

        await asyncio.wait_for(offer(level, 0.05, 0, send, time.perf_counter), 60)
        return most

    due = len(arrivals(400, 0.05, 0))
    assert due > 3 and asyncio.run(most_at_once(Level("open", 400), due)) == due
    assert asyncio.run(most_at_once(Level("closed", 3), 3)) == 3


def rows(*, wall: float, count: int, level: str = "closed-2", error: str | None = None) -> list[Row]:
    return [
        Row(
            phase="measure", level=level, prompt="p", client=index % 2, due_s=index, sent_s=index, first_s=index + 0.1,
            ended_s=index + wall, status=200 if error is None else 503, error=error, tokens=11, accepted=5,
        )
        for index in range(count)
    ]  # fmt: skip


def test_the_figures_are_those_of_the_rows() -> None:
    header = Header(
        started_at="2026-11-28T00:00:00+00:00", url="http://x/v1", model="m", route="chat",
        levels=[Level("closed", 2).record], seconds=10, max_tokens=11, temperature=0, timeout_s=9, suite="s", prompts=1,
        prompts_sha256="0" * 64, seed=0, machine={}, versions={},
    )  # fmt: skip
    lines: list[Line] = [
        header, *rows(wall=1.1, count=8), *rows(wall=9, count=2, error="busy"),
        Span(level="closed-2", started_s=0, ended_s=10),
    ]  # fmt: skip
    (arm,) = build_report(lines)["arms"]
    assert arm["throughput_tokens_per_second"] == pytest.approx(8.8) and arm["tokens"] == 88
    assert arm["ttft_ms"]["median"] == pytest.approx(100) and arm["tpot_ms"]["median"] == pytest.approx(100)
    assert arm["tokens_per_second"]["median"] == pytest.approx(10) and arm["accepted_share"] == pytest.approx(5 / 11)
    assert arm["errors"] == {"count": 2, "rate": 0.2, "by_status": {"503": 2}, "first": "busy"}
    assert arm["answers_per_client"] == {"least": 4, "most": 4}
    assert not build_report(lines[:-1])["complete"], "a level that did not end is not complete"


def test_a_stream_that_breaks_off_is_an_error_and_one_without_counts_is_counted() -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        chunk = 'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
        body = {"/cut": chunk, "/plain": chunk * 3 + "data: [DONE]\n\n", "/odd": "data: []\n\n"}[request.url.path[:-17]]
        return httpx.Response(200, text=body)

    async def main(path: str) -> Any:
        async with httpx.AsyncClient(transport=httpx.MockTransport(reply)) as client:
            return await ask(client, Target(f"http://x/{path}", "m", True, 5, 0.0), "hello")

    assert asyncio.run(main("cut")).error == "the stream ended in the middle"
    plain = asyncio.run(main("plain"))
    assert plain.error is None and plain.tokens == plain.chunks == 3
    assert "is not OpenAI's" in asyncio.run(main("odd")).error


def answered(*events: str, done: bool = True) -> Reply:
    """What becomes of a request to a server that streams these events."""
    body = "".join(f"data: {event}\n\n" for event in (*events, *(["[DONE]"] if done else [])))

    async def main() -> Reply:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body))
        async with httpx.AsyncClient(transport=transport) as client:
            return await ask(client, Target("http://x/v1", "m", True, 5, 0.0), "hello")

    return asyncio.run(main())


async def parts_of(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def split(*parts: bytes) -> list[str]:
    async def main() -> list[str]:
        return [line async for line in lines(parts_of(*parts))]

    return asyncio.run(main())


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"data: a", "é\u2028\u0085\x0b\x1c".encode(), b""]), max_size=12), st.data()
)
def test_lines_end_as_the_standard_says_wherever_a_stream_is_cut(words: list[bytes], data: st.DataObject) -> None:
    body = b"".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    expected = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode().split("\n")
    assert split(*parts) == (expected if expected[-1] else expected[:-1])


def test_a_line_is_there_as_soon_as_it_is_whole() -> None:
    async def main() -> None:
        found = lines(parts_of(b"data: a\r", b"\ndata: b\n", b"c"))
        assert [await anext(found), await anext(found), await anext(found)] == ["data: a", "data: b", "c"]

    asyncio.run(main())


@pytest.mark.parametrize("mark", list("\x85\u2028\u2029"))
def test_what_python_takes_for_the_end_of_a_line_is_text_in_an_answer(mark: str) -> None:
    found = answered(f'{{"choices": [{{"delta": {{"content": "a{mark}b"}}}}]}}')
    assert found.error is None and found.chunks == 1


TEXT = '{"choices": [{"delta": {"content": "a"}, "finish_reason": null}], "usage": null, "error": null, "more": [1]}'


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [("12", 12), ("12.0", 12), ("1.2e1", 12), ("null", 1), ("0", 0)],
)
def test_a_count_is_any_json_number_that_counts(usage: str, tokens: int) -> None:
    details = f'{{"accepted_prediction_tokens": {usage}}}'
    found = answered(TEXT, f'{{"usage": {{"completion_tokens": {usage}, "completion_tokens_details": {details}}}}}')
    assert found.error is None and found.tokens == tokens and found.chunks == 1
    assert found.accepted == (None if usage == "null" else tokens)


@pytest.mark.parametrize("usage", ["12.5", "-1", '"12"', "true", "NaN", "Infinity", "1e400", "1e300", "[]", "{}"])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_what_is_no_count_is_a_malformed_answer(usage: str, name: str) -> None:
    found = answered(TEXT, f'{{"usage": {{"{name}": {usage}}}}}')
    assert found.error is not None and found.error.startswith(f"the reply is not OpenAI's: usage.{name}: ")


def anything() -> st.SearchStrategy[Any]:
    """JSON, with the names that are looked at more often than chance would have it."""
    names = ["choices", "delta", "content", "text", "usage", "completion_tokens", "error", "message", "finish_reason"]
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names), inner, max_size=3),
        max_leaves=12,
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(anything(), max_size=3))
def test_whatever_a_server_streams_becomes_a_row_that_is_read_back(events: list[Any]) -> None:
    """An answer or an error, never the end of the run."""
    found = answered(*(json.dumps(event) for event in events), "{not json" if len(events) == 2 else "{}")
    row = Row(phase="measure", level="l", prompt="p", client=0, due_s=0, **found.model_dump())
    assert Row.model_validate_json(json.dumps(row.model_dump(mode="json"), allow_nan=False)) == row
    assert (row.error is None) or row.error


def test_a_run_outlasts_a_server_whose_counts_are_no_counts(tmp_path: Path) -> None:
    """Its answers are errors, by that name; the report is written."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.routing import Route

    async def models(request: Any) -> JSONResponse:
        return JSONResponse({"data": [{"id": "m"}]})

    async def chat(request: Any) -> PlainTextResponse:
        return PlainTextResponse(f'data: {TEXT}\n\ndata: {{"usage": {{"completion_tokens": 1.5}}}}\n\n')

    app = Starlette(routes=[Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])])
    with serving(app) as url:
        report = run_loadtest(wish(f"{url}/v1", Level("closed", 2), warmup=0), tmp_path / "out")
    (arm,) = report["arms"]
    assert arm["errors"]["rate"] == 1 and "usage.completion_tokens" in arm["errors"]["first"] and report["complete"]


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The app on a free port of this machine."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # who asks before the server runs waits for it
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


def test_what_cannot_be_tested_is_refused(server: Live, tmp_path: Path) -> None:
    level, out = Level("closed", 1), tmp_path / "out"
    for text in ("0", "a", "1,,2", "-1", "nan"):
        with pytest.raises(EdgespecError, match="--rate takes numbers above 0"):
            parse_rates(text)
    with pytest.raises(EdgespecError, match="takes whole numbers"):
        parse_clients("1.5")
    assert [one.name for one in (*parse_clients("1,16"), *parse_rates("0.5"))] == ["closed-1", "closed-16", "open-0.5"]
    for url, words in (
        ("ftp://x", "is no URL"),
        ("http://127.0.0.1:9/v1", "does not answer"),
        (server.url, "the URL ends in the API's version"),
    ):
        with pytest.raises(EdgespecError, match=words):
            run_loadtest(wish(url, level), out)
    with pytest.raises(EdgespecError, match="the server has no model 'other'; it has tiny"):
        run_loadtest(wish(f"{server.url}/v1", level, model="other"), out)
    with pytest.raises(EdgespecError, match="there is no load to offer"):
        wish("http://x/v1")
    with live(ScriptedBackend(), access=Access(api_key="a-long-enough-key-for-tests")) as locked:
        with pytest.raises(EdgespecError, match="is the API key right"):
            run_loadtest(wish(f"{locked.url}/v1", level), out)
        found = run_loadtest(wish(f"{locked.url}/v1", level, api_key="a-long-enough-key-for-tests", warmup=1), out)
        assert found["arms"][0]["answers"] >= 1
