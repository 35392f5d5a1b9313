"""Does a long chat with many refused proposals stay as fast and as small as a clean one?

    python examples/long_context.py PAIR [--context 8192] [--rollbacks 500] [--settings f32] [--way paged|masked]

Two sequences of the target hold the same text. Both take the same passes over gamma+1 tokens, of which one is kept and
gamma are taken back; the second is brought to a clean cache again after every pass, outside its clock. Reported: the
ratio of their pass times (medians, and means with everything the first did to tidy up), the cache's places in use, and
the memory of the process.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from edgespec.engine.masked import MaskedSequence
from edgespec.engine.model import ModelSequence, open_model
from edgespec.pair import Pair
from edgespec.settings import PLAIN_CANDIDATES


def timed_pass(sequence: ModelSequence, ids: list[int]) -> float:
    """Seconds of a pass over `ids` of which the first is kept."""
    started = time.perf_counter()
    sequence.grow(ids)
    sequence.keep((0,))
    return time.perf_counter() - started


def clean(sequence: ModelSequence) -> None:
    """Nothing of what was taken back stays in the cache. A paged one is always so."""
    if isinstance(sequence, MaskedSequence):
        sequence.compact()


def measure(pair: Pair, way: str, asked: argparse.Namespace) -> dict[str, Any]:
    model = open_model(
        pair.target, "CPU", PLAIN_CANDIDATES[asked.settings], trees="none" if way == "paged" else "grown"
    )
    if model.way != way:
        raise SystemExit(f"this model is driven the {model.way} way here, not the {way} one")
    draw = np.random.default_rng(0)
    vocabulary = pair.manifest.target.vocab_size
    prompt = draw.integers(0, vocabulary, asked.context).tolist()
    used, spotless = model.sequence(), model.sequence()
    for sequence in (used, spotless):
        sequence.feed(prompt)
    process = psutil.Process()
    before = process.memory_info().rss
    most_rss, most_slots = before, used.slots
    times: dict[str, list[float]] = {"used": [], "spotless": []}
    for number in range(asked.rollbacks):
        ids = draw.integers(0, vocabulary, asked.gamma + 1).tolist()
        for name in draw.permutation(["used", "spotless"]).tolist():
            sequence = used if name == "used" else spotless
            times[name].append(timed_pass(sequence, ids))
            if sequence is spotless:
                clean(sequence)
        most_slots = max(most_slots, used.slots)
        if number % 20 == 0:
            most_rss = max(most_rss, process.memory_info().rss)
    ids = draw.integers(0, vocabulary, asked.gamma + 1).tolist()
    apart = float(np.abs(used.grow(ids) - spotless.grow(ids)).max())
    medians = {name: float(np.median(values)) for name, values in times.items()}
    last = {name: float(np.median(values[-50:])) for name, values in times.items()}
    return {
        "way": way,
        "context": asked.context,
        "rollbacks": asked.rollbacks,
        "taken_back": asked.rollbacks * asked.gamma,
        "pass_ms": medians["spotless"] * 1e3,
        "ratio_of_medians": medians["used"] / medians["spotless"],
        "ratio_of_last_50": last["used"] / last["spotless"],
        "ratio_of_means": float(np.mean(times["used"]) / np.mean(times["spotless"])),
        "live_tokens": len(used.tokens),
        "most_slots": most_slots,
        "compactions": getattr(used, "compactions", 0),
        "rss_mb": {"after_prompt": before / 1e6, "most": max(most_rss, process.memory_info().rss) / 1e6},
        "logits_apart": apart,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", type=Path)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--rollbacks", type=int, default=500)
    parser.add_argument("--gamma", type=int, default=3)
    parser.add_argument("--settings", default="f32", choices=sorted(PLAIN_CANDIDATES))
    parser.add_argument("--way", choices=["paged", "masked"])
    asked = parser.parse_args()
    pair = Pair.open(asked.pair)
    ways = [asked.way] if asked.way else ["paged", "masked"]
    print(json.dumps([measure(pair, way, asked) for way in ways]))


if __name__ == "__main__":
    main()
