"""edgespec train init: a draft for a target, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...amounts import parse_count
from ...bundled import checkpoint_named
from ...console import Terminal
from ...errors import EdgespecError
from ...stages import load_stage
from .options import Beginning, Head, JsonOption


def init(
    target: Annotated[str, typer.Argument(help="A Hugging Face directory or hub id, or 'bundled'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The draft's directory; it must not exist.")],
    params: Annotated[str | None, typer.Option(help="About how many parameters: 50M. Shallow and wide.")] = None,
    shape: Annotated[str | None, typer.Option(help="LAYERSxHIDDEN, as in 4x640.")] = None,
    from_target: Annotated[
        Beginning,
        typer.Option(help="scratch: random weights. copy: layers of the target. project: the same, made narrower."),
    ] = "scratch",
    layers: Annotated[
        str | None, typer.Option(help="The target's layers to copy: 0,5,11. [default: evenly spread]")
    ] = None,
    head: Annotated[Head, typer.Option(help="Tied to the embedding or of its own.")] = "target",
    seed: Annotated[int, typer.Option(help="Of the random weights.")] = 0,
    json_output: JsonOption = False,
) -> None:
    """A draft's configuration and first weights: the target's tokenizer and ids, a shape that is quick to run."""
    terminal = Terminal(json_output)
    size = parse_count(params, "--params") if params else None
    chosen = _layers(layers) if layers else None
    stage = load_stage("train")
    config = stage.InitConfig(
        shape=stage.Shape.parse(shape) if shape else None,
        parameters=size,
        beginning=from_target,
        layers=chosen,
        head=head,
        seed=seed,
    )
    record = stage.make_draft(checkpoint_named(target, "target"), config, out, terminal)
    terminal.say(
        f"draft: {record['draft']} ({record['shape']}, {record['parameters'] / 1e6:.1f} M parameters, of which "
        f"{record['embedding_parameters'] / 1e6:.1f} M embedding; {record['head']} head)"
    )
    terminal.answer(record)


def _layers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise EdgespecError(f"--layers is '{text}'; give the target's layers by number, as in 0,5,11") from None
