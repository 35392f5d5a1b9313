"""`--batch` as clients have it: a real pair behind a live server, several answers in one pass."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripted_server import Live, live, until

from edgespec.serve import Batched, Limits, Served
from edgespec.serve.batching import _Ticket

SLOTS = 3
PROMPTS = ("def add(a, b):\n    return", "class Stack:\n    def push", "for i in range(", "The quick brown fox")


@pytest.fixture(scope="module")
def backend(tiny_pair: Path) -> Iterator[Batched]:
    opened = Batched(tiny_pair, SLOTS, device="CPU")
    opened.wait_until_ready()
    yield opened
    opened.close()


@pytest.fixture
def server(backend: Batched) -> Iterator[Live]:
    with live(backend, limits=Limits(waiting=1, grace_s=0.1)) as opened:
        yield opened


class Gate:
    """After each pass every answer takes its tokens; `free` times, then they wait here. looked: whose turn it was."""

    def __init__(self) -> None:
        self.free = 0.0
        self.looked: list[_Ticket] = []

    def open(self) -> None:
        self.free = math.inf


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor) -> Iterator[Gate]:
    """Opened in the end, before the pool waits for its threads."""
    held, look = Gate(), _Ticket.look

    def watched(self: _Ticket) -> bool:
        while len(held.looked) >= held.free:
            time.sleep(0.002)
        held.looked.append(self)
        return look(self)

    monkeypatch.setattr(_Ticket, "look", watched)
    yield held
    held.open()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def body(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": prompt, "max_tokens": 24, "temperature": 0} | more


def post(server: Live, prompt: str = PROMPTS[0], **more: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json=body(prompt, **more), timeout=60)


def said(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    text: str = reply.json()["choices"][0]["text"]
    return text


def streamed(server: Live, prompt: str) -> tuple[str, dict[str, Any]]:
    """The text of a stream, and its counts."""
    ask = body(prompt, stream=True, stream_options={"include_usage": True})
    with httpx.stream("POST", f"{server.url}/v1/completions", json=ask, timeout=60) as reply:
        *events, done = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert done == "[DONE]"
    *pieces, counts = map(json.loads, events)
    assert pieces[-1]["choices"][0]["finish_reason"] == "length"
    return "".join(piece["choices"][0]["text"] for piece in pieces), counts["usage"]


def first_event(server: Live, ask: dict[str, Any]) -> str:
    """Of a stream that is then left."""
    with httpx.stream("POST", f"{server.url}/v1/completions", json=ask, timeout=60) as reply:
        return next(reply.iter_lines())


def running(server: Live, count: int) -> None:
    until(lambda: server.service.desk.running == count)


def test_streams_at_once_share_their_passes_and_say_what_each_says_alone(
    server: Live, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    found = [pool.submit(streamed, server, prompt) for prompt in PROMPTS[:SLOTS]]
    running(server, SLOTS)
    gate.open()
    for prompt, one in zip(PROMPTS, found, strict=False):
        text, counts = one.result()
        assert counts["completion_tokens"] == 24
        assert counts["completion_tokens_details"]["accepted_prediction_tokens"] == 0
        assert text[:4] == said(post(server, prompt))[:4], "later a batch may round random weights otherwise"
    shared = list(zip(gate.looked, gate.looked[1:], gate.looked[2:], strict=False))
    assert sum(len({*three}) == SLOTS for three in shared) > 20, "three answers took their tokens from the same passes"


def test_one_too_many_is_refused_and_those_in_line_are_answered(
    server: Live, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    found: list[Future[httpx.Response]] = []
    for count in range(1, SLOTS + 1):
        found.append(pool.submit(post, server))
        running(server, count)
    found.append(pool.submit(post, server))
    until(lambda: server.service.desk.waiting == 1)
    refused = post(server)
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "queue_full"
    gate.open()
    assert [one.result().status_code for one in found] == [200] * (SLOTS + 1)


def test_a_client_that_hangs_up_frees_its_place_in_the_batch(
    server: Live, gate: Gate, pool: ThreadPoolExecutor
) -> None:
    stays = [pool.submit(post, server, prompt) for prompt in PROMPTS[: SLOTS - 1]]
    running(server, SLOTS - 1)
    leaves = pool.submit(first_event, server, body(PROMPTS[2], stream=True, max_tokens=400))
    running(server, SLOTS)
    gate.free = 8 * SLOTS
    assert '"text"' in leaves.result()
    running(server, SLOTS - 1)
    takes_it = pool.submit(post, server, PROMPTS[3])
    running(server, SLOTS)
    gate.open()
    assert [len(said(one.result())) > 0 for one in (*stays, takes_it)] == [True] * SLOTS
    left = max(gate.looked, key=lambda ticket: ticket.request.max_new_tokens)
    assert left.cancelled and left.request.max_new_tokens == 400 and len(left.tokens) < 400
    after = [place for place, ticket in enumerate(gate.looked) if ticket is left]
    assert len(after) <= len(left.tokens) + 2, "it was looked at once more, to be taken out"
    assert 'edgespec_answers_total{ended="client_gone"} 1.0' in httpx.get(f"{server.url}/metrics").text


def test_stop_and_seed_are_obeyed(server: Live) -> None:
    whole = said(post(server))
    stop = whole[5:8]
    cut = post(server, stop=stop)
    assert said(cut) == whole[: whole.index(stop)] and cut.json()["choices"][0]["finish_reason"] == "stop"
    first, again, other = (said(post(server, temperature=1, seed=seed)) for seed in (7, 7, 8))
    assert first == again != other


def test_a_chat_is_answered_too(backend: Batched) -> None:
    turns = [{"role": "user", "content": PROMPTS[0]}]
    ask = {"model": "tiny", "messages": turns, "max_tokens": 8, "temperature": 0}
    with live(backend, Served("tiny", raw_chat=True)) as server:
        reply = httpx.post(f"{server.url}/v1/chat/completions", json=ask, timeout=60)
        assert reply.json()["choices"][0]["message"]["content"] == said(post(server, max_tokens=8))
