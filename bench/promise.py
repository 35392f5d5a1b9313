"""Does `auto` keep its promise: never slower than plain decoding, and near the best that a sweep finds? By category.

key: rival, the fastest of the plain arms (the profile's settings, the untouched default, the run's own), or of all.

The fastest of several is partly the luckiest: chosen and measured on the same rows it would look faster than it is. So
the rival of a round is the arm that was fastest in the other rounds; a run of one round has no others, and is hard on
`auto` by that much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from . import statistics as st
from .plan import AUTO, CONTROL, Arm
from .rows import Row

ALL = "all"
OVER_PLAIN = 1.0
OF_BEST = 0.95
PROMISE_TITLE = "Is auto at least as fast as plain, and near the best arm?"
PROMISE_COLUMNS = (
    "prompts",
    f"over the fastest plain [95 %], promised {OVER_PLAIN:.2f}",
    "kept?",
    "which",
    f"over the fastest arm [95 %], promised {OF_BEST:.2f}",
    "kept?",
    "which",
)


@dataclass(frozen=True)
class Held:
    """`auto` over its rival in one category. bound: what is promised. kept: True when the ratio is at least that, False
    when its whole 95 % interval is below, None in between. rivals: every arm that was one, a name a round at most."""

    category: str
    rivals: tuple[str, ...]
    bound: float
    found: st.Speedup

    @property
    def kept(self) -> bool | None:
        if self.found.geomean is None:
            return None
        if self.found.geomean >= self.bound:
            return True
        return False if self.found.ci95 is not None and self.found.ci95[1] < self.bound else None


def promise(rows: Sequence[Row], arms: Sequence[Arm]) -> list[Held]:
    """Over plain and of the best arm, over all prompts and by category; empty where `auto` answered nothing."""
    answered = {row.arm for row in rows if row.error is None}
    if AUTO not in answered:
        return []
    plains = [arm.name for arm in arms if arm.plain and arm.name != CONTROL and arm.name in answered]
    others = [arm.name for arm in arms if arm.name not in (AUTO, CONTROL) and arm.name in answered]
    categories = sorted({row.category for row in rows})
    held = []
    for bound, rivals in ((OVER_PLAIN, plains), (OF_BEST, others)):
        if not rivals:
            continue
        luck = st.learn_luck(_by_round(rows, rivals)[0])  # the same processes answered every category
        for category in [ALL, *(categories if len(categories) > 1 else [])]:
            chosen = [row for row in rows if category in (ALL, row.category)]
            by_round, names = _by_round(chosen, rivals)
            prompts = sorted({prompt for logs in by_round.values() for prompt in logs})
            ratios = [math.exp(fmean(logs[p] for logs in by_round.values() if p in logs)) for p in prompts]
            held.append(Held(category, names, bound, st.speedup(ratios, luck=luck)))
    return held


def _by_round(rows: Sequence[Row], rivals: Sequence[str]) -> tuple[dict[int, dict[str, float]], tuple[str, ...]]:
    """By round and prompt the log ratio of `auto` over its rival there; and the rivals."""
    rounds = sorted({row.repetition for row in rows})
    by_round: dict[int, dict[str, float]] = {}
    names: list[str] = []
    for number in rounds:
        elsewhere = [row for row in rows if row.repetition != number] if len(rounds) > 1 else rows
        ahead = {name: _mean_log(elsewhere, name) for name in rivals}
        name = min(ahead, key=ahead.__getitem__)
        ratios = st.prompt_ratios([row for row in rows if row.repetition == number], AUTO, name)
        by_round[number] = {prompt: math.log(ratio) for prompt, ratio in ratios.items()}
        names.append(name)
    return by_round, tuple(dict.fromkeys(names))


def _mean_log(rows: Sequence[Row], rival: str) -> float:
    """How far `auto` is ahead of `rival`, in logs; infinitely where they share no prompt."""
    ratios = st.prompt_ratios(rows, AUTO, rival)
    return fmean(map(math.log, ratios.values())) if ratios else math.inf


def promise_cells(lines: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A report's `promise` in words, a row a category, as PROMISE_COLUMNS heads them."""
    verdicts = {True: "kept", False: "broken", None: "cannot tell"}
    by_category: dict[str, list[str]] = {line["category"]: [line["category"]] for line in lines}
    for line in sorted(lines, key=lambda line: -line["bound"]):
        interval = " [{:.2f}, {:.2f}]".format(*line["ci95"]) if line["ci95"] else ""
        ratio = "-" if line["geomean"] is None else f"{line['geomean']:.2f}{interval}"
        by_category[line["category"]] += [ratio, verdicts[line["kept"]], ", ".join(line["rivals"])]
    return list(by_category.values())
