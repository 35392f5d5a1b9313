"""A tiny training run as a program, for tests that kill it or start it in several processes.

python tiny_run.py FOLDER [--dropout] [--compare]

Trains into FOLDER/run; --compare: then once more, unbroken, into FOLDER/whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgespec.train.batches import ShuffledRows
from edgespec.train.cross_entropy import next_token_loss
from edgespec.train.loop import LoopConfig, Outcome, train
from edgespec.train.schedule import Schedule

CONFIG = LoopConfig(
    steps=40,
    batch=8,
    micro_batch=2,
    learning_rate=5e-3,
    schedule=Schedule("wsd", warmup=0.1, decay=0.4),
    precision="f32",
    checkpoint_every=4,
    heldout_every=10,
)


SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
"""Of the smallest models that are trained here."""


def tiny_model(seed: int = 0, dropout: float = 0.0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        **SIZES,
        tie_word_embeddings=True,
        attention_dropout=dropout,  # where a random state that is not restored shows
    )
    return LlamaForCausalLM(config)


def tiny_rows(rows: int = 24, length: int = 17) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    ids = (torch.arange(length)[None] + torch.randint(0, 64, (rows, 1), generator=generator)) % 16
    counted = torch.rand(rows, length, generator=generator) < 0.7
    return {"input_ids": ids, "loss_mask": counted}


def run(out: Path, config: LoopConfig = CONFIG, dropout: float = 0.0) -> Outcome:
    out.mkdir(parents=True, exist_ok=True)
    rows = tiny_rows()
    return train(
        tiny_model(dropout=dropout), ShuffledRows(rows, 8, seed=3), next_token_loss, config, out, heldout=[rows]
    )


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    folder = Path(arguments[0])
    dropout = 0.1 if "--dropout" in arguments else 0.0
    run(folder / "run", dropout=dropout)
    if "--compare" in arguments:
        run(folder / "whole", dropout=dropout)


def columns(folder: Path) -> Iterator[list[str]]:
    """metrics.csv without the clock."""
    for line in (folder / "metrics.csv").read_text(encoding="utf-8").splitlines():
        step, tokens, _, *rest = line.split(",")
        yield [step, tokens, *rest]


if __name__ == "__main__":
    main(sys.argv[1:])
