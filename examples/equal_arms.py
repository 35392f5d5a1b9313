"""Does the bench see differences where there are none? Plain decoding against itself, run after run.

    python examples/equal_arms.py PAIR --out FOLDER [--runs 40] [--prompts quick] [--max-new-tokens 24]

Every run starts two engines in processes of their own, both plain decoding with the same settings, and gives its
verdict on the second. A right method says faster or slower in at most 5 % of such runs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scipy import stats

from edgespec.bench import run_bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--prompts", default="quick")
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--repetitions", type=int, default=2)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    verdicts: list[str] = []
    for seed in range(asked.runs):
        report = run_bench(
            asked.pair,
            asked.out / f"run-{seed:02}",
            arms=["plain", "control"],
            settings="default",
            prompts=asked.prompts,
            max_new_tokens=asked.max_new_tokens,
            repetitions=asked.repetitions,
            sameness=False,
            seed=seed,
        )
        found = next(arm for arm in report["arms"] if arm["name"] == "plain-again")["speedup"]
        verdicts.append(found["verdict"])
        low, high = found["ci95"]
        load = report["conditions"]["other_load"] or {"median": float("nan")}
        print(
            f"run {seed:2}: {found['geomean']:.3f} [{low:.3f}, {high:.3f}] {found['verdict']}; "
            f"other programs {load['median']:.0%}"
        )
    wrong = sum(verdict != "cannot tell" for verdict in verdicts)
    sure = stats.binomtest(wrong, len(verdicts)).proportion_ci(0.95, method="exact")
    print(
        json.dumps(
            {"runs": len(verdicts), "wrong": wrong, "share": wrong / len(verdicts), "ci95": [sure.low, sure.high]}
        )
    )


if __name__ == "__main__":
    main()
