"""From rows to figures: pure functions. A prompt is the unit that is drawn, everything else happens inside it.

ratio of a case    = median over repetitions of  plain seconds per token / arm seconds per token,
                     both of the same case and repetition, measured seconds apart
ratio of a prompt  = geometric mean over its cases (turns, lengths of context; mostly one)
speed-up           = geometric mean of the ratios over prompts
95 % interval      = Student's, of the mean log ratio over prompts; beside it, what a round owes to its processes (Luck)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from edgespec.engine.step import Step, acceptance_by_position, acceptance_rate, block_efficiency
from edgespec.paired import Interval as Interval
from edgespec.paired import Luck as Luck
from edgespec.paired import Speedup as Speedup
from edgespec.paired import Verdict as Verdict
from edgespec.paired import interval_of_mean as interval_of_mean
from edgespec.paired import learn_luck as learn_luck
from edgespec.paired import speedup as speedup
from edgespec.spread import interval_of_median as interval_of_median
from edgespec.spread import percentile as percentile

from .rows import Row

Measure = Callable[[Row], "float | None"]

REPEAT_RUN = 4


@dataclass(frozen=True)
class Divergence:
    """The first token (counted from 0) at which an answer leaves plain's; `of` is the length of plain's answer,
    `prompt` the case."""

    prompt: str
    position: int
    of: int


@dataclass(frozen=True)
class Identical:
    """Cases whose answers equal plain's in every repetition, of those that both answered."""

    matched: int
    total: int
    first_divergence: list[Divergence]


@dataclass(frozen=True)
class Drafting:
    """What was proposed and kept. Each figure is None (or empty) where the back end does not tell."""

    acceptance_rate: float | None
    alpha: list[float | None]
    block_efficiency: float | None
    mean_proposed: float | None


def seconds_per_token(row: Row) -> float | None:
    """Wall-clock seconds per emitted token, prefill included: comparable where answers differ in length."""
    return row.wall_s / row.tokens if row.wall_s and row.tokens else None


def tpot_s(row: Row) -> float | None:
    """Seconds per token after the first."""
    if row.wall_s is None or row.ttft_s is None or not row.tokens or row.tokens < 2:
        return None
    return (row.wall_s - row.ttft_s) / (row.tokens - 1)


def prompt_ratios(
    rows: Sequence[Row], arm: str, reference: str, measure: Measure = seconds_per_token
) -> dict[str, float]:
    """reference time / arm time by prompt. A repetition counts when both answered, a case when a repetition does."""
    times: dict[tuple[str, int], float] = {}
    for row in rows:
        if row.arm == reference and (time := measure(row)):
            times[row.case, row.repetition] = time
    logs: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.arm == arm and (time := measure(row)) and (row.case, row.repetition) in times:
            ratio = math.log(times[row.case, row.repetition] / time)
            logs.setdefault(row.prompt, {}).setdefault(row.case, []).append(ratio)
    return {prompt: math.exp(fmean(map(median, cases.values()))) for prompt, cases in logs.items()}


def process_luck(rows: Sequence[Row], arm: str, reference: str) -> Luck | None:
    """What the arm's speed-up owes to the processes of its rounds; None: nothing was paired."""
    by_round: dict[int, dict[str, float]] = {}
    for number in {row.repetition for row in rows if row.arm in (arm, reference)}:
        ratios = prompt_ratios([row for row in rows if row.repetition == number], arm, reference)
        by_round[number] = {prompt: math.log(ratio) for prompt, ratio in ratios.items()}
    return learn_luck(by_round)


