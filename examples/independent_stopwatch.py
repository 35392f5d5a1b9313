"""Is the bench's clock right? The same answers, timed once by the bench and once by a stopwatch around openvino_genai.

    python examples/independent_stopwatch.py PAIR [--prompts code] [--max-new-tokens 96] [--rounds 3]

Both answer every prompt in turn, in a random order, seconds apart. The stopwatch knows nothing of edgespec: it makes
its own LLMPipeline and holds time.perf_counter around generate. Printed: tokens a second of both, for plain and for
draft decoding, and their ratio with its 95 % interval over prompts.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai

from edgespec.bench.isolation import IsolatedEngine
from edgespec.bench.prompts import load_suite
from edgespec.bench.statistics import speedup
from edgespec.pair import Pair
from edgespec.telemetry import stop_upstream_reports


def pipeline(pair: Path, draft: bool) -> Any:
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_batched_tokens = 4096
    more = {"draft_model": openvino_genai.draft_model(str(pair / "draft"), "CPU")} if draft else {}
    return openvino_genai.LLMPipeline(str(pair / "target"), "CPU", scheduler_config=scheduler, **more)


def by_stopwatch(pipe: Any, ids: list[int], max_new_tokens: int, gamma: int | None) -> tuple[float, int]:
    config = pipe.get_generation_config()
    config.max_new_tokens = max_new_tokens
    config.do_sample = False
    if gamma:
        config.num_assistant_tokens = gamma
    tensor = openvino.Tensor(np.asarray([ids], dtype=np.int64))
    started = time.perf_counter()
    answer = pipe.generate(tensor, config)
    return time.perf_counter() - started, len(answer.tokens[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", type=Path)
    parser.add_argument("--prompts", default="code")
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gamma", type=int, default=3)
    asked = parser.parse_args()
    stop_upstream_reports()
    prompts = load_suite(asked.prompts).prompts
    for mode, gamma in (("plain", None), ("draft", asked.gamma)):
        bench = IsolatedEngine(
            Pair.open(asked.pair), engine="genai", device="CPU", draft_device=None, mode=mode, settings={}
        )
        watch = pipeline(asked.pair, draft=gamma is not None)
        draw = random.Random(0)
        options = {"gamma": gamma} if gamma else {}
        times: dict[str, list[tuple[float, float]]] = {}
        tokens = 0
        for number in range(asked.rounds + 1):  # the first warms up
            for prompt in prompts:
                ids = bench.encode(prompt.text)
                seconds: dict[str, float] = {}
                counts: dict[str, int] = {}
                for which in draw.sample(["bench", "stopwatch"], 2):
                    if which == "bench":
                        answer = bench.generate(ids, asked.max_new_tokens, **options)
                        seconds[which], counts[which] = answer.wall_s, len(answer.token_ids)
                    else:
                        seconds[which], counts[which] = by_stopwatch(watch, ids, asked.max_new_tokens, gamma)
                if counts["bench"] != counts["stopwatch"]:
                    raise SystemExit(f"'{prompt.id}': the two did not do the same work: {counts}")
                if number:
                    times.setdefault(prompt.id, []).append((seconds["stopwatch"], seconds["bench"]))
                    tokens += counts["bench"]
        both = np.asarray([pair for values in times.values() for pair in values])
        ratios = [float(np.exp(np.median(np.log([a / b for a, b in values])))) for values in times.values()]
        found = speedup(ratios)
        low, high = found.ci95 or (float("nan"), float("nan"))
        rates = tokens / both.sum(axis=0)
        print(
            f"{mode}: stopwatch {rates[0]:.1f} tokens/s, bench {rates[1]:.1f} tokens/s; "
            f"bench / stopwatch {found.geomean:.4f} [{low:.4f}, {high:.4f}]"
        )
        bench.close()


if __name__ == "__main__":
    main()
