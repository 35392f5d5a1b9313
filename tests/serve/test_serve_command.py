"""edgespec serve as a process: it says when it is ready, ends in order, and what stands in its way is a sentence."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from edgespec.cli import main

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
        assert "Traceback" not in log and KEY not in log
