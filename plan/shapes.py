"""Shapes of published models as data: what a config.json says about size, and nothing about weights.

Each entry is the published config.json less what does not change a matrix or an operation. The parameter counts that
follow from them are compared with the published ones in tests/plan/test_shapes.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgespec.errors import EdgespecError

_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


DEFAULT_VOCAB = 32000
"""Tokens of a grid shape that goes with no other."""


def _shape(
    model_type: str,
    vocab: int,
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    *,
    tied: bool,
    positions: int,
    theta: float,
    eps: float,
    **more: Any,
) -> Mapping[str, Any]:
    return MappingProxyType(
        {
            "model_type": model_type,
            "vocab_size": vocab,
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": head_dim,
            "tie_word_embeddings": tied,
            "max_position_embeddings": positions,
            "rope_theta": theta,
            "rms_norm_eps": eps,
            "hidden_act": "silu",
            **more,
        }
    )


def _llama3(tied: bool, factor: float, *sizes: int) -> Mapping[str, Any]:
    rope = {**_LLAMA3_ROPE, "factor": factor}
    return _shape("llama", 128256, *sizes, tied=tied, positions=131072, theta=500000.0, eps=1e-5, rope_scaling=rope)


def _qwen(model_type: str, vocab: int, tied: bool, positions: int, *sizes: int) -> Mapping[str, Any]:
    return _shape(model_type, vocab, *sizes, tied=tied, positions=positions, theta=1000000.0, eps=1e-6)


# sizes: hidden, intermediate, layers, heads, key-value heads, head dimension
SHAPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "llama-3.1-8b": _llama3(False, 8.0, 4096, 14336, 32, 32, 8, 128),
        "llama-3.2-3b": _llama3(True, 32.0, 3072, 8192, 28, 24, 8, 128),
        "llama-3.2-1b": _llama3(True, 32.0, 2048, 8192, 16, 32, 8, 64),
        "tinyllama-1.1b": _shape(
            "llama", 32000, 2048, 5632, 22, 32, 4, 64, tied=False, positions=2048, theta=10000.0, eps=1e-5
        ),
        "mistral-7b": _shape(  # v0.3
            "mistral", 32768, 4096, 14336, 32, 32, 8, 128, tied=False, positions=32768, theta=1e6, eps=1e-5,
            sliding_window=None,
        ),
        "phi-3-mini": _shape(  # 4k
            "phi3", 32064, 3072, 8192, 32, 32, 32, 96, tied=False, positions=4096, theta=10000.0, eps=1e-5,
            sliding_window=2047, original_max_position_embeddings=4096,
        ),
        "phi-4-mini": _shape(
            "phi3", 200064, 3072, 8192, 32, 24, 8, 128, tied=True, positions=4096, theta=10000.0, eps=1e-5,
            sliding_window=None, original_max_position_embeddings=4096, partial_rotary_factor=0.75,
        ),
        "qwen2.5-7b": _qwen("qwen2", 152064, False, 32768, 3584, 18944, 28, 28, 4, 128),
        "qwen2.5-1.5b": _qwen("qwen2", 151936, True, 32768, 1536, 8960, 28, 12, 2, 128),
        "qwen2.5-0.5b": _qwen("qwen2", 151936, True, 32768, 896, 4864, 24, 14, 2, 64),
        "qwen3-8b": _qwen("qwen3", 151936, False, 40960, 4096, 12288, 36, 32, 8, 128),
        "qwen3-4b": _qwen("qwen3", 151936, True, 40960, 2560, 9728, 36, 32, 8, 128),
        "qwen3-1.7b": _qwen("qwen3", 151936, True, 40960, 2048, 6144, 28, 16, 8, 128),
        "qwen3-0.6b": _qwen("qwen3", 151936, True, 40960, 1024, 3072, 28, 16, 8, 128),
        "gemma-2-2b": _shape(
            "gemma2", 256000, 2304, 9216, 26, 8, 4, 256, tied=True, positions=8192, theta=10000.0, eps=1e-6,
            hidden_activation="gelu_pytorch_tanh", hidden_act="gelu_pytorch_tanh", sliding_window=4096,
            query_pre_attn_scalar=256, attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
        ),
        "gemma-2-9b": _shape(
            "gemma2", 256000, 3584, 14336, 42, 16, 8, 256, tied=True, positions=8192, theta=10000.0, eps=1e-6,
            hidden_activation="gelu_pytorch_tanh", hidden_act="gelu_pytorch_tanh", sliding_window=4096,
            query_pre_attn_scalar=256, attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
        ),
        # Drafts. Their shapes are not published; these give the size of the published int8 files to about 1 %.
        "fastdraft-phi-3-50m": _shape(
            "llama", 32064, 512, 1408, 6, 8, 8, 64, tied=False, positions=4096, theta=10000.0, eps=1e-5,
        ),
        "fastdraft-llama-3.1-150m": _shape(
            "llama", 128256, 512, 1408, 7, 8, 8, 64, tied=False, positions=131072, theta=500000.0, eps=1e-5,
        ),
    }
)  # fmt: skip


def llama_shape(layers: int, hidden: int, *, vocab: int = DEFAULT_VOCAB, tied: bool = True) -> dict[str, Any]:
    """A Llama of `layers` x `hidden` as small drafts are built: heads of 64 (32 where 64 does not divide), a
    quarter as many key-value heads where four divides them, a SwiGLU of 8/3 the width, rounded up to 128, and one
    matrix for embedding and head. Raises EdgespecError for a width that 32 does not divide."""
    if layers < 1 or hidden < 64 or hidden % 32:
        raise EdgespecError(
            f"a shape of {layers} layers by {hidden} cannot be built; give at least one layer, and a width that is a "
            "multiple of 32 from 64 on, such as 4x256"
        )
    heads = hidden // 64 if hidden % 64 == 0 else hidden // 32
    kv_heads = heads // 4 if heads % 4 == 0 else heads
    intermediate = -(-hidden * 8 // (3 * 128)) * 128
    sizes = (vocab, hidden, intermediate, layers, heads, kv_heads, hidden // heads)
    return dict(_shape("llama", *sizes, tied=tied, positions=131072, theta=500000.0, eps=1e-5))


def find_shape(shape: str | Path | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the config of a shape: a name in SHAPES, `LAYERSxHIDDEN` (llama_shape without a vocabulary; with
    `-untied` behind it a head of its own), a config.json, the directory that holds one, or a config as it stands.

    Raises EdgespecError naming the choices.
    """
    if isinstance(shape, Mapping):
        name = str(shape.get("_name_or_path") or "").replace("\\", "/").rstrip("/").split("/")[-1]
        return name or f"{shape.get('num_hidden_layers')}x{shape.get('hidden_size')}", dict(shape)
    text = str(shape)
    if text in SHAPES:
        return text, dict(SHAPES[text])
    if grid := re.fullmatch(r"(\d+)x(\d+)(-untied)?", text):
        config = llama_shape(int(grid[1]), int(grid[2]), tied=not grid[3])
        del config["vocab_size"]
        return text, config
    path = Path(shape)
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise EdgespecError(
            f"'{text}' is no shape; give LAYERSxHIDDEN (such as 4x256, or 4x256-untied), a config.json, or one of "
            f"{', '.join(SHAPES)}"
        )
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise EdgespecError(f"'{path}' is not valid JSON ({error}); fetch it again") from error
    if not isinstance(config, dict):
        raise EdgespecError(f"'{path}' does not hold a JSON object; give a model's config.json")
    return path.absolute().parent.name, config
