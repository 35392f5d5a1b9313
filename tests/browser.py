"""A headless Chromium that is driven through its debugging protocol: open a page, run a script in it, wait for one."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge"
)  # fmt: skip


def find_browser() -> str:
    named = os.environ.get("CHROME")
    found = named if named and Path(named).is_file() else next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        places = [Path(os.environ.get(base, "")) for base in ("PROGRAMFILES", "PROGRAMFILES(X86)")]
        places = [place / "Microsoft" / "Edge" / "Application" / "msedge.exe" for place in places]
        places.append(Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"))
        found = next((str(place) for place in places if place.is_file()), None)
    if found is None:
        pytest.fail(
            "no Chromium, Chrome or Edge was found to open the pages with: install one (Debian and Ubuntu: apt-get "
            "install chromium) or name its program in the environment variable CHROME"
        )
    return found


def headless(profile: Path, width: int, height: int, *more: str) -> list[str]:
    """The command of a browser without a window, which asks nothing of the network and leaves nothing behind but
    `profile`."""
    return [
        find_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--window-size={width},{height}", f"--user-data-dir={profile}", *more,
    ]  # fmt: skip


class Browser:
    def __init__(self, profile: Path, width: int = 900, height: int = 760) -> None:
        self._process = subprocess.Popen(
            headless(profile, width, height, "--remote-debugging-port=0", "about:blank"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        told = profile / "DevToolsActivePort"  # written once the port is known
        deadline = time.monotonic() + 120
        while not (told.is_file() and told.read_text().count("\n") >= 1):
            assert self._process.poll() is None, "the browser ended"
            assert time.monotonic() < deadline, "the browser does not tell its port"
            time.sleep(0.05)
        port = told.read_text().splitlines()[0]
        tabs = httpx.get(f"http://127.0.0.1:{port}/json", timeout=60).json()
        where = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        self._open = ExitStack()
        self._socket: ClientConnection = self._open.enter_context(connect(where, max_size=None, open_timeout=60))
        self._number = 0
        self.problems: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Errors of the page's scripts, and policies they broke, that come meanwhile are kept in `problems`."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(message["params"]["exceptionDetails"]["text"])
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.problems.append(message["params"]["entry"]["text"])
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """Ask until the expression is true."""
        deadline = time.monotonic() + 60
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.02)
        return value

    def open(self, url: str) -> None:
        self.problems.clear()
        self.call("Page.navigate", url=url)
        self.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self._open.close()
        self._process.terminate()
        self._process.wait(30)
