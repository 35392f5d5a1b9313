"""What the target's exact distribution makes of sampled answers: the cells, their probabilities, and chance."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgespec.engine.processors import Processor
from edgespec.errors import EdgespecError
from edgespec.progress import Progress
from edgespec.sampling import Sampling

from ..target import Target
from .cells import Cells, NextToken, cut
from .variation import Null, distance, draw_null
from .world import World

MAX_TOKENS = 4
MIN_SAMPLES = 200
MIN_EXPECTED = 5
"""Samples that a cell is to expect at least; rarer answers share one (cells.py)."""
CONTEXTS = 3
TAIL = 22
"""Tokens of a prompt's end that a sampled answer continues; see `context_of`. With the half that follows they are 33:
one more than a block of openvino-genai's cache, so that it computes one token a request."""


@dataclass(frozen=True)
class Draws:
    """What is sampled: `samples` answers of `tokens` tokens for each of `contexts` prompts. sampling: its own seed is
    not used."""

    sampling: Sampling
    samples: int = 1500
    tokens: int = 2
    contexts: int = CONTEXTS

    def __post_init__(self) -> None:
        if self.sampling.greedy:
            raise EdgespecError("at temperature 0 there is one answer and nothing to sample; give --temperature 0.7")
        if not 1 <= self.tokens <= MAX_TOKENS:
            raise EdgespecError(
                f"--tokens is {self.tokens}; give 1 to {MAX_TOKENS}: longer answers are nearly all unique"
            )
        if self.samples < MIN_SAMPLES:
            raise EdgespecError(f"--samples is {self.samples}; give {MIN_SAMPLES} or more: fewer show nothing")
        if self.contexts < 1:
            raise EdgespecError(f"contexts is {self.contexts}; give at least 1")


@dataclass(frozen=True)
class Expected:
    """The exact distribution behind one prompt's context, and TV of samples from it. wrong: the draft's distribution
    over the same cells, None without a draft. rounding: TV between the exact distribution and the one that the device
    computes under the run's settings, None where these are exact."""

    prompt: str
    context: list[int]
    cells: Cells
    null: Null
    wrong: np.ndarray | None
    rounding: float | None = None


def context_of(ids: Sequence[int]) -> list[int]:
    """What a sampled answer continues: the prompt's end, and the first half of that end once more, so that a drafter
    that copies finds something to propose; short, since every sample reads it anew."""
    tail = list(ids[-TAIL:])
    return tail + tail[: (len(tail) + 1) // 2]


def expect(
    world: World, draws: Draws, prompts: Mapping[str, Sequence[int]], seed: int, progress: Progress
) -> list[Expected]:
    """The exact distribution of every prompt's first answers. prompts: ids by the prompt's id."""
    found = []
    target = world.open_target()
    draft = world.open_draft() if world.open_draft else None
    try:
        with progress.task("the target's exact distribution", total=len(prompts) * draws.tokens) as task:
            for index, (prompt, ids) in enumerate(prompts.items()):
                context = context_of(ids)
                cells = cut(
                    target,
                    context,
                    _next_token(target, draws, context),
                    tokens=draws.tokens,
                    floor=MIN_EXPECTED / draws.samples,
                    stop_ids=world.stop_ids,
                    advance=task.advance,
                )
                null = draw_null(cells.probabilities, draws.samples, generator(seed, "null", index))
                wrong = cells.under(draft, context, _next_token(draft, draws, context)) if draft else None
                found.append(Expected(prompt, context, cells, null, wrong))
    finally:
        target.close()
        if draft:
            draft.close()
    return found


def with_rounding(world: World, draws: Draws, expected: Sequence[Expected], progress: Progress) -> list[Expected]:
    """`expected` with `rounding` filled in."""
    rounded, found = world.open_rounded(), []
    try:
        with progress.task("what rounding makes of the distribution", total=len(expected)) as task:
            for item in expected:
                p = item.cells.under(rounded, item.context, _next_token(rounded, draws, item.context))
                found.append(replace(item, rounding=distance(item.cells.probabilities, p)))
                task.advance()
    finally:
        rounded.close()
    return found


def generator(seed: int, purpose: str, index: int) -> np.random.Generator:
    """Independent random numbers for every arm and prompt, the same in every run with this seed."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])


def _next_token(model: Target, draws: Draws, context: Sequence[int]) -> NextToken:
    return Processor(draws.sampling, model.vocab_size, prompt_length=len(context)).distribution
