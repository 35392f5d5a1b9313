"""What a recipe will take, said before anything starts: tokens, FLOPs, time on this machine, disk and memory.

Times come from rates measured here and now: a few steps of the draft itself for training, matrix products for answering
(precision.matmul_rate) times a share. They are good to a factor of two, not to a minute.

Sources: 6 N FLOPs a token for training and 2 N for a forward pass, N the weights in matrix products (Kaplan et al.
2020, arXiv:2001.08361); the embedding's table is looked up, not multiplied, but a tied head is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .recipe import AlignSection, Recipe, Steps

ANSWERING_SHARE = 0.10
"""Of the matmul rate, in writing answers: each pass has a token or so from each of a few dozen texts. A guess to the
slow side; an engine with a quantized target is faster."""
ADAMW_BYTES = 16
"""A weight in training: f32 value, gradient, and two moments."""
CHECKPOINT_BYTES = 12
"""A weight in a checkpoint: f32 value and two moments."""
TOP_K_BYTES = 8


@dataclass(frozen=True)
class Forecast:
    """Of one stage; None where it cannot be told, 0 where there is nothing. seconds: on this machine."""

    stage: str
    made: bool
    tokens: int | None = None
    flops: float | None = None
    seconds: float | None = None
    disk_bytes: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Sizes:
    """weights: all of them; multiplied: those in matrix products."""

    weights: int
    multiplied: int


@dataclass(frozen=True)
class Known:
    """What a forecast starts from. target, draft: their sizes, None when not known yet. training_flops: a second, in
    training the draft on this machine; matmul_flops: in matrix products. vocabulary: tokens."""

    target: Sizes | None
    draft: Sizes | None
    vocabulary: int
    training_flops: float
    matmul_flops: float


def sizes(model: Any) -> Sizes:
    """Of a transformers model, on the meta device or not."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    table = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    tied = head is not None and head.weight is table
    return Sizes(weights, weights if tied else weights - table.numel())


def forecast(recipe: Recipe, made: Sequence[tuple[str, bool]], known: Known) -> list[Forecast]:
    """One line a stage. made: the stages in order, and whether each stands already."""
    return [_stage(recipe, name, done, known) for name, done in made]


def _stage(recipe: Recipe, name: str, made: bool, known: Known) -> Forecast:
    sections: dict[str, Steps | None] = {
        "pretrain": recipe.pretrain,
        "continue": recipe.continue_,
        "draft": recipe.align,
    }
    section = sections.get(name)
    if section is not None:
        return _training(name, made, section, known)
    if name == "answers" and recipe.generate is not None:
        asked = recipe.generate
        answers = asked.count * (len(asked.temperatures) if asked.each else 1)
        tokens = answers * asked.max_new_tokens  # at most: an answer may end before
        read = answers * asked.longest
        size = known.target
        flops = None if size is None else 2.0 * size.multiplied * (tokens + read)
        if flops is not None and asked.top_k_logits and size is not None:
            flops += 2.0 * size.multiplied * (tokens + read)
        disk = tokens * (8 + TOP_K_BYTES * (asked.top_k_logits or 0))
        memory = None if size is None else 4 * size.weights
        seconds = None if flops is None else flops / (known.matmul_flops * ANSWERING_SHARE)
        return Forecast(name, made, tokens, flops, seconds, disk, memory)
    if name.startswith("target-"):
        phase = recipe.target.phases[int(name.removeprefix("target-")) - 1]
        return Forecast(name, made, seconds=None if phase.minutes is None else 60 * phase.minutes)
    if name == "exported-target" and known.target is not None:
        return Forecast(name, made, 0, 0.0, disk_bytes=2 * known.target.weights, memory_bytes=2 * known.target.weights)
    if name in ("init", "shipped-draft") and known.draft is not None:
        each = 4 if name == "init" else 2
        return Forecast(name, made, 0, 0.0, disk_bytes=each * known.draft.weights)
    return Forecast(name, made)


def _training(name: str, made: bool, section: Steps, known: Known) -> Forecast:
    tokens = section.steps() * section.batch * section.length
    if known.draft is None:
        return Forecast(name, made, tokens)
    flops = 6.0 * known.draft.multiplied * tokens
    memory = ADAMW_BYTES * known.draft.weights
    rows = section.micro_batch or section.batch
    memory += rows * section.length * known.draft.multiplied // 200  # activations, roughly
    if isinstance(section, AlignSection) and known.target is not None:
        memory += 4 * known.target.weights  # it judges the draft in service
        if section.online:
            flops += 2.0 * known.target.multiplied * tokens
            memory += 4 * rows * section.length * known.vocabulary
    disk = 4 * known.draft.weights + 3 * CHECKPOINT_BYTES * known.draft.weights  # two kept, one being written
    return Forecast(name, made, tokens, flops, flops / known.training_flops, disk, memory)


def total(lines: Sequence[Forecast]) -> dict[str, float | None]:
    """Of what is still to be made: sums, and of memory the most. None where no stage tells."""

    def of(name: str) -> list[float]:
        values = [getattr(line, name) for line in lines if not line.made]
        return [value for value in values if value is not None]

    sums: dict[str, float | None] = {
        name: sum(found) if (found := of(name)) else None for name in ("tokens", "flops", "seconds", "disk_bytes")
    }
    return sums | {"memory_bytes": max(of("memory_bytes"), default=None)}
