"""Beside the timed rows: are answers the same where nothing is rounded, and how much does rounding alone change?

exact     every engine once more under settings that round nothing beyond the weights: its words must be plain's
together  plain decoding of all prompts in one batch: the same words from other roundings, the control for arms that
          differ from plain under the timed settings
gap       at each first difference, how far the target's exact logit of plain's token is above that of the arm's: next
          to nothing where rounding decided a tie, and larger where something is wrong
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgespec.pair import Pair
from edgespec.settings import EXACT

from .plan import REFERENCE, Arm
from .rows import Row
from .speakers import BatchSpeaker
from .statistics import first_divergence
from .target import ModelTarget

EXACT_CASES = 8
EXACT_TOKENS = 64
MOST_GAPS = 20
"""Differences that are looked into; each costs a pass over prompt and answer."""


def exact_arms(arms: Sequence[Arm]) -> list[Arm]:
    """One arm of every engine, plain first, under exact settings. Of several gammas the middle one."""
    engines: dict[tuple[str, ...], list[Arm]] = {}
    for arm in arms:
        if arm.name == REFERENCE or not (arm.plain and arm.engine == "genai"):
            engines.setdefault(arm.engine_key, []).append(arm)
    chosen = [group[len(group) // 2] for group in engines.values()]
    return [replace(arm, settings_name="exact", settings=EXACT) for arm in chosen]


def together(
    pair: Pair, device: str, settings: Mapping[str, Any], prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[list[int]]:
    """Plain's greedy answers to all prompts, decoded in one batch."""
    speaker = BatchSpeaker(pair, "plain", device, None, settings, prefix_cache=False)
    try:
        return speaker.together(prompts, max_new_tokens)
    finally:
        speaker.close()


def logit_gaps(pair: Pair, device: str, places: Sequence[tuple[Sequence[int], Sequence[int], int, int]]) -> list[float]:
    """The gap of exact logits for each (prompt, answer before the difference, plain's token, the arm's token)."""
    target = ModelTarget(pair.target, device)
    found = []
    for prompt, before, plain, other in places:
        logits = target.along(prompt, [*before, plain])[-1]
        found.append(float(logits[plain]) - float(logits[other]))
    target.close()
    return found


def first_differences(rows: Sequence[Row]) -> list[tuple[Row, Row, int]]:
    """(an arm's row, plain's row of the same case and repetition, where they part), the first of each arm and case,
    where both go on there."""
    plain = {(row.case, row.repetition): row for row in rows if row.arm == REFERENCE and row.tokens}
    found: dict[tuple[str, str], tuple[Row, Row, int]] = {}
    for row in rows:
        reference = plain.get((row.case, row.repetition))
        if row.arm == REFERENCE or not row.tokens or reference is None or (row.arm, row.case) in found:
            continue
        place = first_divergence(row.token_ids, reference.token_ids)
        if place is not None and place < min(len(row.token_ids), len(reference.token_ids)):
            found[row.arm, row.case] = (row, reference, place)
    return list(found.values())[:MOST_GAPS]
