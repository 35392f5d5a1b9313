"""The desktop app, offscreen: it loads behind an open window, streams, tints, stops; its pixels are looked at."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgespec import Pair
from edgespec.runtime.answering import Answering

LIMIT_S = 60.0


@pytest.fixture(scope="module")
def desktop() -> ModuleType:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    path = Path(__file__).parents[2] / "examples" / "desktop" / "app.py"
    spec = importlib.util.spec_from_file_location("desktop_app", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def app(desktop: ModuleType) -> Any:
    return desktop.QApplication.instance() or desktop.QApplication([])


@pytest.fixture
def window(desktop: ModuleType, app: Any, self_draft_pair: Pair) -> Iterator[Any]:
    opened = desktop.Window(self_draft_pair.root)
    opened.show()
    yield opened
    opened.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Answers are held behind a step until it is set, or they are cancelled."""
    opened, take = threading.Event(), Answering._take

    def take_and_hold(self: Answering, tokens: Sequence[int], flags: Sequence[bool]) -> None:
        take(self, tokens, flags)
        while not opened.wait(0.01) and not self.job.cancelled:
            pass

    monkeypatch.setattr(Answering, "_take", take_and_hold)
    yield opened
    opened.set()


def wait(app: Any, until: Callable[[], bool]) -> None:
    """Let the window work until something is so; the test fails when it never is.

    A timer looks, every 20 ms: PySide6 6.12 loses a reference to None at each processEvents (before Python 3.12 a loop
    of them ends the process).
    """
    from PySide6.QtCore import QEventLoop, QTimer

    loop, timer, end = QEventLoop(), QTimer(interval=20), time.monotonic() + LIMIT_S
    timer.timeout.connect(lambda: loop.quit() if until() or time.monotonic() > end else None)
    timer.start()
    loop.exec()
    timer.stop()
    assert until(), "it did not happen in time"


def colours(widget: Any) -> Counter[str]:
    image = widget.grab().toImage()
    return Counter(image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height()))


def test_it_loads_behind_an_open_window_streams_and_tints(
    desktop: ModuleType, app: Any, window: Any, gate: threading.Event
) -> None:
    assert window.isVisible() and not window.go.isEnabled() and "Loading" in window.status.text()
    wait(app, window.go.isEnabled)
    assert "device: CPU" in window.status.text()
    assert colours(window.text)[desktop.TINT.name()] == 0
    window.prompt.setText("def add(a, b):")
    window.go.click()
    wait(app, lambda: "tokens/s" in window.status.text())
    assert window.stop.isEnabled()
    gate.set()
    wait(app, window.go.isEnabled)
    assert "from the draft" in window.status.text() and window.text.toPlainText().startswith("def add(a, b):")
    assert len(window.text.toPlainText()) > len("def add(a, b):")
    assert colours(window.text)[desktop.TINT.name()] > 200, "a self-draft's tokens fill lines with the tint"
    window.tint.setChecked(False)
    window.go.click()
    wait(app, window.go.isEnabled)
    assert colours(window.text)[desktop.TINT.name()] == 0


def test_stop_stops(app: Any, window: Any, gate: threading.Event) -> None:
    wait(app, window.go.isEnabled)
    window.prompt.setText("class")
    window.go.click()
    wait(app, lambda: "tokens/s" in window.status.text())
    window.stop.click()
    wait(app, window.go.isEnabled)
    assert window.status.text().startswith("cancelled: ")


def test_a_pair_that_is_not_there_is_a_sentence_in_the_window(desktop: ModuleType, app: Any, tmp_path: Path) -> None:
    broken = desktop.Window(tmp_path / "nowhere")
    wait(app, lambda: "there is no directory" in broken.status.text())
    assert not broken.go.isEnabled()
    broken.close()
