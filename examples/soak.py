"""Does a long life leak? Start and stop answers, then many short ones: resident memory and threads must stay flat.

    python examples/soak.py PAIR [--cycles 1000] [--requests 10000] [--mode auto]

A cycle streams an answer, stops it from another thread at its first piece and reads it to its end. Memory is read
after a warm-up of a tenth of each part (caches grow to what the answers need, once), and must then stay within
--tolerance of it. Exit code 1 when it does not, or a thread is left. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import gc
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from edgespec import SpecPipeline

PROMPTS = ("def add(a, b):\n", "class Stack:\n", "for i in range(", "import ")


def start_and_stop(pipeline: SpecPipeline, number: int) -> None:
    stream = pipeline.stream(PROMPTS[number % len(PROMPTS)], max_new_tokens=300, temperature=0.5 * (number % 2), seed=1)
    next(stream)
    began = time.perf_counter()
    stopper = threading.Thread(target=pipeline.stop)
    stopper.start()
    for _ in stream:
        pass
    stopper.join()
    assert stream.result is not None and stream.result.finish_reason in ("cancelled", "stop"), stream.result
    LAGS_S.append(time.perf_counter() - began)


def short_request(pipeline: SpecPipeline, number: int) -> None:
    pipeline.generate(PROMPTS[number % len(PROMPTS)], max_new_tokens=3, temperature=0.5 * (number % 2), seed=1)


LAGS_S: list[float] = []


def soak(name: str, what: Callable[[SpecPipeline, int], None], pipeline: SpecPipeline, count: int) -> dict[str, Any]:
    """Do it `count` times; memory after the warm-up, at the end, and at its highest in between."""
    process = psutil.Process()
    warm_up = max(1, count // 10)
    first = highest = 0
    began = time.perf_counter()
    for number in range(count):
        what(pipeline, number)
        if number + 1 == warm_up or number + 1 == count or (number > warm_up and number % 50 == 0):
            gc.collect()
            now = process.memory_info().rss
            first = first or now
            highest = max(highest, now)
    return {
        "what": name,
        "count": count,
        "rss_after_warm_up_bytes": first,
        "rss_end_bytes": now,
        "rss_highest_bytes": highest,
        "growth": now / first - 1,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", type=Path)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--mode", default="auto")
    parser.add_argument("--tolerance", type=float, default=0.02)
    arguments = parser.parse_args()
    import openvino  # noqa: F401 - it starts a thread of its own, once

    before = threading.active_count()
    parts = []
    with SpecPipeline(arguments.pair, mode=arguments.mode) as pipeline:
        if arguments.cycles:
            parts.append(soak("start and stop", start_and_stop, pipeline, arguments.cycles))
        if arguments.requests:
            parts.append(soak("short requests", short_request, pipeline, arguments.requests))
    left = threading.active_count() - before
    lags = sorted(LAGS_S)
    document = {
        "parts": parts,
        "threads_left": left,
        "stop_to_end_ms": {"median": 1e3 * lags[len(lags) // 2], "largest": 1e3 * lags[-1]} if lags else None,
    }
    print(json.dumps(document))
    if left or any(part["growth"] > arguments.tolerance for part in parts):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
