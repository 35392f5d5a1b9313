"""EAGLE-3 heads (arXiv 2503.01840): a draft of one layer that reads three of the target's hidden states.

openvino_genai (2026.4) runs one beside its target: it adds outputs for the hidden states to the target (after layers 2,
n/2 and n-3), copies the target's embedding into the draft, and moves the projection `fc` of the three states over.
So a head has no tokenizer; transformers would make one up for it. Upstream's own route to the class (optimum-intel 2.1)
goes through `auto_map` to a file inside optimum, whose imports transformers then demands (einops among them) though
the head uses none of them; the class is taken here by its name instead.
"""

from __future__ import annotations

from typing import Any

from edgespec.errors import EdgespecError

ARCHITECTURE = "LlamaForCausalLMEagle3"
"""The name by which optimum-intel knows a head."""
FEWEST_LAYERS = 10
"""Of the target: openvino_genai refuses fewer."""
MAY_BE_MISSING = ("embed_tokens.weight", "t2d")
"""Weights that a head may come without: openvino_genai takes the target's embedding, and t2d is for training."""


def is_eagle3(config: dict[str, Any]) -> bool:
    """Whether a config.json is that of an EAGLE-3 head: by its architecture, or by the draft's vocabulary, which heads
    published as plain LlamaForCausalLM have too."""
    architecture = str((config.get("architectures") or [""])[0]).lower()
    return "eagle3" in architecture or "draft_vocab_size" in config


def require_plain_eagle3(name: str, config: dict[str, Any]) -> None:
    """Refuse a head that optimum-intel cannot export or openvino_genai cannot run beside a text model."""
    architecture = str((config.get("architectures") or [""])[0])
    if config.get("modal_type") == "VLM" or "vl" in str(config.get("target_model_type", "")).split("_"):
        raise EdgespecError(f"'{name}' is an EAGLE-3 head for a model that sees images, and edgespec runs text models")
    if config.get("model_type") != "llama" or "draft_vocab_size" not in config:
        raise EdgespecError(
            f"'{name}' is an EAGLE-3 head of another layout ({architecture}, model type "
            f"'{config.get('model_type')}'); optimum-intel exports type 'llama' with a draft_vocab_size"
        )
    if config.get("num_hidden_layers") != 1:
        raise EdgespecError(
            f"'{name}' is an EAGLE-3 head of {config.get('num_hidden_layers')} layers, and openvino-genai runs heads "
            "of one; choose another"
        )


def require_fits(target_name: str, target: dict[str, Any], draft_name: str, draft: dict[str, Any]) -> None:
    """Refuse a head that was not trained for this target, as far as its config.json tells: the width of the hidden
    states it reads, and the embedding that openvino_genai copies into it."""
    target = target.get("text_config") or target
    width = draft.get("target_hidden_size") or draft.get("hidden_size")
    beginning = f"the EAGLE-3 head '{draft_name}' does not belong to '{target_name}': "
    if width != target.get("hidden_size"):
        raise EdgespecError(
            f"{beginning}it reads hidden states of {width} numbers, and the target's have {target.get('hidden_size')}; "
            "choose the head that was trained for it"
        )
    if draft.get("vocab_size") != target.get("vocab_size"):
        raise EdgespecError(
            f"{beginning}its embedding has {draft.get('vocab_size')} rows, and the target's has "
            f"{target.get('vocab_size')}; choose the head that was trained for it"
        )
    layers = target.get("num_hidden_layers") or 0
    if layers < FEWEST_LAYERS:
        raise EdgespecError(
            f"the target '{target_name}' has {layers} layers, and openvino-genai takes hidden states of layers 2, n/2 "
            f"and n-3 of at least {FEWEST_LAYERS}; use an independent draft"
        )
