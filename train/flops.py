"""Floating-point operations of training, counted as the field does: matrix products alone, backward twice forward.

Source: Kaplan et al. 2020 (arXiv:2001.08361) for 6 N a token; N here is what is multiplied, so an embedding that is
only looked up is left out and a tied head is in. Attention as in PaLM's MFU (Chowdhery et al. 2022, arXiv:2204.02311,
appendix B), halved for the causal mask.
"""

from __future__ import annotations

from typing import Any


def multiplied_parameters(model: Any) -> int:
    """Weights of the matrix products of a forward pass: layers' matrices and the head, not the embedding's look-up."""
    head = model.get_output_embeddings()
    tables = {id(model.get_input_embeddings().weight), *([id(head.weight)] if head is not None else [])}
    inside = sum(weight.numel() for weight in model.parameters() if weight.ndim == 2 and id(weight) not in tables)
    return inside + (head.weight.numel() if head is not None else 0)


def forward_flops(model: Any, length: int) -> float:
    """FLOPs a token of a forward pass over rows of `length` tokens; at its half on average a token attends."""
    config = model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 2 * config.num_hidden_layers * config.num_attention_heads * size * length  # 2 products, 2 FLOPs, half
    return 2.0 * multiplied_parameters(model) + attention


def training_flops(model: Any, length: int) -> float:
    """FLOPs a token of a training step: forward, and backward at twice that."""
    return 3 * forward_flops(model, length)
