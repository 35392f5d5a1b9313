"""edgespec train evaluate: how often a draft is believed, by real speculative decoding."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from ...bundled import bundled_checkpoints, checkpoint_named
from ...console import Terminal
from ...errors import EdgespecError
from ...pair import Pair
from ...stages import load_stage
from .options import JsonOption


def evaluate(
    pair: Annotated[Path | None, typer.Argument(help="A pair directory.")] = None,
    bundled: Annotated[bool, typer.Option("--bundled", help="The pair that ships with edgespec.")] = False,
    target: Annotated[str | None, typer.Option(help="A target's checkpoint (folder or hub id); with --draft.")] = None,
    draft: Annotated[str | None, typer.Option(help="A draft's checkpoint, as training leaves it.")] = None,
    gamma: Annotated[int, typer.Option(help="Tokens proposed a step.", min=1)] = 3,
    temperature: Annotated[float, typer.Option(help="0 is greedy; the papers' figure is at 0.6.")] = 0.0,
    samples: Annotated[int, typer.Option(help="Answers to each prompt when not greedy.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of what is drawn.", min=0)] = 0,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens generated for each prompt.", min=1)] = 128,
    prompts: Annotated[
        str, typer.Option(help="Held-out prompts (see: edgespec prompts list) or a JSONL file.")
    ] = "code",
    device: Annotated[str, typer.Option(help="CPU, GPU, ... (see: edgespec devices)")] = "CPU",
    json_output: JsonOption = False,
) -> None:
    """Acceptance of a draft on held-out prompts, at any temperature, by real speculative decoding."""
    terminal = Terminal(json_output)
    if (target is None) != (draft is None):
        raise EdgespecError("--target and --draft go together; give both checkpoints")
    if [pair is not None, bundled, target is not None].count(True) != 1:
        raise EdgespecError("give one of a pair directory, --bundled, or --target with --draft")
    options: dict[str, Any] = {
        "gamma": gamma,
        "temperature": temperature,
        "samples": samples,
        "seed": seed,
        "max_new_tokens": max_new_tokens,
        "prompts": prompts,
        "device": device,
    }
    if pair is not None:
        document = _evaluate(Pair.open(pair), terminal, **options)
    elif target is not None and draft is not None:
        models = checkpoint_named(target, "target"), checkpoint_named(draft, "draft")
        document = evaluate_checkpoints(*models, terminal, **options)
    else:
        document = evaluate_checkpoints(*bundled_checkpoints(), terminal, **options)
    if not json_output:
        show_acceptance(document, terminal)
    terminal.answer(document)


def evaluate_checkpoints(target: Path | str, draft: Path | str, terminal: Terminal, **options: Any) -> dict[str, Any]:
    """Both exported as they are (fp16 at most) to a folder that is gone afterwards, and evaluated as a pair."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a mapped file may outlive us on Windows
        pair = load_stage("export").export_pair(str(target), str(draft), Path(folder) / "pair", progress=terminal)
        return _evaluate(pair, terminal, **options)


def _evaluate(pair: Pair, terminal: Terminal, *, prompts: str = "code", **options: Any) -> dict[str, Any]:
    stage = load_stage("train")
    document: dict[str, Any] = stage.evaluate_pair(pair, heldout_prompts(prompts), progress=terminal, **options)
    return document


def heldout_prompts(name: str) -> list[Any]:
    """The first turns of a bench suite as the training stage takes them."""
    held_out = load_stage("train").HeldOut
    suite = load_stage("bench").load_suite(name)
    return [held_out(prompt.category, prompt.text, prompt.chat) for prompt in suite.prompts]


def show_acceptance(document: dict[str, Any], terminal: Terminal) -> None:
    """The figures as a table, all prompts first."""
    terminal.table(
        f"Acceptance at gamma {document['gamma']}, temperature {document['temperature']:g}",
        ["task", "acceptance rate", "95 %", "alpha by position", "block efficiency", "MBSU"],
        [_row(name, figures) for name, figures in [("all", document), *document["by_task"].items()]],
    )


def _row(name: str, figures: dict[str, Any]) -> list[str]:
    def shown(value: float | None, digits: int) -> str:
        return "unknown" if value is None else f"{value:.{digits}f}"

    interval = figures["acceptance_ci95"]
    return [
        name,
        shown(figures["acceptance_rate"], 3),
        "unknown" if interval is None else " to ".join(f"{bound:.3f}" for bound in interval),
        " ".join(shown(alpha, 2) for alpha in figures["alpha"]),
        shown(figures["block_efficiency"], 2),
        shown(figures["mbsu"], 2),
    ]
