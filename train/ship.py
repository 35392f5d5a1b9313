"""A trained checkpoint as it is shipped: bfloat16 weights, a compact tokenizer, nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

FILES = ("tokenizer.json", "tokenizer_config.json")


def ship(checkpoint: Path, out: Path) -> Path:
    """Write `checkpoint` into the directory `out` at half its size; return `out`."""
    LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).save_pretrained(out)
    for name in FILES:
        content = json.loads((checkpoint / name).read_text(encoding="utf-8"))
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
        (out / name).write_text(text, encoding="utf-8", newline="\n")
    return out
