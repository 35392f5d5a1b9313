"""What SpecPipeline costs over its bare engine: the same answers with and without it, in turn, by the same engine.

    python examples/wrapper_cost.py PAIR [--mode native-draft] [--rounds 4] [--max-new-tokens 96]

The engine, called directly, and the pipeline's generate and stream answer every prompt in a random order; two engines
would differ by where their memory lies (1.5 %, see LOG.md). Ratios are paired by prompt and round. Printed: tokens a
second over the bare engine's: the geometric mean, and the median, which a hiccup of the machine does not move, each
with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np

from edgespec import Pair, SpecPipeline
from edgespec.bench.prompts import load_suite


def median_interval(values: list[float]) -> tuple[float, float]:
    """95 % interval of the median by order statistics: how many of n values lie below it is binomial, half and half."""
    ordered = sorted(values)
    reach = int(np.ceil(0.98 * len(ordered) ** 0.5))
    middle = len(ordered) / 2
    return ordered[max(0, int(middle - reach) - 1)], ordered[min(len(ordered) - 1, int(middle + reach))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", type=Path)
    parser.add_argument("--mode", default="native-draft")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    arguments = parser.parse_args()
    assert arguments.mode != "auto", "a mode that does not change from answer to answer"
    pair = Pair.open(arguments.pair)
    texts = [prompt.turns[0] for prompt in load_suite("code").prompts[: arguments.prompts]]
    count = arguments.max_new_tokens
    with SpecPipeline(pair, device="CPU", mode=arguments.mode) as pipeline:
        engine = pipeline._the_engines.opened[0].engine

        def by_engine(text: str) -> int:
            answer = engine.generate(engine.encode(text), count)
            engine.decode(answer.token_ids)
            return len(answer.token_ids)

        def by_generate(text: str) -> int:
            return len(pipeline.generate(text, max_new_tokens=count).token_ids)

        def by_stream(text: str) -> int:
            stream = pipeline.stream(text, max_new_tokens=count)
            for _ in stream:
                pass
            assert stream.result is not None
            return len(stream.result.token_ids)

        ways = {"engine": by_engine, "generate": by_generate, "stream": by_stream}
        logs: dict[str, list[float]] = {"generate": [], "stream": []}
        for number in range(arguments.rounds + 1):  # the first is a warm-up
            for text in texts:
                speed = {}
                for name in random.sample(list(ways), len(ways)):
                    began = time.perf_counter()
                    tokens = ways[name](text)
                    speed[name] = tokens / (time.perf_counter() - began)
                if number:
                    for name, found in logs.items():
                        found.append(float(np.log(speed[name] / speed["engine"])))
    report = {}
    for name, found in logs.items():
        middle, spread = np.mean(found), 1.96 * np.std(found, ddof=1) / len(found) ** 0.5
        report[name] = {
            "of_the_engine": float(np.exp(middle)),
            "ci95": [float(np.exp(middle - spread)), float(np.exp(middle + spread))],
            "median": float(np.exp(np.median(found))),
            "median_ci95": [float(np.exp(edge)) for edge in median_interval(found)],
        }
    print(json.dumps({"mode": arguments.mode, "pairs": len(logs["stream"]), **report}))


if __name__ == "__main__":
    main()
