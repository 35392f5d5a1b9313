"""edgespec train evaluate: how often a draft is believed, by real speculative decoding."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from ...bundled import bundled_checkpoints
from ...console import Terminal
from ...errors import EdgespecError
from ...pair import Pair
from ...stages import load_stage
from .options import JsonOption


def evaluate(
    pair: Annotated[Path | None, typer.Argument(help="A pair directory.")] = None,
    bundled: Annotated[bool, typer.Option("--bundled", help="The pair that ships with edgespec.")] = False,
    gamma: Annotated[int, typer.Option(help="Tokens proposed a step.", min=1)] = 3,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens generated for each prompt.", min=1)] = 128,
    prompts: Annotated[str, typer.Option(help="quick, code, full or a JSONL file.")] = "code",
    device: Annotated[str, typer.Option(help="CPU, GPU, ... (see: edgespec devices)")] = "CPU",
    json_output: JsonOption = False,
) -> None:
    """Acceptance of a pair's draft on prompts, by real speculative decoding."""
    terminal = Terminal(json_output)
    if bundled == (pair is not None):
        raise EdgespecError("give either a pair directory or --bundled")
    options: dict[str, Any] = {
        "gamma": gamma,
        "temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "prompts": prompts,
        "device": device,
    }
    if pair is None:
        document = evaluate_checkpoints(*bundled_checkpoints(), terminal, **options)
    else:
        document = _evaluate(Pair.open(pair), terminal, **options)
    if not json_output:
        terminal.table(
            f"Acceptance at gamma {gamma}, temperature {temperature:g}",
            ["task", "acceptance rate", "alpha by position", "block efficiency", "MBSU"],
            [_row(name, figures) for name, figures in [("all", document), *document["by_task"].items()]],
        )
    terminal.answer(document)


def evaluate_checkpoints(target: Path, draft: Path, terminal: Terminal, **options: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a mapped file may outlive us on Windows
        pair = load_stage("export").export_pair(str(target), str(draft), Path(folder) / "pair", progress=terminal)
        return _evaluate(pair, terminal, **options)


def _evaluate(pair: Pair, terminal: Terminal, *, prompts: str = "code", **options: Any) -> dict[str, Any]:
    suite = load_stage("bench").load_suite(prompts)
    texts = [(prompt.category, prompt.text) for prompt in suite.prompts]
    document: dict[str, Any] = load_stage("train").evaluate_pair(pair, texts, progress=terminal, **options)
    return document


def _row(name: str, figures: dict[str, Any]) -> list[str]:
    def shown(value: float | None, digits: int) -> str:
        return "unknown" if value is None else f"{value:.{digits}f}"

    alphas = " ".join(shown(alpha, 2) for alpha in figures["alpha"])
    rates = [shown(figures["acceptance_rate"], 3), alphas]
    return [name, *rates, shown(figures["block_efficiency"], 2), shown(figures["mbsu"], 2)]
