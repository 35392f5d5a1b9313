"""A target from nothing, for a recipe without a checkpoint: its corpus, its tokenizer, phases of growing depth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from edgespec.progress import SILENT, Progress

from .corpus import gather
from .grow import grow_depth
from .recipe import CorpusSection, TargetSection, TokenizerSection
from .timed import Progress as TrainProgress
from .timed import heldout_loss, pack, pretrain
from .tokenizer import train_tokenizer

ROW_LENGTH = 512
"""Tokens in a training row."""


def make_corpus(
    folder: Path, section: CorpusSection, tokenizer: TokenizerSection | None, seed: int, progress: Progress = SILENT
) -> Mapping[str, Any]:
    """train.jsonl and heldout.jsonl, a document a line with its name and sha256; and the tokenizer, if one is to be
    trained."""
    with progress.task("gathering source text"):
        corpus = gather(section.sources, section.heldout_share, seed)
    facts: dict[str, Any] = {"dropped": corpus.dropped}
    for name, documents in (("train", corpus.train), ("heldout", corpus.heldout)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8", newline="\n") as lines:
            lines.writelines(json.dumps(vars(document), ensure_ascii=False) + "\n" for document in documents)
        facts[name] = {"documents": len(documents), "characters": sum(len(document.text) for document in documents)}
    if tokenizer:
        with progress.task("training the tokenizer"):
            train_tokenizer((document.text for document in corpus.train), tokenizer.vocab_size, folder / "tokenizer")
    return facts


def corpus_texts(corpus: Path, part: str = "train") -> list[str]:
    """The documents of a corpus stage's folder. part: train or heldout."""
    with (corpus / f"{part}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def corpus_ids(corpus: Path, part: str, tokenizer: Any) -> list[list[int]]:
    """The same as token ids, nothing put around them."""
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in corpus_texts(corpus, part)]


def target_config(section: TargetSection, layers: int, vocab_size: int, end_of_text: int) -> LlamaConfig:
    """A Llama of the section's shape and so many layers, head tied to the embedding."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=section.hidden,
        intermediate_size=section.ffn,
        num_hidden_layers=layers,
        num_attention_heads=section.heads,
        num_key_value_heads=section.kv_heads,
        max_position_embeddings=section.context,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        pad_token_id=end_of_text,
    )


def train_phase(
    folder: Path,
    section: TargetSection,
    number: int,
    corpus: Path,
    previous: Path | None,
    seed: int,
    progress: Progress = SILENT,
) -> Mapping[str, Any]:
    """Phase `number` (from 0) of the target's training, from the checkpoint `previous`, into `folder`."""
    phase = section.phases[number]
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(corpus / "tokenizer")
    end = tokenizer.eos_token_id
    if previous is None:
        model = LlamaForCausalLM(target_config(section, phase.layers, len(tokenizer), end))
    else:
        model = LlamaForCausalLM.from_pretrained(previous, dtype=torch.float32)
        if phase.layers != model.config.num_hidden_layers:
            model = grow_depth(model, phase.layers)
    rows = pack(corpus_ids(corpus, "train", tokenizer), ROW_LENGTH, end)
    heldout = pack(corpus_ids(corpus, "heldout", tokenizer), ROW_LENGTH, end)[:64]
    label = f"training the target, phase {number + 1}"
    with progress.task(label, total=1) as task:
        shown = 0.0

        def report(step: TrainProgress) -> None:
            nonlocal shown
            task.advance(step.done - shown)
            shown = step.done
            task.describe(f"{label}: {step.tokens / 1e6:.2f} M tokens, loss {step.loss:.2f}")

        last = pretrain(
            model,
            rows,
            heldout[:24],
            phase.schedule(),
            budget=phase.budget(),
            batch=phase.batch,
            seed=seed + number,
            log=folder / "log.jsonl",
            report=report,
            compiled=phase.compiled(),
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {
        "tokens": last.tokens,
        "seconds": last.seconds,
        "parameters": model.num_parameters(),
        "heldout_loss": heldout_loss(model, heldout),
    }
