"""edgespec prompts: list, show, fetch"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..console import Terminal
from ..errors import EdgespecError
from ..stages import load_stage

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="The prompts that bench can ask: what there is, what they say, and those of others to fetch.",
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("list")
def list_suites(json_output: JsonOption = False) -> None:
    """What --prompts can name, with a line on each."""
    terminal = Terminal(json_output)
    listed = load_stage("bench").choices()
    if not json_output:
        terminal.table(
            "--prompts",
            ["name", "prompts", "here", "what"],
            [
                [item.name, "" if item.prompts is None else str(item.prompts), _here(item), item.description]
                for item in listed
            ],
        )
        terminal.say(
            "Besides: hf:NAME[:SPLIT][@REVISION] for any dataset with a column of prompts, and any JSONL file with "
            "'prompt' (a text to continue) or 'turns' (a chat) on each line."
        )
    terminal.answer({"suites": [vars(item) for item in listed]})


@app.command()
def show(
    suite: Annotated[str, typer.Argument(help="A name out of 'edgespec prompts list', or a JSONL file.")],
    id: Annotated[str | None, typer.Option("--id", help="One prompt, in full, on stdout.")] = None,
    json_output: JsonOption = False,
) -> None:
    """The prompts of a suite, a line each; with --id one of them in full."""
    terminal = Terminal(json_output)
    found = load_stage("bench").load_suite(suite)
    prompts = found.prompts
    if id is not None:
        prompts = tuple(prompt for prompt in prompts if prompt.id == id)
        if not prompts:
            raise EdgespecError(f"'{found.name}' has no prompt '{id}'; see: edgespec prompts show {suite}")
    elif not json_output:
        terminal.table(
            f"{found.name}: {len(prompts)} prompts, sha256 {found.sha256[:16]}",
            ["id", "task", "turns", "words", "begins"],
            [[p.id, p.category, _turns(p), str(len(" ".join(p.turns).split())), _beginning(p.text)] for p in prompts],
        )
    document = {
        "suite": found.name,
        "sha256": found.sha256,
        "count": len(found.prompts),
        "prompts": [vars(prompt) for prompt in prompts],
    }
    terminal.answer(document, text="\n\n".join(prompts[0].turns) if id is not None else None)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A suite of others, such as spec-bench.")], json_output: JsonOption = False
) -> None:
    """Fetch a suite of others once, at a pinned commit and hash, into the user's cache."""
    terminal = Terminal(json_output)
    bench = load_stage("bench")
    path = bench.fetch(name, terminal)
    terminal.say(f"{path}\nuse it with: edgespec bench PAIR --prompts {name}")
    download = bench.DOWNLOADS[name]
    terminal.answer({"name": name, "path": str(path), "sha256": download.sha256, "licence": download.licence})


def _here(item: Any) -> str:
    return "yes" if item.ready else "to fetch"


def _turns(prompt: Any) -> str:
    return str(len(prompt.turns)) if prompt.chat else "text"


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 48 else f"{line[:47]}…"
