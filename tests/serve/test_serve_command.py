"""edgespec serve as a process: it says when it is ready, ends in order, and what stands in its way is a sentence."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from scripted_server import ScriptedBackend, until

from edgespec.cli import main
from edgespec.serve import Access, Limits, Served, bind
from edgespec.serve.server import Server
from edgespec.serve.service import Service

KEY = "a-long-enough-key-for-tests"


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The sentence with which `edgespec serve ...` refuses."""
    monkeypatch.delenv("EDGESPEC_API_KEY", raising=False)

    def call(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["edgespec", "serve", *map(str, arguments)])
        with pytest.raises(SystemExit) as leave:
            main()
        assert leave.value.code == 2
        error = capfd.readouterr().err
        assert "Traceback" not in error
        return next(line for line in error.splitlines() if line.startswith("error: "))

    return call


def test_what_cannot_be_served_is_refused_before_anything_loads(
    refused: Callable[..., str], tiny_pair: Path, tmp_path: Path
) -> None:
    assert "there is no directory" in refused(tmp_path / "nothing")
    assert "can be reached from other machines, and no API key was given" in refused(tiny_pair, "--host", "0.0.0.0")
    (tmp_path / "empty").touch()
    assert "is empty; its first line is the key" in refused(tiny_pair, "--api-key-file", tmp_path / "empty")
    assert "cannot be read" in refused(tiny_pair, "--api-key-file", tmp_path / "missing")
    assert "the limit waiting must be at least 1" in refused(tiny_pair, "--max-waiting", 0)
    assert "leave out --mode and --draft-device" in refused(tiny_pair, "--batch", 4, "--mode", "draft")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} cannot be listened on" in refused(tiny_pair, "--port", port)


def test_a_pair_that_does_not_load_ends_the_server_with_the_reason(
    refused: Callable[..., str], make_pair: Callable[..., Path]
) -> None:
    assert "error: " in refused(make_pair(), "--port", 0, "--device", "CPU")


def test_it_tells_when_it_is_ready_and_ends_in_order(tiny_pair: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="utf-8")
    command = [
        sys.executable, "-m", "edgespec", "serve", str(tiny_pair), "--port", "0", "--name", "small", "--device", "CPU",
        "--api-key-file", str(tmp_path / "key"), "--json",
    ]  # fmt: skip
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, creationflags=flags
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["model"] == "small" and told["base_url"] == told["url"] + "/v1" and told["pid"] == process.pid
        assert httpx.get(f"{told['url']}/health").json() == {"status": "ready"}
        assert httpx.get(f"{told['base_url']}/models").status_code == 401
        models = httpx.get(f"{told['base_url']}/models", headers={"Authorization": f"Bearer {KEY}"}).json()
        assert models["data"][0]["id"] == "small"
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0 and "'small' has ended" in log
    assert "Traceback" not in log and KEY not in log


SERVER = """
import sys
from pathlib import Path
from scripted_server import ScriptedBackend
from edgespec.serve import Access, Limits, Served, bind, serve, url_of

class Closing(ScriptedBackend):
    def close(self):
        print("closed", flush=True)

listening = bind("127.0.0.1", 0)
backend = Closing(steps=3)
serve(
    lambda: backend, Path(sys.argv[1]), listening, served=Served("tiny"), access=Access(),
    limits=Limits(grace_s=float(sys.argv[2])), on_ready=lambda _: print(url_of(listening), flush=True),
)
print("ended", flush=True)
"""
"""A server whose answers go three steps and then wait for ever."""

SIGNALS = [signal.CTRL_BREAK_EVENT] if sys.platform == "win32" else [signal.SIGTERM, signal.SIGINT]


@contextmanager
def scripted(pair: Path, grace_s: float) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", SERVER, str(pair), str(grace_s)]
    places = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, creationflags=flags,
        env=os.environ | {"PYTHONPATH": places},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("sent", SIGNALS)
def test_a_signal_ends_what_runs_closes_the_models_and_is_no_failure(sent: signal.Signals, tiny_pair: Path) -> None:
    ask = {"model": "tiny", "prompt": "abc", "max_tokens": 5, "stream": True}
    with scripted(tiny_pair, 0.1) as (process, url):
        with httpx.stream("POST", f"{url}/v1/completions", json=ask, timeout=60) as reply:
            events = (line for line in reply.iter_lines() if line)
            assert '"text": "a"' in next(events)
            process.send_signal(sent)
            *_, last = events
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
        told, log = process.communicate(timeout=60)
    assert (process.returncode, told) == (0, "closed\nended\n"), log


@pytest.mark.skipif(sys.platform == "win32", reason="no process can send another one Ctrl-C there")
def test_a_second_ctrl_c_waits_for_nobody(tiny_pair: Path) -> None:
    ask = {"model": "tiny", "prompt": "abc", "max_tokens": 5, "stream": True}
    with (
        scripted(tiny_pair, 1e6) as (process, url),
        httpx.stream("POST", f"{url}/v1/completions", json=ask, timeout=60) as reply,
    ):
        events = (line for line in reply.iter_lines() if line)
        assert '"text": "a"' in next(events)
        process.send_signal(signal.SIGINT)
        _refuses_soon(url)
        process.send_signal(signal.SIGINT)
        told, log = process.communicate(timeout=60)
    assert told == "closed\n" and log.endswith("KeyboardInterrupt\n") and process.returncode == -signal.SIGINT


def _refuses_soon(url: str) -> None:
    """Returns once the server takes no more connections: the end has begun."""

    def refused() -> bool:
        try:
            httpx.get(f"{url}/health")
        except httpx.TransportError:
            return True
        return False

    until(refused)


def test_an_end_before_loading_is_over_is_no_failure(tiny_pair: Path) -> None:
    loading, loaded = threading.Event(), threading.Event()

    class Slow(ScriptedBackend):
        def wait_until_ready(self) -> None:
            loading.set()
            assert loaded.wait(60)

    server = Server(Service(Slow(ready=False), Served("tiny"), Limits(), "fp", 1), Access(), lambda: None)
    listening = bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    assert loading.wait(60)
    server.should_exit = True
    until(lambda: listening.fileno() == -1)  # the loop is at its end, and waits for the thread that loads
    loaded.set()
    thread.join(60)
    assert not thread.is_alive() and server.problem is None