def first_divergence(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """Index of the first token that differs, the shorter one's length when it is a prefix; None when equal."""
    for index, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a != b:
            return index
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


def sameness(rows: Sequence[Row], arm: str, reference: str) -> Identical | None:
    """Token for token, `arm` against `reference` in the same repetition; the reference against its own first
    repetition, which is the control: what differs there is the machine's numerics. None: nothing to compare."""
    of_reference = {(row.case, row.repetition): row.token_ids for row in rows if row.arm == reference and row.tokens}
    firsts: dict[str, int] = {}
    for case, repetition in of_reference:
        firsts[case] = min(repetition, firsts.get(case, repetition))
    places: dict[str, list[Divergence]] = {}
    for row in rows:
        base = firsts.get(row.case) if arm == reference else row.repetition
        if row.arm != arm or not row.tokens or base is None or (row.case, base) not in of_reference:
            continue
        if arm == reference and base == row.repetition:
            continue
        theirs = of_reference[row.case, base]
        place = first_divergence(row.token_ids, theirs)
        found = places.setdefault(row.case, [])
        if place is not None:
            found.append(Divergence(row.case, place, len(theirs)))
    if not places:
        return None
    differing = [min(found, key=lambda item: item.position) for found in places.values() if found]
    return Identical(len(places) - len(differing), len(places), differing)


def drafting(rows: Sequence[Row]) -> Drafting:
    """Acceptance pooled over the rows' target passes; each row's prefill is left out."""
    later = [step for row in rows for step in row.steps[1:]]
    pooled = [Step(()), *later]
    proposed = [step.proposed for step in later if step.proposed is not None]
    return Drafting(
        acceptance_rate=acceptance_rate(pooled),
        alpha=acceptance_by_position(pooled) if any(proposed) else [],
        block_efficiency=block_efficiency(pooled),
        mean_proposed=sum(proposed) / len(proposed) if proposed and len(proposed) * 2 > len(later) else None,
    )


def repetition(token_ids: Sequence[int]) -> float | None:
    """Share of an answer's runs of REPEAT_RUN tokens that stood earlier in the same answer: 0 for text that never says
    a thing twice, near 1 for a loop. None for an answer too short to tell. Text that repeats itself is easy to guess,
    so a speed-up on it promises less for other text."""
    runs = [tuple(token_ids[i : i + REPEAT_RUN]) for i in range(len(token_ids) - REPEAT_RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) >= REPEAT_RUN else None


def pass_costs(slices: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """v(n): time of a target pass over n tokens / over one token, the median over `slices` of a run, each measured
    within a minute; empty when one token was not measured."""
    return _relative(slices, slices)


def draft_costs(drafting: Sequence[Mapping[int, float]], target: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """By n, time of n draft passes in a row / of a target pass over one token, the median over slices."""
    return _relative(drafting, target)


def _relative(over: Sequence[Mapping[int, float]], target: Sequence[Mapping[int, float]]) -> dict[int, float]:
    both = [(above, below[1]) for above, below in zip(over, target, strict=True) if below.get(1)]
    lengths = sorted({n for above, _ in both for n in above})
    return {n: median(above[n] / single for above, single in both if n in above) for n in lengths}


def draft_cost(costs: Mapping[int, float], gamma: float | None) -> float | None:
    """c: mean time of a draft pass in a proposal of gamma / of a target pass over one token; without gamma, that of the
    shortest proposal measured. Beyond the longest, its mean."""
    if not costs:
        return None
    if gamma is None or gamma <= min(costs):
        return costs[min(costs)] / min(costs)
    if gamma >= max(costs):
        return costs[max(costs)] / max(costs)
    whole = cost_at(costs, gamma)
    return None if whole is None else whole / gamma


def cost_at(costs: Mapping[int, float], n: float) -> float | None:
    """v at n, straight between the measured neighbours; None outside of what was measured."""
    below = max((m for m in costs if m <= n), default=None)
    above = min((m for m in costs if m >= n), default=None)
    if below is None or above is None:
        return None
    if below == above:
        return costs[below]
    return costs[below] + (costs[above] - costs[below]) * (n - below) / (above - below)


def predicted_speedup(
    tau: float | None, gamma: float | None, costs: Mapping[int, float], c: float | None
) -> float | None:
    """tau / (v(gamma+1) + c*gamma); None when a term is not known."""
    v = None if gamma is None else cost_at(costs, gamma + 1)
    if tau is None or gamma is None or v is None or c is None:
        return None
    return tau / (v + c * gamma)


def mbsu(tau: float | None, gamma: float | None, c_params: float | None) -> float | None:
    """Memory-bound speed-up, tau / (c_params*gamma + 1): what the papers report, a pass costing its weights alone."""
    if c_params == 0:
        return tau
    if tau is None or gamma is None or c_params is None:
        return None
    return tau / (c_params * gamma + 1)
