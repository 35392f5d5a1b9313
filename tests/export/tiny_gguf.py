"""A tiny GGUF file of a Llama, written from a checkpoint, as llama.cpp's converter would lay it out."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

_U32, _F32, _STRING, _ARRAY, _I32 = 4, 6, 8, 9, 5
_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(checkpoint: Path, path: Path, **metadata: Any) -> Path:
    """Write the Llama in `checkpoint` to `path` in F16, norms in F32; `metadata` replaces or, with None, removes keys
    (dots written as two underscores)."""
    from safetensors.numpy import load_file

    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    ids = dict(tokenizer["model"]["vocab"]) | {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]}
    tokens = sorted(ids, key=ids.__getitem__)
    kinds = [3 if any(entry["content"] == token for entry in tokenizer["added_tokens"]) else 1 for token in tokens]
    while len(tokens) < config["vocab_size"]:  # padding of the embedding
        tokens.append(f"[PAD{len(tokens)}]")
        kinds.append(5)
    pairs: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "general.file_type": 1,
        "llama.block_count": config["num_hidden_layers"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": shared,
        "llama.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "llama.rope.dimension_count": config["hidden_size"] // heads,
        "llama.rope.freq_base": 10_000.0,
        "llama.vocab_size": config["vocab_size"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [
            merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]
        ],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
    } | {key.replace("__", "."): value for key, value in metadata.items()}
    pairs = {key: value for key, value in pairs.items() if value is not None}
    tensors: dict[str, np.ndarray] = {}
    for name, weight in load_file(checkpoint / "model.safetensors").items():
        if name == "model.embed_tokens.weight":
            tensors["token_embd.weight"] = weight.astype(np.float16)
        elif name == "model.norm.weight":
            tensors["output_norm.weight"] = weight.astype(np.float32)
        else:
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            if part.endswith(("q_proj", "k_proj")):  # llama.cpp rotates neighbours, transformers halves
                count = heads if part.endswith("q_proj") else shared
                weight = weight.reshape(count, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
            tensors[f"blk.{layer}.{_NAMES[part]}.weight"] = weight.astype(
                np.float32 if weight.ndim == 1 else np.float16
            )
    if "output.weight" not in tensors:
        tensors["output.weight"] = tensors["token_embd.weight"]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs))
    for key, value in pairs.items():
        head += _string(key) + _value(value)
    data = b""
    for name, weight in tensors.items():
        kind = 0 if weight.dtype == np.float32 else 1
        head += (
            _string(name) + struct.pack("<I", weight.ndim) + struct.pack(f"<{weight.ndim}Q", *reversed(weight.shape))
        )
        head += struct.pack("<IQ", kind, len(data))
        data += np.ascontiguousarray(weight).tobytes()
        data += bytes(-len(data) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def _string(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    if isinstance(value, float):
        return struct.pack("<If", _F32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_string, value))
    return struct.pack(f"<IIQ{len(value)}i", _ARRAY, _I32, len(value), *value)
