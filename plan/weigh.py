"""A model alone in a process of its own: how long it takes to load, what memory it holds, and what its passes take.

In a fresh process because memory that an earlier model left behind would be counted as free, and its loading as quick.
It answers in JSON on the last line of its stdout.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from edgespec.errors import EdgespecError

_PROGRAM = "from edgespec.plan.weigh import answer; answer()"
PROMPT = 64
"""Tokens of the prompt that goes through before memory is looked at."""


@dataclass(frozen=True)
class Weighed:
    """load_s: to compile. rss_bytes: resident memory it added, mapped weights that are resident included, after a
    prompt of PROMPT tokens. passes: median seconds by tokens, one model alone."""

    load_s: float
    rss_bytes: int
    passes: Mapping[int, float]


def weigh(folder: Path, device: str, settings: Mapping[str, Any], lengths: Sequence[int], budget_s: float) -> Weighed:
    """Load the model in `folder` in a new process. Raises EdgespecError with the reason when that process fails."""
    request = {
        "folder": str(folder),
        "device": device,
        "settings": dict(settings),
        "lengths": list(lengths),
        "budget_s": budget_s,
    }
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", _PROGRAM, json.dumps(request)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise EdgespecError(f"the twin in '{folder}' could not be run on {device}: {lines[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Weighed(found["load_s"], found["rss_bytes"], {int(n): value for n, value in found["passes"].items()})


def _here(folder: str, device: str, settings: Mapping[str, Any], lengths: Sequence[int], budget_s: float) -> Weighed:
    import numpy as np
    import openvino  # noqa: F401  neither its loading nor its memory is the model's

    from edgespec.engine.model import open_model
    from edgespec.engine.passes import time_iterations

    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    model = open_model(Path(folder), device, settings)
    load_s = time.perf_counter() - started
    sequence = model.sequence()
    sequence.feed(np.arange(PROMPT) % model.vocab_size)
    rss_bytes = psutil.Process().memory_info().rss - before
    passes = time_iterations(
        sequence, None, vocabulary=model.vocab_size, lengths=lengths, context=PROMPT, repetitions=6, budget_s=budget_s
    )
    return Weighed(load_s, rss_bytes, passes["target"])


def answer() -> None:
    """The process's end of `weigh`."""
    print(json.dumps(asdict(_here(**json.loads(sys.argv[1])))))  # noqa: T201
