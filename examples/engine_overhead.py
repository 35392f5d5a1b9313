"""What the native engine adds to a model pass: all of its time that is not spent inside OpenVINO.

    python examples/engine_overhead.py PAIR [--modes plain,draft,...] [--settings f32] [--gamma 3] [--answers 8]

Every inference request of both models is timed at OpenVINO's own entry point, below its Python wrapper, so that
wrapper counts as overhead. Reported per mode: passes (target and draft), milliseconds inside a pass, and milliseconds
outside per pass, all after the first token.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import openvino

from edgespec.bench.prompts import load_suite
from edgespec.engine.drafters import DRAFTERS
from edgespec.engine.native import NativeEngine
from edgespec.pair import Pair
from edgespec.settings import PLAIN_CANDIDATES


class PassClock:
    """Seconds inside OpenVINO's infer, and how often it was called, since `restart`."""

    def __init__(self) -> None:
        self.restart()
        base = next(kind for kind in openvino.InferRequest.__mro__[1:] if "infer" in vars(kind))
        inner = base.infer

        def timed(*given: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return inner(*given, **named)
            finally:
                self.inside_s += time.perf_counter() - started
                self.passes += 1

        base.infer = timed

    def restart(self) -> None:
        self.inside_s, self.passes = 0.0, 0


def measure(pair: Pair, mode: str, settings: dict[str, Any], asked: argparse.Namespace, clock: PassClock) -> dict:
    engine = NativeEngine(pair, device="CPU", mode=mode, settings=settings)
    prompts = load_suite(asked.prompts).prompts[: asked.answers + 1]
    wall_s = inside_s = 0.0
    passes = tokens = 0
    for number, prompt in enumerate(prompts):
        state = {"started": 0.0, "ended": 0.0}

        def on_tokens(_: Any, state: dict[str, float] = state) -> bool:
            if not state["started"]:  # the prompt's pass is over; what follows is the loop
                clock.restart()
                state["started"] = time.perf_counter()
            state["ended"] = time.perf_counter()
            return False

        gamma = asked.gamma if DRAFTERS[mode].takes_gamma else None
        answer = engine.generate(engine.encode(prompt.text), asked.max_new_tokens, gamma=gamma, on_tokens=on_tokens)
        if number:  # the first warms up
            wall_s += state["ended"] - state["started"]
            inside_s, passes = inside_s + clock.inside_s, passes + clock.passes
            tokens += len(answer.token_ids) - 1
    engine.close()
    return {
        "mode": mode,
        "passes": passes,
        "tokens": tokens,
        "inside_ms": inside_s / passes * 1e3,
        "outside_ms": (wall_s - inside_s) / passes * 1e3,
        "ms_per_token": wall_s / tokens * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", type=Path)
    parser.add_argument("--modes")
    parser.add_argument("--settings", default="f32", choices=sorted(PLAIN_CANDIDATES))
    parser.add_argument("--prompts", default="quick")
    parser.add_argument("--gamma", type=int, default=3)
    parser.add_argument("--answers", type=int, default=6)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    asked = parser.parse_args()
    clock = PassClock()
    pair = Pair.open(asked.pair)
    found = []
    for mode in asked.modes.split(",") if asked.modes else DRAFTERS:
        found.append(measure(pair, mode, PLAIN_CANDIDATES[asked.settings], asked, clock))
        print("{mode:14} {passes:5} passes {inside_ms:7.3f} ms inside {outside_ms:6.3f} ms outside".format(**found[-1]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
