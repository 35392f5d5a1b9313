"""In which order rows are measured.

Within a block every arm answers the same prompt, seconds apart, in random order: a machine that grows warm or busy
slows all arms alike, and the ratio inside the block does not see it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .plan import Arm
from .prompts import Prompt


@dataclass(frozen=True)
class Block:
    """One prompt in one repetition, answered by every arm in this order."""

    phase: str
    repetition: int
    prompt: Prompt
    arms: tuple[Arm, ...]


def blocks(phase: str, arms: Sequence[Arm], prompts: Sequence[Prompt], repetitions: int, seed: int) -> list[Block]:
    """Repetition by repetition, prompts in a fresh random order, arms in a fresh random order for each of them.

    The same arguments give the same schedule on every machine and Python version, which resuming relies on.
    """
    schedule = []
    for repetition in range(repetitions):
        draw = random.Random(f"{seed}/{phase}/{repetition}")  # a text seed is hashed with SHA-512: stable
        for prompt in draw.sample(list(prompts), len(prompts)):
            order = draw.sample(list(arms), len(arms))
            schedule.append(Block(phase, repetition, prompt, tuple(order)))
    return schedule
