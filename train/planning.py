"""`--plan`: what is known of a recipe before anything starts, and this machine's rate, measured for a second."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoConfig, AutoModelForCausalLM

from .cross_entropy import next_token_loss
from .forecast import Forecast, Known, Sizes, forecast, sizes
from .from_nothing import target_config
from .models import checkpoint_in
from .pipeline import Pipeline
from .precision import Precision, autocast, matmul_rate
from .shapes import choose_shape, draft_config, spread, text_config

KINDS: tuple[Precision, ...] = ("f32", "bf16")
MEASURED_WEIGHTS = 300_000_000
"""A larger draft is not tried for its rate: its first steps alone would take too long."""
TRAINING_SHARE = 0.25
"""Of the matmul rate, that training of such a draft is taken to reach."""


@dataclass(frozen=True)
class Rates:
    """FLOP/s on this machine. training: of a draft's steps, without the optimizer's; matmul: of products alone."""

    training: float
    matmul: float


def plan_recipe(pipeline: Pipeline, rates: Rates | None = None) -> list[Forecast]:
    """One line a stage. rates: measured when not given.

    A target that lies on the hub is not fetched for it; what depends on its size is left open then.
    """
    config = _target_config(pipeline)
    draft = _draft_config(pipeline, config)
    rates = rates or measured_rates(draft)
    known = Known(
        target=None if config is None else _sized(config),
        draft=None if draft is None else _sized(draft),
        vocabulary=config.get_text_config().vocab_size if config is not None else 0,
        training_flops=rates.training,
        matmul_flops=rates.matmul,
    )
    return forecast(pipeline.recipe, pipeline.made(), known)


def measured_rates(draft: Any, *, rows: int = 4, length: int = 256) -> Rates:
    """Products in the better of f32 and bf16, as training chooses; and the best of two steps of a draft of this
    configuration on `rows` x `length` random tokens, after one that is not timed."""
    device = Accelerator().device
    each = {kind: matmul_rate(device, kind, seconds=0.5) for kind in KINDS}
    precision = max(KINDS, key=lambda kind: each[kind])
    if draft is None or (size := _sized(draft)).weights > MEASURED_WEIGHTS:
        return Rates(TRAINING_SHARE * each[precision], each[precision])
    model = AutoModelForCausalLM.from_config(draft, dtype=torch.float32).to(device).train()
    ids = torch.randint(draft.vocab_size, (rows, min(length, draft.max_position_embeddings)), device=device)
    best = float("inf")
    for attempt in range(3):
        clock = time.perf_counter()
        with autocast(device.type, precision):
            loss, _ = next_token_loss(model, {"input_ids": ids})
        loss.backward()
        float(loss.detach())  # waits for the device
        if attempt:
            best = min(best, time.perf_counter() - clock)
    return Rates(6 * size.multiplied * ids.numel() / best, each[precision])


def _target_config(pipeline: Pipeline) -> Any:
    """Of the target as it is, or as it will be; None when it is not on this machine."""
    recipe = pipeline.recipe
    if Path(pipeline.target, "config.json").is_file():
        return AutoConfig.from_pretrained(pipeline.target)
    if not recipe.target.phases or recipe.tokenizer is None:
        return None
    return target_config(recipe.target, recipe.target.phases[-1].layers, recipe.tokenizer.vocab_size, 0)


def _draft_config(pipeline: Pipeline, target: Any) -> Any:
    """Of the draft as it is, or as it will be; None when the target is not here."""
    made = checkpoint_in(pipeline.work / "init")
    if (made / "config.json").is_file():
        return AutoConfig.from_pretrained(made)
    if target is None:
        return None
    wide, config = text_config(target), pipeline.recipe.init.config(pipeline.recipe.seed)
    copied = config.beginning != "scratch"
    shape = config.shape
    if shape is None:
        assert config.parameters is not None
        hidden = wide.hidden_size if config.beginning == "copy" else None
        shape = choose_shape(wide, config.parameters, config.head, copied, hidden)
    layers = list(config.layers) if config.layers else spread(shape.layers, wide.num_hidden_layers)
    return draft_config(wide, shape, layers, config.head, copied)


def _sized(config: Any) -> Sizes:
    """Without any weights."""
    with torch.device("meta"):
        return sizes(AutoModelForCausalLM.from_config(config))
