"""In which order rows are measured.

Within a block every arm answers the same case, seconds apart, in random order: a machine that grows warm or busy
slows all arms alike, and the ratio inside the block does not see it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .cases import Case
from .plan import Arm


@dataclass(frozen=True)
class Block:
    """One case in one repetition, answered by every arm in this order."""

    phase: str
    repetition: int
    case: Case
    arms: tuple[Arm, ...]


def blocks(phase: str, arms: Sequence[Arm], cases: Sequence[Case], repetition: int, seed: int) -> list[Block]:
    """One repetition: cases in a fresh random order, arms in a fresh random order for each of them.

    The same arguments give the same schedule on every machine and Python
    version, which resuming relies on.
    """
    draw = random.Random(f"{seed}/{phase}/{repetition}")  # a text seed is hashed with SHA-512: stable
    schedule = []
    for case in draw.sample(list(cases), len(cases)):
        order = draw.sample(list(arms), len(arms))
        schedule.append(Block(phase, repetition, case, tuple(order)))
    return schedule
