"""edgespec generate PAIR PROMPT"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..console import Terminal
from ..errors import EdgespecError
from ..runtime import Options, Piece, SpecPipeline


def run(
    pair: Annotated[Path, typer.Argument(help="A pair directory.")],
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads it from standard input.")],
    device: Annotated[str, typer.Option(help="AUTO, CPU, GPU, NPU, ... (see: edgespec devices)")] = "AUTO",
    draft_device: Annotated[str | None, typer.Option(help="The draft's device, where it is another.")] = None,
    mode: Annotated[
        str, typer.Option(help="auto, plain, draft, lookup, eagle3, native-draft, native-copy, ...")
    ] = "auto",
    gamma: Annotated[int | None, typer.Option(help="Tokens proposed a step, in a mode other than auto.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to generate at most.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option(help="Keep the k likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Keep the likeliest tokens of this mass; 1: all.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A string that ends the answer; may be repeated.")] = None,
    json_schema: Annotated[
        Path | None, typer.Option(help="A file with the JSON schema that the answer must follow.")
    ] = None,
    adapter: Annotated[list[Path] | None, typer.Option(help="A LoRA file (.safetensors); may be repeated.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say how it is decided what runs where.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Continue a prompt with a pair, streaming.

    The continuation goes to stdout, the figures to stderr.
    """
    text = _standard_input() if prompt == "-" else prompt
    options = Options(
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=stop or ()
    )
    if json_schema is not None:
        options["json_schema"] = _read(json_schema)
    terminal = Terminal(json_output)
    with terminal.task(f"loading {pair.name}"):
        pipeline = SpecPipeline(
            pair,
            device=device,
            draft_device=draft_device,
            mode=mode,
            gamma=gamma,
            adapters=dict.fromkeys(adapter or (), 1.0),
        )

    def show(piece: Piece) -> None:
        if not json_output:
            print(piece.text, end="", flush=True)

    with pipeline:
        result = pipeline.generate(text, on_piece=show, **options)
        explanation = pipeline.explain() if explain else None
    metrics = result.metrics
    if not json_output:
        print(flush=True)
        accepted = "" if metrics.acceptance_rate is None else f", {metrics.acceptance_rate:.0%} of proposals accepted"
        terminal.say(
            f"{len(result.token_ids)} tokens, {metrics.tokens_per_second:.1f} tokens/s, first after "
            f"{metrics.ttft_ms or 0:.0f} ms, mode {metrics.mode} ({metrics.why}){accepted}"
        )
        if explanation is not None:
            terminal.say(str(explanation))
    terminal.answer(
        {
            "text": result.text,
            "token_ids": result.token_ids,
            "finish_reason": result.finish_reason,
            "metrics": asdict(metrics),
            **({"explanation": list(explanation.lines)} if explanation else {}),
        }
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EdgespecError(f"the JSON schema '{path}' cannot be read: {error}") from error


def _standard_input() -> str:
    """Standard input as UTF-8, whatever code page the console has."""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EdgespecError(f"standard input is not UTF-8 text (byte {error.start}); convert it first") from error
