"""edgespec train: run, evaluate"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from ..bundled import bundled_checkpoints
from ..console import Terminal
from ..errors import EdgespecError
from ..pair import Pair, installed_versions
from ..stages import load_stage

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Train a target and its draft from a recipe, or evaluate a draft.",
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
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
    acceptance = _evaluate_checkpoints(Path(made["target"]), Path(made["draft"]), terminal, gamma=3)
    card = out / "MODEL_CARD.md"
    versions = installed_versions("transformers", "torch", "nncf", "optimum") | {"stdlib": _python_version()}
    card.write_text(stage.model_card(read, out, versions, acceptance), encoding="utf-8", newline="\n")
    terminal.say(f"target: {made['target']}\ndraft: {made['draft']}\ncard: {card}")
    terminal.answer({**made, "card": str(card), "acceptance": acceptance})


@app.command()
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
        document = _evaluate_checkpoints(*bundled_checkpoints(), terminal, **options)
    else:
        document = _evaluate(Pair.open(pair), terminal, **options)
    if not json_output:
        terminal.table(
            f"Acceptance at gamma {gamma}, temperature {temperature:g}",
            ["task", "acceptance rate", "alpha by position", "block efficiency", "MBSU"],
            [_row(name, figures) for name, figures in [("all", document), *document["by_task"].items()]],
        )
    terminal.answer(document)


def _evaluate_checkpoints(target: Path, draft: Path, terminal: Terminal, **options: Any) -> dict[str, Any]:
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


def _python_version() -> str:
    import platform

    return platform.python_version()
