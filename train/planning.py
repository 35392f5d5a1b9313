"""`--plan`: what is known of a recipe before anything starts, and this machine's rate, measured for a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoConfig, AutoModelForCausalLM

from .forecast import Forecast, Known, Sizes, forecast, sizes
from .from_nothing import target_config
from .models import checkpoint_in
from .pipeline import Pipeline
from .precision import matmul_rate
from .shapes import choose_shape, draft_config, spread, text_config


def plan_recipe(pipeline: Pipeline, rate: Callable[[], float] | None = None) -> list[Forecast]:
    """One line a stage. rate: FLOP/s of training's matrix products, measured when not given.

    A target that lies on the hub is not fetched for it; what depends on its size is left open then.
    """
    config = _target_config(pipeline)
    known = Known(
        target=None if config is None else _sized(config),
        draft=_sized_draft(pipeline, config),
        vocabulary=config.get_text_config().vocab_size if config is not None else 0,
        flops_per_second=(rate or measured_rate)(),
    )
    return forecast(pipeline.recipe, pipeline.made(), known)


def measured_rate() -> float:
    """The better of f32 and bf16, as training chooses."""
    device = Accelerator().device
    return max(matmul_rate(device, kind, seconds=0.5) for kind in ("f32", "bf16"))


def _target_config(pipeline: Pipeline) -> Any:
    """Of the target as it is, or as it will be; None when it is not on this machine."""
    recipe = pipeline.recipe
    if Path(pipeline.target, "config.json").is_file():
        return AutoConfig.from_pretrained(pipeline.target)
    if not recipe.target.phases or recipe.tokenizer is None:
        return None
    return target_config(recipe.target, recipe.target.phases[-1].layers, recipe.tokenizer.vocab_size, 0)


def _sized_draft(pipeline: Pipeline, target: Any) -> Sizes | None:
    """Of the draft as it is, or as it will be."""
    made = checkpoint_in(pipeline.work / "init")
    if (made / "config.json").is_file():
        return _sized(AutoConfig.from_pretrained(made))
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
    return _sized(draft_config(wide, shape, layers, config.head, copied))


def _sized(config: Any) -> Sizes:
    """Without any weights."""
    with torch.device("meta"):
        return sizes(AutoModelForCausalLM.from_config(config))
