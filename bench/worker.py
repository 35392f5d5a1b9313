"""The child's end of isolation.py: one engine in this process, driven by JSON lines on stdin, answering on stdout.

Run as `python -m edgespec.bench.worker`. Whatever libraries print goes to stderr, so that stdout carries answers only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import psutil

from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.sampling import Sampling

from .bandwidth import measure_bandwidth
from .sensors import peak_rss_bytes


class _Worker:
    """The calls a parent may make, by name; each takes JSON and returns what json can write."""

    def __init__(self) -> None:
        self._engine: Any = None
        self.calls: dict[str, Callable[..., Any]] = {
            "open": self.open,
            "encode": lambda text, special: self._engine.encode(text, special=special),
            "decode": lambda ids: self._engine.decode(ids),
            "has_chat_template": lambda: self._engine.has_chat_template,
            "chat_prompt": lambda messages: self._engine.chat_prompt(messages),
            "generate": self.generate,
            "costs": self.costs,
            "together": self.together,
            "logit_gaps": self.logit_gaps,
            "bandwidth": lambda device: measure_bandwidth(device),
            "force": self.force,
        }

    def open(self, pair: str, **how: Any) -> dict[str, Any]:
        from .engines import open_engine

        before = psutil.Process().memory_info().rss
        self._engine = open_engine(Pair.open(pair, verify=False), **how)
        return {"rss_before_bytes": before, "rss_after_bytes": psutil.Process().memory_info().rss}

    def generate(
        self, prompt_ids: list[int], max_new_tokens: int, sampling: Mapping[str, Any], **options: Any
    ) -> dict[str, Any]:
        generation = self._engine.generate(prompt_ids, max_new_tokens, sampling=Sampling(**sampling), **options)
        return {**asdict(generation), "peak_rss_bytes": peak_rss_bytes()}

    def together(self, pair: str, **how: Any) -> list[list[int]]:
        from .control import together

        return together(Pair.open(pair, verify=False), **how)

    def logit_gaps(self, pair: str, **how: Any) -> list[float]:
        from .control import logit_gaps

        return logit_gaps(Pair.open(pair, verify=False), **how)

    def force(self, pair: str, device: str, settings: Mapping[str, Any], texts: Any, out: str) -> None:
        import numpy as np

        from edgespec.tuning.quality import forced_logits

        np.save(out, forced_logits(Pair.open(pair, verify=False).target, device, settings, texts), allow_pickle=False)

    def costs(self, pair: str, **how: Any) -> dict[str, Any]:
        from edgespec.engine.passes import measure_passes

        return {
            role: list(seconds.items())
            for role, seconds in measure_passes(Pair.open(Path(pair), verify=False), **how).items()
        }


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer until `requests` ends: {"call": name, "with": {...}} -> {"value": ...} or {"error": ..., "ours": bool}."""
    worker = _Worker()
    for line in requests:
        request = json.loads(line)
        try:
            answer: dict[str, Any] = {"value": worker.calls[request["call"]](**request["with"])}
        except Exception as error:
            text = next((part.strip() for part in str(error).splitlines() if part.strip()), "no message")
            ours = isinstance(error, EdgespecError)
            answer = {"error": text if ours else f"{type(error).__name__}: {text}", "ours": ours}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)  # native code that prints to stdout must not end up between the answers
    with os.fdopen(os.dup(0), "r", encoding="utf-8") as requests:
        serve(requests, answers)
    sys.stderr.flush()
    os._exit(0)  # the parent is gone or done: a plugin that hangs while unloading must not keep this process alive


if __name__ == "__main__":
    main()
