"""Which optimizer moves which weights."""

from __future__ import annotations

from typing import Literal

import torch

from .muon import Muon

OptimizerName = Literal["adamw", "muon"]

BETAS = (0.9, 0.95)
"""Of AdamW, for both moments."""
MUON_RATE = 20.0
"""Muon's rate over AdamW's: its updates have unit spectral norm, AdamW's have unit elements."""


def build_optimizers(
    model: torch.nn.Module,
    name: OptimizerName,
    learning_rate: float,
    weight_decay: float,
) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the layers' matrices and AdamW for the rest.

    Matrices decay; norms, biases and embeddings do not. Each group's "peak" is what a schedule multiplies.
    """
    matrices, embeddings, rest = [], [], []
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            rest.append(parameter)
        elif "embed" in key or "lm_head" in key:
            embeddings.append(parameter)
        else:
            matrices.append(parameter)
    without = [{"params": embeddings + rest, "weight_decay": 0.0}]
    made: list[torch.optim.Optimizer] = []
    if name == "muon":
        made.append(Muon(matrices, lr=learning_rate * MUON_RATE, weight_decay=weight_decay))
        groups = without
    else:
        groups = [{"params": matrices, "weight_decay": weight_decay}, *without]
    made.append(torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=True))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made
