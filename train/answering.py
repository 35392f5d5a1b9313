"""The stage of a recipe in which the target answers: prompts of the section, an engine, shards, top-k if asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from edgespec.progress import SILENT, Progress

from .from_nothing import corpus_ids
from .generate import (
    Prompt,
    Settings,
    Writer,
    cut_prompts,
    open_target,
    read_prompts,
    write_alignment_set,
    write_own_prompts,
    write_top_k,
)
from .generate.by_openvino import OpenVinoWriter
from .generate.by_transformers import TransformersWriter
from .generate.by_vllm import VllmWriter
from .models import load_tokenizer
from .recipe import GenerateSection

SET = "set"
"""The alignment set, below the stage's folder."""


def answer(
    folder: Path,
    section: GenerateSection,
    target: str,
    corpus: Path,
    exported: Path,
    *,
    made_from: str,
    seed: int,
    progress: Progress = SILENT,
) -> Mapping[str, Any]:
    """Let the checkpoint `target` answer, into `folder`/set; goes on where it stopped.

    exported: what openvino-genai loads of it. made_from: hash of all that decides the answers, for the set's card.
    """
    tokenizer = load_tokenizer(target)
    settings = Settings(
        temperatures=tuple(section.temperatures),
        each=section.each,
        top_p=section.top_p,
        max_new_tokens=section.max_new_tokens,
        shard=section.shard,
        seed=seed,
    )
    inputs = {"made_from": made_from}
    writer = _open(section, target, exported)
    try:
        prompts: Iterable[Prompt | Sequence[int]]
        if section.prompts == "corpus":
            documents = corpus_ids(corpus, "train", tokenizer)
            prompts = cut_prompts(documents, section.count, section.shortest, section.longest, seed)
        elif section.prompts == "self":
            prompts = write_own_prompts(
                folder / "self", writer, tokenizer, section.count, settings, inputs=inputs, progress=progress
            )
        else:
            prompts = islice(read_prompts(section.prompts, column=section.column), section.count)
        report = write_alignment_set(
            folder / SET, writer, prompts, tokenizer, settings, inputs=inputs, progress=progress
        )
    finally:
        writer.close()
    if section.top_k_logits:
        ir = exported if section.engine == "openvino" else None
        write_top_k(folder / SET, open_target(target, ir, section.device), section.top_k_logits, progress=progress)
    return vars(report)


def _open(section: GenerateSection, target: str, exported: Path) -> Writer:
    if section.engine == "vllm":
        return VllmWriter(target)
    if section.engine == "transformers":
        return TransformersWriter(target)
    return OpenVinoWriter(exported, device=section.device)
