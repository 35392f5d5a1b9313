"""edgespec train run: a whole recipe, stage by stage."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated

import typer

from ...console import Terminal
from ...pair import Pair, installed_versions
from ...stages import load_stage
from .evaluate import evaluate_checkpoints
from .options import JsonOption


def run(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe; without one, the bundled pair's.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Work folder; stages made already are kept.")] = Path(
        "edgespec-train"
    ),
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done and how long, and stop.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Run a recipe: corpus, tokenizer, target, draft, the target's own text, alignment, model card."""
    terminal = Terminal(json_output)
    stage = load_stage("train")
    read = stage.read_recipe(recipe)
    terminal.say(f"the recipe trains for {read.minutes():.0f} minutes in all")
    if plan:
        terminal.answer({"minutes": read.minutes(), "recipe": read.model_dump()})
        return

    def export_target(checkpoint: Path, folder: Path) -> Path:
        made: Pair = load_stage("export").export_pair(str(checkpoint), None, folder, progress=terminal)
        return made.target

    made = stage.run_recipe(read, out, export_target, terminal)
    acceptance = evaluate_checkpoints(Path(made["target"]), Path(made["draft"]), terminal, gamma=3)
    card = out / "MODEL_CARD.md"
    versions = installed_versions("transformers", "torch", "nncf", "optimum") | {"stdlib": platform.python_version()}
    card.write_text(stage.model_card(read, out, versions, acceptance), encoding="utf-8", newline="\n")
    terminal.say(f"target: {made['target']}\ndraft: {made['draft']}\ncard: {card}")
    terminal.answer({**made, "card": str(card), "acceptance": acceptance})
