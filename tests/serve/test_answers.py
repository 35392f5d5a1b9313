"""Events of a stream: one line each, however a reader looks for lines."""

from __future__ import annotations

import json

import httpx
from hypothesis import example, given
from hypothesis import strategies as st
from scripted_server import ScriptedBackend, live

from edgespec.serve.answers import DONE, event

ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Where str.splitlines ends a line."""


@given(st.text(st.sampled_from(ENDS) | st.characters(codec="utf-8")))
@example(ENDS)
def test_a_reader_that_splits_lines_as_python_does_sees_one(text: str) -> None:
    sent = event({"text": text, text: 1}).decode()
    (line, blank) = sent.splitlines()
    assert blank == "" and sent == f"{line}\n\n"
    assert json.loads(line.removeprefix("data: ")) == {"text": text, text: 1}


def test_other_letters_are_sent_as_they_are() -> None:
    assert event({"text": "é漢"}) == 'data: {"text": "é漢"}\n\n'.encode()
    assert DONE == b"data: [DONE]\n\n"


def test_httpx_reads_a_live_stream_whose_text_has_them() -> None:
    with live(ScriptedBackend(text=ENDS)) as server:
        ask = {"model": "tiny", "prompt": "abc", "max_tokens": 3, "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/completions", json=ask, timeout=60) as reply:
            events = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert events[-1] == "[DONE]"
    assert "".join(json.loads(each)["choices"][0]["text"] for each in events[:-1]) == ENDS * 3
