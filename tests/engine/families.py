"""Shapes of tiny models, and which attention windows their layers have (None for all tokens)."""

from __future__ import annotations

from typing import Any

WINDOW = 8
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
    "pad_token_id": 0,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "gemma2": ("Gemma2", {"sliding_window": WINDOW, "query_pre_attn_scalar": 16}),
    "gemma3": (
        "Gemma3",
        {"sliding_window": WINDOW, "query_pre_attn_scalar": 16, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "qwen3": ("Qwen3", {}),
    "phi3": ("Phi3", {"sliding_window": WINDOW}),
}
WINDOWS: dict[str, set[int | None]] = {
    "mistral": {WINDOW},
    "gemma2": {WINDOW, None},
    "gemma3": {WINDOW, None},
    "qwen3": {None},
    "phi3": {WINDOW},
}
"""By family."""
