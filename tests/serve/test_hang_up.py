"""A real pair: a client that hangs up in the middle of a stream costs one step more, and nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import httpx
import pytest
from scripted_server import Live, ScriptedBackend, live, until

from edgespec.runtime.answering import Answering
from edgespec.serve import Served

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "def add(a, b):"}], "temperature": 0, "stream": True}


def test_the_slot_is_free_within_a_step(chat_server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    take, steps, held, go = Answering._take, list[int](), threading.Event(), threading.Event()

    def counted(self: Answering, tokens: Sequence[int], flags: Sequence[bool]) -> None:
        take(self, tokens, flags)
        steps.append(len(tokens))
        if len(steps) == 3:  # hold the answer here until the server has seen the client go
            held.set()
            while not self.job.cancelled and not go.wait(0.01):
                pass

    monkeypatch.setattr(Answering, "_take", counted)
    try:
        with httpx.stream("POST", f"{chat_server.url}/v1/chat/completions", json=BODY | {"max_tokens": 400}) as reply:
            assert reply.status_code == 200 and held.wait(60)
        monkeypatch.setattr(Answering, "_take", take)
        after = httpx.post(
            f"{chat_server.url}/v1/chat/completions", json=BODY | {"max_tokens": 5, "stream": False}, timeout=60
        )
    finally:
        go.set()  # or a server that has not noticed would hold the test for ever
    assert after.status_code == 200 and after.json()["usage"]["completion_tokens"] == 5
    assert len(steps) <= 4, "at most the step that ran when the client went"
    until(lambda: chat_server.service.desk.running == 0)  # the answer is told a moment before its place is free


def test_only_a_chats_template_brings_its_own_special_tokens() -> None:
    for has_template in (True, False):
        backend = ScriptedBackend(has_chat_template=has_template)
        with live(backend, Served("tiny", raw_chat=True)) as server:
            httpx.post(f"{server.url}/v1/chat/completions", json=BODY | {"max_tokens": 1, "stream": False})
            httpx.post(f"{server.url}/v1/completions", json={"model": "tiny", "prompt": "a", "max_tokens": 1})
        assert backend.special == [not has_template, True], "and once a request"


def test_a_chat_uses_the_models_template(chat_server: Live) -> None:
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    backend = chat_server.service.backend
    text = backend.chat_prompt(turns)
    assert text == "system: be brief\nuser: hello\nassistant: "
    reply = httpx.post(
        f"{chat_server.url}/v1/chat/completions", json=BODY | {"messages": turns, "max_tokens": 3, "stream": False}
    )
    assert reply.json()["usage"]["prompt_tokens"] == len(backend.encode(text, special=False))


def test_a_model_without_a_template_says_what_to_do(bundled_server: Live) -> None:
    from scripted_server import live

    with live(bundled_server.service.backend) as server:
        reply = httpx.post(f"{server.url}/v1/chat/completions", json=BODY)
        assert reply.status_code == 400 and reply.json()["error"]["code"] == "no_chat_template"
        assert "--raw" in reply.json()["error"]["message"]
