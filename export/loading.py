"""A checkpoint as a torch model: its weights mapped where they keep their type, every one of them from its files."""

from __future__ import annotations

from typing import Any

from edgespec.errors import EdgespecError

from .checkpoint import Checkpoint
from .eagle import ARCHITECTURE, MAY_BE_MISSING

TORCH = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
_OWN_CODE_IGNORED = ("falcon", "mpt", "phi", "phi3")
"""Types whose published code keeps its cache in a way optimum-intel cannot export: transformers' class is taken."""


def load_model(checkpoint: Checkpoint, dtype: str, trust_remote_code: bool = False) -> Any:
    """The torch model of `checkpoint` with weights of `dtype` (fp16, bf16, fp32), in eval mode.

    An early exit has its first layers only. Raises EdgespecError when the files lack a weight, which transformers
    would fill with random numbers; whatever else it raises passes through.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    trusted = trust_remote_code and checkpoint.config.get("model_type") not in _OWN_CODE_IGNORED
    config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=trusted, local_files_only=True)
    options: dict[str, Any] = {"trust_remote_code": trusted}
    loader: Any = AutoModelForCausalLM
    if checkpoint.kind == "eagle3":
        from optimum.exporters.openvino.model_patcher import LlamaEagle3ForCausalLM

        # a class of this module: optimum asks a class's module which library it is of, and knows its own for none
        loader = type("EagleHead", (LlamaEagle3ForCausalLM,), {"__module__": __name__})
        options = {}
        config.architectures = [ARCHITECTURE]
        config.tie_word_embeddings = False
    if checkpoint.layers is not None:
        shorten(config, checkpoint.layers)
    if config.model_type == "gemma2":
        options["attn_implementation"] = "sdpa"  # transformers prefers eager, which optimum-intel does not export well
    model, found = loader.from_pretrained(
        checkpoint.folder,
        config=config,
        dtype=getattr(torch, TORCH[dtype]),
        local_files_only=True,
        use_safetensors=not checkpoint.pickled,
        output_loading_info=True,
        **options,
    )
    missing = sorted(found["missing_keys"])
    if checkpoint.kind == "eagle3":
        missing = [key for key in missing if not key.endswith(MAY_BE_MISSING)]
    if missing:
        raise EdgespecError(
            f"the weight files of '{checkpoint.name}' lack {len(missing)} of the model's weights, such as "
            f"'{missing[0]}', and transformers would make them up; fetch the whole checkpoint"
        )
    return model.eval()


def shorten(config: Any, layers: int) -> None:
    """Change a transformers configuration to that of the first `layers` layers: their number, and every list that has
    an entry a layer."""
    text = config.get_text_config()
    has = text.num_hidden_layers
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == has:
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
