"""edgespec train align: the draft learns to say what the target says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...amounts import parse_count
from ...bundled import checkpoint_named
from ...console import Terminal
from ...errors import EdgespecError
from ...progress import SILENT, Progress
from ...stages import load_stage
from .evaluate import heldout_prompts
from .options import CHECKPOINT_KEPT, JsonOption, Optimizer, Precision, end_training, going_on


def align(
    draft: Annotated[str, typer.Argument(help="The draft's checkpoint, or 'bundled'.")],
    answers: Annotated[Path, typer.Argument(help="What edgespec train generate wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The aligned checkpoint; a run that was stopped goes on.")],
    loss: Annotated[str, typer.Option(help="ce, kl, reverse-kl, js, tvd, tvd++, or a mix: '0.5*ce + 0.5*kl'.")] = "ce",
    target: Annotated[
        str | None, typer.Option(help="The target's checkpoint, or 'bundled': for --online and --evaluate-every.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the target at every step, not what was cached.")
    ] = False,
    tokens: Annotated[str, typer.Option(help="Budget, padding included: 5M, 1B, ...")] = "10M",
    batch: Annotated[int, typer.Option(help="Rows of a step, over all processes.", min=1)] = 16,
    micro_batch: Annotated[int | None, typer.Option(help="Rows of a pass on one process.", min=1)] = None,
    length: Annotated[int, typer.Option(help="Tokens of a row; longer answers are cut.", min=2)] = 512,
    learning_rate: Annotated[float, typer.Option(help="The peak.")] = 1e-3,
    optimizer: Annotated[Optimizer, typer.Option(help="Muon moves the layers' matrices.")] = "adamw",
    data: Annotated[
        list[str] | None, typer.Option(help="Pretraining text to mix in: LOCATION[,weight=W]; may be repeated.")
    ] = None,
    share: Annotated[float, typer.Option(help="Of pretraining rows in a batch, with --data.")] = 0.1,
    evaluate_every: Annotated[int, typer.Option(help="Steps between trials in service; 0 is off.", min=0)] = 0,
    prompts: Annotated[
        str, typer.Option(help="Held-out prompts for the trials (see: edgespec prompts list).")
    ] = "code",
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 500,
    precision: Annotated[Precision, typer.Option(help="Of matrix products.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Run the draft through torch.compile.")] = False,
    seed: Annotated[int, typer.Option(help="Of the order of the rows.", min=0)] = 0,
    json_output: JsonOption = False,
) -> None:
    """Align a draft to what its target wrote; on several processes through accelerate launch.

    The first Ctrl-C saves and stops, the same command then goes on.
    """
    terminal = Terminal(json_output)
    if online and target is None:
        raise EdgespecError("--online asks the target at every step; give --target")
    if evaluate_every and target is None:
        raise EdgespecError("--evaluate-every tries the draft on its target; give --target")
    stage = load_stage("train")
    progress: Progress = terminal if stage.is_main_process() else SILENT
    with going_on(progress, CHECKPOINT_KEPT):
        facts: dict[str, Any] = stage.run_alignment(
            checkpoint_named(draft, "draft"),
            answers,
            out,
            stage.AlignSection(
                loss=loss,
                online=online,
                tokens=parse_count(tokens, "--tokens"),
                batch=batch,
                micro_batch=micro_batch,
                length=length,
                learning_rate=learning_rate,
                optimizer=optimizer,
                share=share if data else 0.0,
                data=[stage.read_source(text) for text in data or []],
                evaluate_every=evaluate_every,
                checkpoint_every=checkpoint_every,
                precision=precision,
                compiled=compiled,
            ),
            target=None if target is None else checkpoint_named(target, "target"),
            prompts=heldout_prompts(prompts) if evaluate_every else [],
            seed=seed,
            progress=progress,
        )
    if stage.is_main_process():
        stopped = stage.stopped_at(facts, out)
        end_training(terminal, {"out": str(out), **facts}, f"draft: {facts['model']}", stopped)
