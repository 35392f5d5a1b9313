"""Depth growth: a trained network becomes a deeper one that computes the same function, and is trained on.

Source: block expansion (Wu et al. 2024, "LLaMA Pro"): each new layer copies its neighbour with the two projections
that write to the residual stream set to zero, so it starts as the identity.
"""

from __future__ import annotations

import copy

import torch
from transformers import LlamaForCausalLM


@torch.no_grad()
def grow_depth(model: LlamaForCausalLM, layers: int) -> LlamaForCausalLM:
    """A Llama of `layers` layers with `model`'s function; new layers are spread evenly behind the trained ones.

    Raises ValueError when `layers` is not more than the model has.
    """
    old = model.config.num_hidden_layers
    if layers <= old:
        raise ValueError(f"the model has {old} layers; it can only grow deeper, not to {layers}")
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    config.layer_types = None
    grown = LlamaForCausalLM(config)
    grown.model.embed_tokens.load_state_dict(model.model.embed_tokens.state_dict())
    grown.model.norm.load_state_dict(model.model.norm.state_dict())
    if not config.tie_word_embeddings:
        grown.lm_head.load_state_dict(model.lm_head.state_dict())
    previous = -1
    for index, layer in enumerate(grown.model.layers):
        source = index * old // layers
        layer.load_state_dict(model.model.layers[source].state_dict())
        if source == previous:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        previous = source
    return grown
