"""What forward passes cost, timed as a speculative iteration makes them: gamma passes of the draft, then one of the
target over gamma+1 tokens, both behind a context.

From these follow v(n) = t(n) / t(1) of the target and c, the draft's mean pass / target t(1), the two machine terms of
the predicted speed-up tau / (v(gamma+1) + c*gamma). In this order, because it matters: the first draft pass of an
iteration finds the processor's caches full of the target's weights, and took 2.2 times as long as the next on a 99 M
target with a 4.5 M draft. And on the model as the engines run it, with paged attention where the device has it: the
stateful one takes longer over several tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

import numpy as np

from ..errors import EdgespecError
from ..pair import Pair, Role
from .model import ModelSequence, open_model

Name = TypeVar("Name")
LENGTHS = (1, 2, 3, 4, 6, 8)
PASSES = 3
FEWEST = 3
REPETITIONS = 20
"""Of models against one another."""


def measure_passes(
    pair: Pair,
    *,
    device: str,
    draft_device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    lengths: Sequence[int] = LENGTHS,
    drafting: bool = False,
    context: int = 256,
    repetitions: int = 10,
    budget_s: float = 45.0,
    seed: int = 0,
) -> dict[Role, dict[int, float]]:
    """Median seconds behind `context` cached tokens: "target", by n of `lengths`, of a pass over n tokens, for n = 1
    behind another of its kind; with `drafting` also "draft", by n, of n passes of the draft over a token each.

    Lengths are interleaved inside each repetition, so a slow moment of the machine falls on all of them. Past
    `budget_s` no repetition is begun, once there are FEWEST. Raises EdgespecError when a model cannot be driven.
    """
    if drafting and pair.draft is None:
        raise EdgespecError(f"the pair '{pair.root}' has no draft to measure")
    vocabulary = pair.manifest.target.vocab_size
    if drafting and pair.manifest.draft is not None:  # padded differently, perhaps
        vocabulary = min(vocabulary, pair.manifest.draft.vocab_size)
    target = open_model(pair.target, device, settings).sequence()
    draft = open_model(pair.draft, draft_device or device, settings).sequence() if drafting and pair.draft else None
    return time_iterations(
        target,
        draft,
        vocabulary=vocabulary,
        lengths=lengths,
        context=context,
        repetitions=repetitions,
        budget_s=budget_s,
        seed=seed,
    )


def time_iterations(
    target: ModelSequence,
    draft: ModelSequence | None,
    *,
    vocabulary: int,
    lengths: Sequence[int],
    context: int = 256,
    repetitions: int = 10,
    budget_s: float = 45.0,
    seed: int = 0,
    warm_up: bool = True,
) -> dict[Role, dict[int, float]]:
    """What `measure_passes` does, on models that are open already. warm_up: a repetition before those that count; for
    models that have just made such passes it is not needed."""
    draw = np.random.default_rng(seed)
    times: dict[Role, dict[int, list[float]]] = {"target": {n: [] for n in sorted({1, *lengths})}}
    if draft is not None:
        times["draft"] = {n - 1: [] for n in times["target"] if n > 1}

    begun = time.perf_counter()
    for repetition in range(0 if warm_up else 1, repetitions + 1):
        if repetition > FEWEST and time.perf_counter() - begun > budget_s:
            break
        for sequence in (target, draft) if draft else (target,):
            sequence.reset()
            sequence.feed(draw.integers(0, vocabulary, context))
        for n in draw.permutation(list(times["target"])).tolist():
            for attempt in range(PASSES + (n == 1)):
                drafted_s = _timed(draft, draw, vocabulary, 1, n - 1) if draft is not None and n > 1 else None
                target_s = _timed(target, draw, vocabulary, n)
                if not repetition or (n == 1 and not attempt):  # the first over one token stands behind a longer pass
                    continue
                times["target"][n].append(target_s)
                if drafted_s is not None:
                    times["draft"][n - 1].append(drafted_s)
    return {role: {n: median(values) for n, values in by.items()} for role, by in times.items()}


def measure_models(
    opened: Mapping[Name, tuple[ModelSequence, Sequence[int]]],
    *,
    vocabulary: int,
    context: int = 256,
    repetitions: int = REPETITIONS,
    budget_s: float = 90.0,
    seed: int = 0,
    told: Callable[[], object] = lambda: None,
) -> dict[Name, dict[int, float]]:
    """For models against one another: median seconds of a pass by name and length, each model behind its own passes.

    opened: a sequence each, with the lengths to time; all are interleaved, and bounded, as in `measure_passes`. told:
    is called after each repetition, of which there are one more than `repetitions` at most.
    """
    draw = np.random.default_rng(seed)
    times: dict[tuple[Name, int], list[float]] = {(name, n): [] for name, (_, asked) in opened.items() for n in asked}
    cells = list(times)
    begun = time.perf_counter()
    for repetition in range(repetitions + 1):  # the first is a warm-up
        if repetition > FEWEST and time.perf_counter() - begun > budget_s:
            break
        for sequence, _ in opened.values():
            sequence.reset()
            sequence.feed(draw.integers(0, vocabulary, context))
        for index in draw.permutation(len(cells)).tolist():
            name, n = cells[index]
            for _ in range(PASSES):
                taken = _timed(opened[name][0], draw, vocabulary, n)
                if repetition:
                    times[name, n].append(taken)
        told()
    return {name: {n: median(times[name, n]) for n in sorted(set(asked))} for name, (_, asked) in opened.items()}


def _timed(sequence: ModelSequence, draw: np.random.Generator, vocabulary: int, n: int, passes: int = 1) -> float:
    """Seconds of so many passes over n tokens each, with logits behind every token as verifying needs them."""
    ids = draw.integers(0, vocabulary, n * passes).tolist()
    started = time.perf_counter()
    for start in range(0, n * passes, n):
        sequence.grow(ids[start : start + n])
        sequence.keep(range(n))
    return time.perf_counter() - started
