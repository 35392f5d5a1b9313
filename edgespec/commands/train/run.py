"""edgespec train run: a whole recipe, stage by stage."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from ...console import Terminal
from ...pair import Pair, installed_versions
from ...stages import load_stage
from .evaluate import heldout_prompts, show_acceptance
from .options import JsonOption, going_on


def run(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe; without one, the bundled pair's.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Work folder; stages made already are kept.")] = Path(
        "edgespec-train"
    ),
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what each stage takes on this machine, start nothing.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Run a recipe: a draft for a target, from its shape to its acceptance in service. Run again, it goes on."""
    terminal = Terminal(json_output)
    stage = load_stage("train")
    read = stage.read_recipe(recipe)
    pipeline = stage.Pipeline(read, out, recipe_tools(terminal), terminal)
    if plan:
        lines = stage.plan_recipe(pipeline)
        whole = stage.total(lines)
        _show_plan(lines, whole, terminal)
        terminal.answer({"stages": [vars(line) for line in lines], "total": whole, "recipe": read.written()})
        return
    with going_on(terminal, f"stopped; the stages made so far are kept in '{out}', and the same command goes on"):
        folders = pipeline.run()
    title = f"{recipe.stem if recipe else 'bundled'} - edgespec train"
    page = stage.write_page(out, list(folders), title)
    facts = {name: stage.stage_facts(folder) for name, folder in folders.items()}
    versions = installed_versions("transformers", "torch", "nncf", "optimum") | {"stdlib": platform.python_version()}
    card = out / "MODEL_CARD.md"
    card.write_text(stage.model_card(read, facts, versions), encoding="utf-8", newline="\n")
    documents = facts["evaluate"]["drafts"] if "evaluate" in facts else {}
    for name, found in documents.items():
        for document in found:
            terminal.say(f"\n{name}")
            show_acceptance(document, terminal)
    for name, folder in folders.items():
        terminal.say(f"{name}: {folder}")
    terminal.say(f"card: {card}\npage: {page}")
    made: dict[str, Any] = {name: str(folder) for name, folder in folders.items()}
    terminal.answer({"stages": made, "card": str(card), "page": str(page), "acceptance": documents})


def recipe_tools(terminal: Terminal) -> Any:
    """What a recipe needs of other stages."""

    def export(checkpoint: str, folder: Path) -> Path:
        made: Pair = load_stage("export").export_pair(checkpoint, None, folder, progress=terminal)
        return made.target

    def pair(target: Path, draft: Path, folder: Path) -> Pair:
        made: Pair = load_stage("export").adopt_pair(target, draft, folder, progress=terminal)
        return made

    return load_stage("train").Tools(export, pair, heldout_prompts)


def _show_plan(lines: list[Any], whole: dict[str, Any], terminal: Terminal) -> None:
    def row(name: str, state: str, of: Any) -> list[str]:
        flops = of("flops")
        return [
            name,
            state,
            "" if of("tokens") is None else f"{of('tokens') / 1e6:,.2f} M",
            "" if flops is None else f"{flops:.2g}",
            _duration(of("seconds")),
            _bytes(of("disk_bytes")),
            _bytes(of("memory_bytes")),
        ]

    rows = [
        row(line.stage, "made" if line.made else "to do", lambda name, line=line: getattr(line, name)) for line in lines
    ]
    rows.append(row("all to do", "", whole.get))
    terminal.table(
        "What the recipe takes on this machine, at most and roughly",
        ["stage", "", "tokens", "FLOPs", "time", "disk", "memory"],
        rows,
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _bytes(count: float | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
