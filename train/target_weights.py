"""Single weights out of a target's safetensors, without loading it: an 8 B model gives six layers in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from edgespec.errors import EdgespecError

_PREFIXES = ("language_model.model.", "model.language_model.", "language_model.", "model.", "")
"""What stands before `layers.0...` in checkpoints of a language model alone and of one inside a multimodal model."""


class TargetWeights:
    """Weights by their name in the language model's own state dict, in f32."""

    def __init__(self, folder: Path) -> None:
        self._where: dict[str, tuple[Path, str]] = {}
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise EdgespecError(
                f"'{folder}' has no safetensors, so nothing can be copied from it; give --from-target scratch, or a "
                "checkpoint with its weights"
            )
        for file in files:
            try:
                with safe_open(file, framework="pt") as opened:
                    names = list(opened.keys())
                self._where |= {_canonical(name): (file, name) for name in names}
            except (SafetensorError, OSError) as error:
                raise EdgespecError(f"'{file}' cannot be read: {error}; it may be truncated, fetch it again") from error
        self._folder = folder

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def get(self, name: str) -> torch.Tensor:
        if name not in self._where:
            raise EdgespecError(f"the target '{self._folder}' has no weight '{name}', which a draft is to copy")
        file, stored = self._where[name]
        with safe_open(file, framework="pt") as opened:
            tensor: torch.Tensor = opened.get_tensor(stored)
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            raise EdgespecError(
                f"the target's weight '{name}' is {tensor.dtype}, already compressed; copy from the uncompressed "
                "checkpoint, or give --from-target scratch"
            )
        return tensor.float()

    def layer(self, number: int, config: Any) -> dict[str, torch.Tensor]:
        """All weights of a decoder layer, by names relative to it; Phi-3's joined matrices split."""
        prefix = f"model.layers.{number}."
        names = sorted(name.removeprefix(prefix) for name in self._where if name.startswith(prefix))
        found = {name: self.get(prefix + name) for name in names}
        if (joined := found.pop("mlp.gate_up_proj.weight", None)) is not None:
            found["mlp.gate_proj.weight"], found["mlp.up_proj.weight"] = joined.chunk(2)
        if (joined := found.pop("self_attn.qkv_proj.weight", None)) is not None:
            size = config.hidden_size // config.num_attention_heads
            counts = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
            parts = joined.split([count * size for count in counts])
            found |= {f"self_attn.{name}_proj.weight": part for name, part in zip("qkv", parts, strict=True)}
        return found


def joined(layer: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The opposite of what `TargetWeights.layer` splits: a layer as Phi-3 names it."""
    rest = {name: weight for name, weight in layer.items() if not name.startswith(("self_attn.q_", "self_attn.k_"))}
    rest["self_attn.qkv_proj.weight"] = torch.cat([layer[f"self_attn.{name}_proj.weight"] for name in "qkv"])
    rest["mlp.gate_up_proj.weight"] = torch.cat([layer[f"mlp.{name}_proj.weight"] for name in ("gate", "up")])
    for name in ("self_attn.v_proj.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight"):
        del rest[name]
    return rest


def _canonical(name: str) -> str:
    """`model.layers.0...`, `model.embed_tokens.weight`, `model.norm.weight`, `lm_head.weight`; others as they are."""
    if name.endswith("lm_head.weight"):
        return "lm_head.weight"
    for prefix in _PREFIXES:
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and rest.startswith(("layers.", "embed_tokens.", "norm.")):
            return f"model.{rest}"
    return name
