"""Tiny shapes of the families that export is meant for, as keyword arguments of their transformers configuration."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

WINDOW = 8
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "decoder_sparse_step": 1}
_LONG = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "qwen2_moe": ("Qwen2Moe", {**_MOE, "shared_expert_intermediate_size": 48}),
    "qwen3_moe": ("Qwen3Moe", _MOE),
    "phi3": ("Phi3", {"sliding_window": WINDOW}),
    "phi4-mini": (
        "Phi3",
        {
            "rope_parameters": _LONG,
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 64,
            "tie_word_embeddings": True,
        },
    ),
    "gemma2": ("Gemma2", {"sliding_window": WINDOW, "query_pre_attn_scalar": 16}),
    "gemma3": (
        "Gemma3Text",
        {
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
    "granite": ("Granite", {"embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22}),
    "smollm3": ("SmolLM3", {"no_rope_layers": [1, 0, 1, 1]}),
    "olmo2": ("Olmo2", {}),
}
"""By name: the beginning of the class's name, and what is the family's own. Prompts are longer than WINDOW."""
_MODELS = {"Gemma3Text": "Gemma3"}


def make_family(name: str, folder: Path, tokenizer: Path, **changes: Any) -> Any:
    """Write a random model of a family, with the tokenizer in the folder `tokenizer`, as a checkpoint directory; return
    the model.

    float32; norm weights are not 1, biases not 0, so that one that is lost or misplaced shows.
    """
    import torch
    import transformers

    prefix, own = FAMILIES[name]
    config = getattr(transformers, f"{prefix}Config")(**(SIZES | own | changes))
    torch.manual_seed(0)
    model = getattr(transformers, f"{_MODELS.get(prefix, prefix)}ForCausalLM")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    for path in tokenizer.glob("tokenizer*"):
        shutil.copyfile(path, folder / path.name)
    return model
