"""Ctrl-C reaches Python, whatever models came and went."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

_PROLOGUE = """
    import gc, signal, sys
    from edgespec.engine.genai import GenaiEngine
    from edgespec.engine.model import open_model
    from edgespec.engine.native import NativeEngine
    from edgespec.pair import Pair
    from edgespec.runtime.text import Words
    from pathlib import Path
    pair = Pair.open(sys.argv[1])
    signal.signal(signal.SIGINT, lambda *_: print("heard"))
"""


def _after(pair: Path, body: str) -> str:
    code = textwrap.dedent(_PROLOGUE) + textwrap.dedent(body) + "\ngc.collect(); signal.raise_signal(signal.SIGINT)\n"
    done = subprocess.run(
        [sys.executable, "-c", code, str(pair)], capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else f"exit {done.returncode}: {done.stderr[-500:]}"


@pytest.mark.parametrize(
    "engine",
    [
        "GenaiEngine(pair, device='CPU', mode='draft', settings={})",
        "NativeEngine(pair, device='CPU', mode='draft', settings={})",
    ],
)
def test_a_signal_is_heard_after_two_models_were_closed(tiny_pair: Path, engine: str) -> None:
    assert _after(tiny_pair, f"engine = {engine}; engine.generate([5, 6, 7], 4); engine.close(); del engine") == "heard"


def test_a_signal_is_heard_when_models_go_in_the_order_they_came(tiny_pair: Path) -> None:
    opened = (
        "first = open_model(pair.target, 'CPU'); words = Words(pair.target); second = open_model(pair.draft, 'CPU')"
    )
    assert _after(tiny_pair, f"{opened}; del first; gc.collect(); del words; gc.collect(); del second") == "heard"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the fault")
def test_openvino_still_has_the_fault(tiny_pair: Path) -> None:
    """When this fails, edgespec/signals.py can go."""
    compiled = "openvino.Core().compile_model(pair.target / 'openvino_model.xml', 'CPU')"
    said = _after(
        tiny_pair, f"import openvino; first = {compiled}; second = {compiled}; del first; gc.collect(); del second"
    )
    assert said.startswith("exit -11")
