"""Suites of others come from a server on this machine: whole and right, or not at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgespec.bench.prompts import load_suite
from edgespec.bench.prompts.downloads import DOWNLOADS, Download, downloaded_suite, fetch, is_fetched, stored_at
from edgespec.errors import EdgespecError
from edgespec.progress import Silent

CONTENT = b"".join(
    b'{"question_id": %d, "category": "qa", "turns": ["Question %d?", "And why?"]}\n' % (i, i) for i in range(2000)
)


class Spoken(Silent):
    """A Progress that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@dataclass
class Server:
    """content: what it sends. stop_after: it breaks the connection after so many bytes. ranges: what was asked for."""

    url: str = ""
    content: bytes = CONTENT
    stop_after: int | None = None
    status: int = 200
    obeys_ranges: bool = True
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.obeys_ranges else 0
            body = state.content[start:]
            self.send_response(state.status if state.status != 200 else 206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.stop_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("EDGESPEC_CACHE", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_port}/question.jsonl"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with _pinned(monkeypatch, state.url):
            yield state
        running.shutdown()
        thread.join()


@contextmanager
def _pinned(monkeypatch: pytest.MonkeyPatch, url: str) -> Iterator[None]:
    digest = hashlib.sha256(CONTENT).hexdigest()
    monkeypatch.setitem(DOWNLOADS, "spec-bench", Download("A suite.", url, len(CONTENT), digest, "Some licence."))
    yield


def _kept() -> list[str]:
    folder = stored_at("spec-bench").parent
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_what_was_pinned_is_fetched_once_and_loads(server: Server) -> None:
    assert not is_fetched("spec-bench")
    spoken = Spoken()
    path = fetch("spec-bench", spoken)
    assert spoken.said == ["Some licence."]
    assert path.read_bytes() == CONTENT and _kept() == ["spec-bench.jsonl"] and is_fetched("spec-bench")
    suite = load_suite("spec-bench")
    assert suite.name == "spec-bench" and len(suite.prompts) == 2000
    assert suite.prompts[3].turns == ("Question 3?", "And why?") and suite.prompts[3].chat
    fetch("spec-bench", spoken)
    assert len(server.ranges) == 1 and "is here already" in spoken.said[-1]


@pytest.mark.parametrize("content", [CONTENT[:-1] + b" ", CONTENT + b"more" * 50_000])
def test_anything_else_is_refused_and_nothing_kept(server: Server, content: bytes) -> None:
    server.content = content
    with pytest.raises(EdgespecError, match=r"sent something else than what was pinned .*; nothing was kept"):
        fetch("spec-bench")
    assert _kept() == []


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server) -> None:
    server.stop_after = 70_000
    with pytest.raises(EdgespecError, match=r"it resumes"):
        fetch("spec-bench")
    assert _kept() == ["spec-bench.jsonl.part"] and not is_fetched("spec-bench")
    have = (stored_at("spec-bench").parent / "spec-bench.jsonl.part").stat().st_size
    assert 0 < have <= 70_000
    server.stop_after = None
    assert fetch("spec-bench").read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={have}-"] and _kept() == ["spec-bench.jsonl"]


def test_a_server_without_ranges_starts_again(server: Server) -> None:
    server.obeys_ranges = False
    part = stored_at("spec-bench").with_name("spec-bench.jsonl.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1000])
    assert fetch("spec-bench").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_a_first_half_of_something_else_is_thrown_away(server: Server) -> None:
    part = stored_at("spec-bench").with_name("spec-bench.jsonl.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert fetch("spec-bench").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_an_answer_that_is_an_error_is_a_sentence(server: Server) -> None:
    server.status = 404
    with pytest.raises(EdgespecError, match="answered 404"):
        fetch("spec-bench")
    assert _kept() == []


def test_offline_is_a_sentence_that_says_what_to_do(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        port = other.server_port  # nobody listens there afterwards
    with (
        _pinned(monkeypatch, f"http://127.0.0.1:{port}/q"),
        pytest.raises(EdgespecError, match=r"could not be reached .* when online, it resumes, or bring the file"),
    ):
        fetch("spec-bench")
    with pytest.raises(EdgespecError, match="fetch them with: edgespec prompts fetch spec-bench"):
        load_suite("spec-bench")


def test_a_file_altered_later_is_refused(server: Server) -> None:
    path = fetch("spec-bench")
    path.write_bytes(CONTENT.replace(b"Question 3?", b"Question 4?"))
    with pytest.raises(EdgespecError, match="is not what was pinned as 'spec-bench'"):
        downloaded_suite("spec-bench")
    assert fetch("spec-bench").read_bytes() == CONTENT


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(EdgespecError, match="nothing to fetch under the name 'spec'; choose spec-bench"):
        fetch("spec")


def test_the_real_pin_is_a_commit_and_a_hash() -> None:
    pinned = DOWNLOADS["spec-bench"]
    assert len(pinned.sha256) == 64 and "/fd2c1cd7d2201ef71db4c5f4e455008f017967bf/" in pinned.url
    assert pinned.url.startswith("https://") and "Apache-2.0" in pinned.licence
