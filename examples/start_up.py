"""What a window notices while a pair loads behind it: how long a start takes, and how long it could not draw.

    python examples/start_up.py PAIR [--modes native-hybrid,draft,plain] [--starts 2] [--cache-dir FOLDER]

Each start is a process of its own. The pair loads in the background while another thread does what a window's event
loop does, a little something every millisecond; the longest time it was kept from that is the worst gap, told with the
call that was on the way. A call of a library that keeps Python's lock (GIL) stops every Python thread, so no thread
helps against it. The first start of all hashes the pair's files, later ones do not.
--openvino-cache hands CACHE_DIR to OpenVINO itself, which the runtime leaves out on a CPU: it shows why.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = (
    ("openvino_genai", "LLMPipeline"),
    ("openvino_genai", "draft_model"),
    ("openvino_genai", "Tokenizer"),
    ("edgespec.engine.model", "open_model"),
    ("edgespec.runtime.text", "spelling"),
    ("edgespec.pair", "sha256_of"),
)
TICK_S = 0.001


class Ticking:
    """A thread that wants to run every millisecond; gaps: seconds it was kept from it, and during which call."""

    def __init__(self) -> None:
        self.gaps: list[tuple[float, str]] = []
        self.call = "Python"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick)
        self._thread.start()

    def _tick(self) -> None:
        last = time.perf_counter()
        during = self.call
        while not self._over.is_set():
            time.sleep(TICK_S)
            now = time.perf_counter()
            self.gaps.append((now - last - TICK_S, during if during != "Python" else self.call))
            last, during = now, self.call

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def watched(ticking: Ticking, call: Callable[..., Any], name: str) -> Callable[..., Any]:
    def named(*given: Any, **more: Any) -> Any:
        before, ticking.call = ticking.call, name
        try:
            return call(*given, **more)
        finally:
            ticking.call = before

    return named


def start(pair: Path, mode: str, settings: dict[str, str], cache_dir: str | None) -> dict[str, object]:
    """One start in this process."""
    from importlib import import_module

    from edgespec import SpecPipeline
    from edgespec.runtime.model_cache import DEFAULT

    ticking = Ticking()
    for module, attribute in CALLS:
        home = import_module(module)
        setattr(home, attribute, watched(ticking, getattr(home, attribute), attribute))
    began = time.perf_counter()
    with SpecPipeline(
        pair, device="CPU", mode=mode, settings=settings, background=True, cache_dir=cache_dir or DEFAULT
    ) as pipeline:
        pipeline.wait_until_ready()
        ready_s = time.perf_counter() - began
        ticking.end()
        first = pipeline.generate("def f(", max_new_tokens=2)
        spoke_s = time.perf_counter() - began
    worst = sorted(ticking.gaps, reverse=True)[:3]
    return {
        "mode": mode,
        "ready_s": round(ready_s, 2),
        "first_tokens_s": round(spoke_s, 2),
        "mode_used": first.metrics.mode,
        "worst_gaps_ms": [[round(1e3 * seconds, 1), during] for seconds, during in worst],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", type=Path)
    parser.add_argument("--modes", default="native-hybrid,draft,plain")
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--cache-dir")
    parser.add_argument("--openvino-cache", help="A folder for OpenVINO's own CACHE_DIR.")
    parser.add_argument("--here", action="store_true", help="One start, in this process.")
    asked = parser.parse_args()
    if asked.here:
        settings = {"CACHE_DIR": asked.openvino_cache} if asked.openvino_cache else {}
        print(json.dumps(start(asked.pair, asked.modes, settings, asked.cache_dir)))
        return
    for mode in asked.modes.split(","):
        for _ in range(asked.starts):
            command = [sys.executable, __file__, str(asked.pair), "--modes", mode, "--here"]
            command += ["--cache-dir", asked.cache_dir] if asked.cache_dir else []
            command += ["--openvino-cache", asked.openvino_cache] if asked.openvino_cache else []
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
