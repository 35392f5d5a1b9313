"""A trained checkpoint as it is shipped: bfloat16 weights, a compact tokenizer, and an index of what it was trained on.

The index (edgespec.training_index) lets whoever measures the draft leave out prompts that it has seen in training.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import torch

from edgespec.training_index import TrainingIndex

from .from_nothing import corpus_texts
from .generate import read_answers
from .models import load_model, load_tokenizer

COMPACT = ("tokenizer.json", "tokenizer_config.json")


def ship(checkpoint: Path, out: Path) -> Path:
    """Write `checkpoint` into the directory `out` at half its size, with its tokenizer; return `out`."""
    load_model(checkpoint, dtype=torch.bfloat16).save_pretrained(out)
    load_tokenizer(checkpoint).save_pretrained(out)
    for name in COMPACT:
        if (out / name).is_file():
            content = json.loads((out / name).read_text(encoding="utf-8"))
            text = json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
            (out / name).write_text(text, encoding="utf-8", newline="\n")
    return out


def index_training_text(corpus: Path | None, answers: Path | None, sources: Iterable[str]) -> TrainingIndex:
    """Index the corpus stage's training documents, and prompts and answers of the alignment set (None: there is none).

    sources: names of the recipe's sources; the index tells them with the versions installed here. Text that was
    streamed from elsewhere is not in it: only what lies in the work folder can be read again.
    """

    def texts() -> Iterator[str]:
        if corpus is not None:
            yield from corpus_texts(corpus)
        if answers is not None:
            for written in read_answers(answers):
                yield written.prompt + written.answer

    said = "; the target's answers to prompts" if answers is not None else ""
    return TrainingIndex.build(texts(), f"{described_sources(sources)}{said}")


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
