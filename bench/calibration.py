"""Which plugin settings plain decoding is fastest under, among those that do not change what it says.

A speed-up over a slow baseline is easy, so plain decoding gets its best settings before anything is compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import mean, median
from typing import Any

from .plan import Arm
from .prompts import Prompt, spread
from .rows import Row
from .statistics import first_divergence, seconds_per_token

REFERENCE_SETTINGS = "f32"
MIN_AGREEMENT = 0.98
"""Share of greedy tokens that must agree with the reference, each answer read up to its first difference. bf16 on a
22 M model left f32's path in 2 of 20 answers of 128 tokens, about one token in 1,200: far inside the bound."""
MARGIN = 1.03
"""Settings must beat the default by this factor; below it, the untouched default is the simpler truth."""
TRIAL_PROMPTS = 4
TRIAL_REPETITIONS = 2
TRIAL_TOKENS = 48


@dataclass(frozen=True)
class Candidate:
    """How one candidate did. ms_per_token: geometric mean over the trial's prompts; agreement: with the reference over
    `compared_tokens`; kept: agreement within the bound; error: why it gave no answer."""

    name: str
    settings: Mapping[str, Any]
    ms_per_token: float | None
    agreement: float | None
    compared_tokens: int
    kept: bool
    error: str | None


@dataclass(frozen=True)
class Choice:
    """The settings all arms get, why, and what each candidate measured (nothing when no trial was needed)."""

    name: str
    reason: str
    candidates: list[Candidate]


def trial_prompts(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    return spread(prompts, TRIAL_PROMPTS)


def choose_settings(rows: Sequence[Row], arms: Sequence[Arm]) -> Choice:
    """The fastest of the trial's `arms` whose greedy output agrees with the reference.

    The reference is f32 where it ran, else the default. When nothing but the default ran, that is the choice.
    """
    answered = {arm.settings_name: _answers(rows, arm) for arm in arms}
    reference = REFERENCE_SETTINGS if answered.get(REFERENCE_SETTINGS) else "default"
    candidates = [_judge(arm, answered[arm.settings_name], answered.get(reference, {}), rows) for arm in arms]
    kept = {item.name: item.ms_per_token for item in candidates if item.kept and item.ms_per_token is not None}
    if not kept:
        return Choice("default", "no candidate gave an answer that could be compared", candidates)
    fastest = min(kept, key=lambda name: kept[name])
    if fastest == "default":
        return Choice("default", "the untouched default is the fastest of those tried", candidates)
    if "default" in kept and kept["default"] < kept[fastest] * MARGIN:
        return Choice("default", f"'{fastest}' is less than {MARGIN - 1:.0%} faster than the default", candidates)
    if "default" in kept:
        gain = kept["default"] / kept[fastest]
        return Choice(fastest, f"{gain:.2f}x as fast as the default in a trial with plain decoding", candidates)
    return Choice(fastest, f"the default's output agrees too little with '{reference}'", candidates)


def _answers(rows: Sequence[Row], arm: Arm) -> dict[str, list[Row]]:
    answers: dict[str, list[Row]] = {}
    for row in rows:
        if row.arm == arm.name and seconds_per_token(row) is not None:
            answers.setdefault(row.prompt, []).append(row)
    return answers


def _judge(
    arm: Arm, answers: Mapping[str, list[Row]], reference: Mapping[str, list[Row]], rows: Sequence[Row]
) -> Candidate:
    errors = [row.error for row in rows if row.arm == arm.name and row.error]
    times = [
        median(time for row in group if (time := seconds_per_token(row)) is not None) for group in answers.values()
    ]
    compared = differing = 0
    for prompt in answers.keys() & reference.keys():
        ours, theirs = answers[prompt][0].token_ids, reference[prompt][0].token_ids
        place = first_divergence(ours, theirs)
        compared += len(theirs) if place is None else place + 1
        differing += place is not None
    agreement = 1 - differing / compared if compared else None
    return Candidate(
        name=arm.settings_name,
        settings=dict(arm.settings),
        ms_per_token=exp(mean(map(log, times))) * 1e3 if times and not errors else None,
        agreement=agreement,
        compared_tokens=compared,
        kept=not errors and agreement is not None and agreement >= MIN_AGREEMENT,
        error=errors[0] if errors else None,
    )
