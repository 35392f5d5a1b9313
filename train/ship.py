"""A trained checkpoint as it is shipped: bfloat16 weights, a compact tokenizer, and an index of what it was trained on.

The index (edgespec.training_index) lets whoever measures the draft leave out prompts that it has seen in training.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from edgespec.training_index import TrainingIndex

FILES = ("tokenizer.json", "tokenizer_config.json")


def ship(checkpoint: Path, out: Path) -> Path:
    """Write `checkpoint` into the directory `out` at half its size; return `out`."""
    LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).save_pretrained(out)
    for name in FILES:
        content = json.loads((checkpoint / name).read_text(encoding="utf-8"))
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
        (out / name).write_text(text, encoding="utf-8", newline="\n")
    return out


def index_training_text(corpus: Path, answers: Path, sources: Iterable[str]) -> TrainingIndex:
    """Index the corpus stage's training documents, and prompts and answers of the alignment set.

    sources: names of the recipe's sources; the index tells them with the versions installed here.
    """
    tokenizer = AutoTokenizer.from_pretrained(corpus / "tokenizer")

    def texts() -> Iterator[str]:
        with np.load(corpus / "train.npz") as documents:
            for name in documents.files:
                yield tokenizer.decode(documents[name], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        with (answers / "train.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                completion = json.loads(line)
                ids = completion["prompt"] + completion["answer"]
                yield tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    return TrainingIndex.build(texts(), f"{described_sources(sources)}; the target's answers to prompts cut from it")


def described_sources(sources: Iterable[str]) -> str:
    """`stdlib 3.11.7, torch 2.13.0`: each source with the version that is installed, where it has one."""
    versions = {"stdlib": platform.python_version()}
    for source in sources:
        if source not in versions:
            try:
                versions[source] = metadata.version(source)
            except metadata.PackageNotFoundError:
                versions[source] = ""
    return ", ".join(f"{source} {versions[source]}".strip() for source in sources)
