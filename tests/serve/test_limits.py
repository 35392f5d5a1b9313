"""What a server does not let happen: full lines, large bodies, long prompts, answers without end. Scripted answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from scripted_server import Live, ScriptedBackend, live, until

from edgespec.runtime.requests import make_request
from edgespec.serve import Limits, Served
from edgespec.serve.answers import Form

ASK = {"model": "tiny", "prompt": "abc", "max_tokens": 5}
TURN = {"role": "user", "content": "abc"}
CHAT = {"model": "tiny", "messages": [TURN]}


def post(server: Live, body: Any = ASK, **more: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=60, **more)


def metrics(server: Live) -> str:
    return httpx.get(f"{server.url}/metrics").text


def error(reply: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = reply.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


def test_no_answer_asks_for_a_mode_that_keeps_prefixes() -> None:
    """An NPU and an EAGLE-3 head keep none, and serve."""
    backend = ScriptedBackend()
    with live(backend) as server:
        assert post(server).status_code == 200
    assert backend.answers[0].options["reuse_prefix"] == "where possible"
    request = make_request(list, backend.answers[0].options)
    assert request.prefix_asked is None and request.reuse_prefix


def in_background(count: int, server: Live, body: Any = ASK) -> tuple[list[threading.Thread], list[httpx.Response]]:
    replies: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: replies.append(post(server, body))) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, replies


def test_a_full_line_is_told_so_and_those_in_it_are_answered() -> None:
    backend = ScriptedBackend(steps=1)
    with live(backend, limits=Limits(waiting=2, grace_s=0.1)) as server:
        threads, replies = in_background(3, server)
        until(lambda: server.service.desk.waiting == 2)
        refusal = post(server)
        assert refusal.status_code == 429 and error(refusal)["code"] == "queue_full"
        assert int(refusal.headers["retry-after"]) >= 1
        assert len(backend.special) == 3, "a prompt that is refused is not read first"
        backend.steps = 100
        for thread in threads:
            thread.join()
        assert [reply.status_code for reply in replies] == [200] * 3
        assert replies[0].json()["choices"][0]["text"] == "aaaaa"


def test_body_and_prompt_and_answer_have_limits() -> None:
    with live(
        ScriptedBackend(), limits=Limits(body_bytes=400, prompt_tokens=20, answer_tokens=9, grace_s=0.1)
    ) as server:
        large = post(server, ASK | {"prompt": "x" * 400})
        assert large.status_code == 413 and "400 bytes" in error(large)["message"]
        chunked = httpx.post(
            f"{server.url}/v1/completions",
            content=iter([b"x" * 300, b"x" * 300]),
            headers={"Content-Type": "application/json"},
        )
        assert chunked.status_code == 413
        long = post(server, ASK | {"prompt": "x" * 21})
        assert long.status_code == 400 and error(long)["code"] == "prompt_too_long" and "20" in error(long)["message"]
        much = post(server, ASK | {"max_tokens": 10})
        assert much.status_code == 400 and error(much)["param"] == "max_tokens"
        form = httpx.post(
            f"{server.url}/v1/completions", content=json.dumps(ASK), headers={"Content-Type": "text/plain"}
        )
        assert form.status_code == 415
    with live(ScriptedBackend(context=30)) as server:
        assert error(post(server, ASK | {"prompt": "x" * 30}))["code"] == "context_length_exceeded"
        assert post(server, ASK | {"prompt": "x" * 29}).status_code == 200


def test_a_body_that_never_comes_is_given_up() -> None:
    with (
        live(ScriptedBackend(), limits=Limits(body_s=0.05, grace_s=0.1)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as connection,
    ):
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_an_answer_that_takes_too_long_ends_and_its_slot_is_free() -> None:
    backend = ScriptedBackend(steps=2)
    with live(backend, limits=Limits(answer_s=0.1, grace_s=0.1)) as server:
        late = post(server)
        assert late.status_code == 504 and late.headers["x-should-retry"] == "false"
        assert error(late)["code"] == "answer_timeout"
        streamed = post(server, ASK | {"stream": True}).text.split("\n\n")
        assert json.loads(streamed[-2].removeprefix("data: "))["error"]["code"] == "answer_timeout"
        assert "data: [DONE]" not in streamed and backend.answers[-1].cancelled
        server.service.limits = Limits()  # this one may take as long as this machine makes it
        backend.steps = 100
        assert post(server).status_code == 200


def test_a_wait_that_takes_too_long_ends() -> None:
    backend = ScriptedBackend(steps=0)
    with live(backend, limits=Limits(queue_s=0.05, grace_s=0.1)) as server:
        threads, _ = in_background(1, server)
        until(lambda: server.service.desk.running == 1)
        waited = post(server)
        assert waited.status_code == 429 and error(waited)["code"] == "queue_timeout"
        backend.steps = 100
        threads[0].join()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_ends_its_answer_and_the_next_one_begins(stream: bool) -> None:
    backend = ScriptedBackend(steps=3)
    body = json.dumps(ASK | {"max_tokens": 90, "stream": stream}).encode()
    with live(backend) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(request_of(body))
            until(lambda: backend.computed == 3)
        until(lambda: server.service.desk.running == 0)
        assert backend.answers[0].cancelled and backend.computed == 3, "not a step was taken for nobody"
        backend.steps = 100
        assert post(server).json()["usage"]["completion_tokens"] == 5
        assert 'edgespec_answers_total{ended="client_gone"} 1.0' in httpx.get(f"{server.url}/metrics").text


def test_a_client_that_hangs_up_in_line_leaves_it() -> None:
    backend = ScriptedBackend(steps=0)
    body = json.dumps(ASK).encode()
    with live(backend) as server:
        threads, _ = in_background(1, server)
        until(lambda: server.service.desk.running == 1)
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(request_of(body))
            until(lambda: server.service.desk.waiting == 1)
        until(lambda: server.service.desk.waiting == 0)
        backend.steps = 100
        threads[0].join()
        assert len(backend.answers) == 1, "the one who left was never begun"


@contextmanager
def asked_for_much(server: Live) -> Iterator[socket.socket]:
    """A connection with room for little, on which a stream of 10**6 tokens was asked for and nothing was read."""
    body = json.dumps({"model": "tiny", "prompt": "a", "max_tokens": 10**6, "stream": True}).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(request_of(body))
        yield connection


def request_of(body: bytes) -> bytes:
    return (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )


def test_a_client_that_takes_nothing_ends_its_answer() -> None:
    backend = ScriptedBackend(context=10**9)
    limits = Limits(send_s=0.2, answer_tokens=10**6, grace_s=0.1)
    with live(backend, limits=limits, sndbuf=8192) as server:
        with asked_for_much(server):
            until(lambda: backend.computed > 10)
            until(lambda: server.service.desk.running == 0)
        assert backend.answers[0].cancelled and backend.computed < 10**5
        assert 'edgespec_answers_total{ended="client_slow"} 1.0' in httpx.get(f"{server.url}/metrics").text


@pytest.mark.parametrize("taken", [1, 700])
def test_a_client_that_reads_a_little_now_and_then_holds_a_slot_no_longer_than_an_answer_may_take(taken: int) -> None:
    """Each send goes on before send_s is over, and the next piece is there already: neither limit is met by itself."""
    backend = ScriptedBackend(context=10**9)
    limits = Limits(send_s=30, answer_s=0.3, answer_tokens=10**6, grace_s=0.1)
    with live(backend, limits=limits, sndbuf=8192) as server:
        free = threading.Event()

        def trickle() -> None:
            while not free.wait(0.002) and connection.recv(taken):
                pass

        with asked_for_much(server) as connection:
            reader = threading.Thread(target=trickle)
            reader.start()
            try:
                until(lambda: backend.computed > 10)
                until(lambda: server.service.desk.running == 0, 60)
                assert backend.answers[0].cancelled and backend.computed < 10**5
            finally:
                free.set()
                reader.join(60)
        backend.steps = 100
        assert post(server).status_code == 200


def test_shutdown_lets_an_answer_finish_and_refuses_those_in_line() -> None:
    backend = ScriptedBackend(steps=1)
    with live(backend, limits=Limits(grace_s=30)) as server:
        threads, replies = in_background(2, server)
        until(lambda: server.service.desk.waiting == 1)
        server.server.should_exit = True
        until(lambda: len(replies) == 1)
        assert replies[0].status_code == 503 and error(replies[0])["code"] == "shutting_down"
        backend.steps = 100
        for thread in threads:
            thread.join()
        assert replies[1].status_code == 200


def test_shutdown_ends_an_answer_that_takes_longer_than_it_may() -> None:
    backend = ScriptedBackend(steps=2)
    with live(backend, limits=Limits(grace_s=0.05)) as server:
        threads, replies = in_background(1, server, ASK | {"stream": True})
        until(lambda: backend.computed == 2)
        server.server.should_exit = True
        threads[0].join()
        events = replies[0].text.split("\n\n")
        assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert backend.answers[0].cancelled


def test_while_loading_nothing_is_answered_and_health_says_so() -> None:
    backend = ScriptedBackend(ready=False)
    with live(backend) as server:
        health = httpx.get(f"{server.url}/health")
        assert (health.status_code, health.json()) == (503, {"status": "loading"})
        assert error(post(server))["code"] == "loading"
        assert httpx.get(f"{server.url}/v1/models").json()["data"][0]["chat"] is None
        backend.ready = True
        assert httpx.get(f"{server.url}/health").json() == {"status": "ready"}
        assert post(server).status_code == 200


def test_errors_have_a_shape_and_tell_nothing_of_the_prompt(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), live(ScriptedBackend()) as server:
        failed = post(server, ASK | {"prompt": "fail secretly"})
        assert failed.status_code == 500 and "secret" not in failed.text
        refused = post(server, ASK | {"prompt": "refuse", "stream": True})
        assert refused.status_code == 400 and error(refused)["message"] == "this cannot be done; do another thing"
        post(server, ASK | {"prompt": "my private words"})
        assert httpx.get(f"{server.url}/nowhere").status_code == 404
        assert httpx.put(f"{server.url}/v1/models").status_code == 405
    assert "secret" not in caplog.text and "private" not in caplog.text and "RuntimeError" in caplog.text


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
def test_an_error_that_nobody_foresaw_is_logged_without_its_words(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is raised before an answer begins, where Starlette and uvicorn would log what it says."""
    words = "explode quietly"
    ask = (
        {"model": "tiny", "prompt": words}
        if path == "completions"
        else CHAT | {"messages": [TURN | {"content": words}]}
    )
    with caplog.at_level("DEBUG"), live(ScriptedBackend()) as server:
        reply = httpx.post(f"{server.url}/v1/{path}", json=ask)
        assert reply.status_code == 500 and error(reply)["code"] == "failed" and "quiet" not in reply.text
        assert f'edgespec_requests_total{{route="/v1/{path}",status="500"}} 1.0' in metrics(server)
        assert post(server).status_code == 200
    assert "RuntimeError" in caplog.text and "scripted_server" in caplog.text, "where it came from is told"
    assert "quietly" not in caplog.text
    with live(ScriptedBackend(), Served("tiny", log_prompts=True)) as server:
        httpx.post(f"{server.url}/v1/{path}", json=ask)
    assert "it was about explode quietly" in caplog.text


def test_an_error_in_the_middle_of_a_reply_ends_it_without_its_words(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Form, result: Any) -> Any:
        raise RuntimeError("etavirp"[::-1])  # the line itself may be logged

    monkeypatch.setattr(Form, "closing", broken)
    with caplog.at_level("DEBUG"), live(ScriptedBackend()) as server:
        events = post(server, ASK | {"stream": True}).text.split("\n\n")
        assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "failed"
        assert server.service.desk.running == 0
    assert "RuntimeError" in caplog.text and "private" not in caplog.text


def test_prompts_are_logged_when_that_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), live(ScriptedBackend(), Served("tiny", log_prompts=True)) as server:
        post(server, ASK | {"prompt": "my private words"})  # the line may come behind the reply
    assert "my private words" in caplog.text


def test_no_path_reaches_the_file_system() -> None:
    with live(ScriptedBackend()) as server:
        for path in (
            "/../pyproject.toml",
            "/%2e%2e/pyproject.toml",
            "/v1/models/..%2f..%2fetc%2fpasswd",
            "//etc/passwd",
        ):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                reply = b"".join(iter(lambda: connection.recv(65536), b""))
            assert reply.startswith(b"HTTP/1.1 404 "), path
