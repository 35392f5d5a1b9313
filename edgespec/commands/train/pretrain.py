"""edgespec train pretrain: a checkpoint learns from text; the same again, with its result, is continued pretraining."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...amounts import parse_count
from ...console import Terminal
from ...progress import SILENT, Progress
from ...stages import load_stage
from .options import CHECKPOINT_KEPT, JsonOption, Optimizer, Precision, ScheduleShape, end_training, going_on


def pretrain(
    checkpoint: Annotated[Path, typer.Argument(help="What to train: a draft from init, or an earlier run's model.")],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            help="Text: a hub id, parquet, jsonl, a text file, a folder of these or of source code. Options behind "
            "commas: weight=2, field=content, subset=NAME, split=train, suffix=.py. Give it again to mix.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder; the same command goes on where it stopped.")],
    tokens: Annotated[str, typer.Option(help="Budget: 5M, 2.5B, ...")],
    target: Annotated[Path | None, typer.Option(help="The target; its vocabulary must be the checkpoint's.")] = None,
    length: Annotated[int, typer.Option(help="Tokens of a row.")] = 512,
    batch: Annotated[int, typer.Option(help="Rows of an optimizer step, over all processes.")] = 32,
    micro_batch: Annotated[
        int | None, typer.Option(help="Rows of a forward pass; the rest is accumulated. [default: all]")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="AdamW's peak rate; Muon's follows from it.")] = 1e-3,
    schedule: Annotated[ScheduleShape, typer.Option(help="cosine, or wsd: warm-up, stable, decay.")] = "cosine",
    warmup: Annotated[float, typer.Option(help="Share of the steps in which the rate rises.")] = 0.02,
    decay: Annotated[float, typer.Option(help="wsd: share of the steps in which it falls.")] = 0.2,
    floor: Annotated[float, typer.Option(help="Where the rate ends, as a share of its peak.")] = 0.0,
    optimizer: Annotated[Optimizer, typer.Option(help="muon moves the layers' matrices by Muon.")] = "adamw",
    weight_decay: Annotated[float, typer.Option(help="Of matrices; norms and embeddings do not decay.")] = 0.1,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = 1.0,
    precision: Annotated[Precision, typer.Option(help="auto: what multiplies faster here.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Run the model through torch.compile.")] = False,
    seed: Annotated[int, typer.Option(help="Order of the documents.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 200,
    keep: Annotated[int, typer.Option(help="Checkpoints that stay.")] = 2,
    heldout_every: Annotated[int, typer.Option(help="Steps between held-out losses.")] = 200,
    heldout_share: Annotated[float, typer.Option(help="Share of the documents held out, by content.")] = 0.01,
    heldout_rows: Annotated[int, typer.Option(help="Rows of the held-out loss; 0 holds nothing out.")] = 64,
    json_output: JsonOption = False,
) -> None:
    """Train on text, to a budget of tokens. Ctrl-C saves and stops; the same command goes on, exactly.

    Several processes: accelerate launch -m edgespec train pretrain ...
    """
    terminal = Terminal(json_output)
    budget = parse_count(tokens, "--tokens")
    stage = load_stage("train")
    config = stage.PretrainConfig(
        data=tuple(stage.SourceSpec.parse(source) for source in data),
        tokens=budget,
        length=length,
        heldout_share=heldout_share,
        heldout_rows=heldout_rows,
        loop=stage.LoopConfig(
            steps=1,  # the budget decides
            batch=batch,
            micro_batch=micro_batch,
            learning_rate=learning_rate,
            schedule=stage.Schedule(shape=schedule, warmup=warmup, decay=decay, floor=floor),
            optimizer=optimizer,
            weight_decay=weight_decay,
            clip_norm=clip,
            precision=precision,
            compiled=compiled,
            seed=seed,
            checkpoint_every=checkpoint_every,
            keep=keep,
            heldout_every=heldout_every,
        ),
    )
    progress: Progress = terminal if stage.is_main_process() else SILENT
    with going_on(progress, CHECKPOINT_KEPT):
        facts = stage.pretrain_checkpoint(checkpoint, config, out, target=target, progress=progress)
    if stage.is_main_process():
        losses = f"loss: {_loss(facts['loss'])}, held out: {_loss(facts['heldout_loss'])}"
        end_training(terminal, facts, f"model: {facts['model']}\n{losses}", stage.stopped_at(facts, out))


def _loss(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
