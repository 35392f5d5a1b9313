"""Next-token cross-entropy of a causal language model, without ever holding the logits of a whole batch.

`cross_entropy` is the plain reference; `linear_cross_entropy` gives the same loss and gradients from the hidden states
and the head, a block of positions at a time, and is what training uses.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional

from .batches import Batch
from .heads import LogitRule, rule_of

PLAIN = LogitRule()
BLOCK_ELEMENTS = 4_194_304
"""Logits of a block: large enough for full-speed matrix products, small enough to stay near the caches."""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
    """Mean cross-entropy in nats. logits [n, vocabulary], labels i64 [n], counts bool [n] (all when None) -> []."""
    losses = functional.cross_entropy(logits.float(), labels, reduction="none")
    if counts is None:
        return losses.mean()
    return (losses * counts).sum() / counts.sum().clamp_min(1)


class _LinearCrossEntropy(torch.autograd.Function):
    """Both gradients are made in the forward pass, while a block's logits are at hand, and scaled in the backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        scale: torch.Tensor,
        rule: LogitRule,
        kind: torch.dtype,
    ) -> torch.Tensor:
        head = weight.to(kind)
        rows = max(1, BLOCK_ELEMENTS // len(weight))
        needs = any(ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if needs else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), rows):
            block = slice(start, start + rows)
            inputs = hidden[block].to(kind)
            logits = (inputs @ head.T).float()  # [rows, vocabulary]
            if rule.factor != 1:
                logits *= rule.factor
            if rule.softcap is not None:
                bounded = torch.tanh(logits / rule.softcap)
                logits = rule.softcap * bounded
            chosen = labels[block, None]
            wanted = logits.gather(1, chosen)
            top = logits.amax(1, keepdim=True)
            powers = logits.sub_(top).exp_()  # in place: a pass over the vocabulary is what costs here
            sums = powers.sum(1, keepdim=True)
            total += ((sums.log() - (wanted - top)).squeeze(1) * scale[block]).sum()
            if grad_hidden is None or grad_weight is None:
                continue
            grad = powers.mul_(scale[block, None] / sums)
            grad.scatter_add_(1, chosen, -scale[block, None])
            if rule.softcap is not None:
                grad *= 1 - bounded.square()
            if rule.factor != 1:
                grad *= rule.factor
            grad = grad.to(kind)
            grad_hidden[block] = (grad @ head).to(hidden.dtype)
            grad_weight += grad.T @ inputs
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.kind = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0], (grad_weight * grads[0]).to(ctx.kind), None, None, None, None


def linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    counts: torch.Tensor | None = None,
    rule: LogitRule = PLAIN,
) -> torch.Tensor:
    """Mean cross-entropy in nats of the logits rule(hidden @ weight.T). hidden [n, width], weight [vocabulary, width],
    labels i64 [n], counts bool [n] (all when None). -> []

    Products are made in autocast's type where it is on, sums and the softmax in f32.
    """
    counted = torch.ones_like(labels, dtype=torch.float32) if counts is None else counts.float()
    device = hidden.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    scale = counted / counted.sum().clamp_min(1)
    with torch.autocast(device, enabled=False):
        loss: torch.Tensor = _LinearCrossEntropy.apply(hidden, weight, labels, scale, rule, kind)
    return loss


def next_token_loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """Cross-entropy of each token given those before it, over `loss_mask` where the batch has one: a loop's loss_fn.
    Of the model's own logits, whatever it does to them (see heads.py)."""
    ids = batch["input_ids"]
    labels = ids[:, 1:].flatten()
    counts = batch["loss_mask"][:, 1:].flatten() if "loss_mask" in batch else None
    lm: Any = model
    rule, head = rule_of(lm), lm.get_output_embeddings()
    if rule is None or getattr(head, "bias", None) is not None:
        logits = lm(input_ids=ids[:, :-1], use_cache=False).logits
        return cross_entropy(logits.flatten(0, 1), labels, counts), {}
    hidden = lm.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    return linear_cross_entropy(hidden.flatten(0, 1), head.weight, labels, counts, rule), {}
