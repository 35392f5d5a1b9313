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
_OPEN = {
    "hf:NAME[:SPLIT][@REVISION]": "Any dataset of the Hugging Face hub, or a folder, with a column of prompts.",
    "FILE": "JSON lines with 'prompt' (a text to continue) or 'turns' (a chat).",
}
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("list")
def list_suites(json_output: JsonOption = False) -> None:
    """What --prompts can name, with a line on each."""
    listed = load_stage("bench").choices()
    width = max(len(item.name) for item in listed) + 2
    lines = [f"{item.name:<{width}}{item.description}{_how_to_get(item)}" for item in listed]
    lines += [f"{name:<{width}}{description}" for name, description in _OPEN.items()]
    Terminal(json_output).answer({"suites": [vars(item) for item in listed]}, text="\n".join(lines))


@app.command()
def show(
    suite: Annotated[str, typer.Argument(help="A name out of 'edgespec prompts list', or a JSONL file.")],
    id: Annotated[str | None, typer.Option("--id", help="One prompt, in full, on stdout.")] = None,
    json_output: JsonOption = False,
) -> None:
    """The prompts of a suite, a line each; with --id one of them in full."""
    found = load_stage("bench").load_suite(suite)
    prompts = found.prompts
    if id is not None:
        prompts = tuple(prompt for prompt in prompts if prompt.id == id)
        if not prompts:
            raise EdgespecError(f"'{found.name}' has no prompt '{id}'; see: edgespec prompts show {suite}")
        text = "\n\n".join(prompts[0].turns)
    else:
        lines = [f"{found.name}: {len(prompts)} prompts, sha256 {found.sha256}"]
        lines += [
            f"{p.id:<17} {p.category:<13} {_kind(p):<8}{_words(p):>5} words  {_beginning(p.text)}" for p in prompts
        ]
        text = "\n".join(lines)
    document = {
        "suite": found.name,
        "sha256": found.sha256,
        "count": len(found.prompts),
        "prompts": [vars(prompt) for prompt in prompts],
    }
    Terminal(json_output).answer(document, text=text)


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


def _how_to_get(item: Any) -> str:
    if item.ready:
        return ""
    if item.name.startswith("hf:"):
        return ' Needs "edgespec[prompts]".'
    return f" To fetch: edgespec prompts fetch {item.name}"


def _kind(prompt: Any) -> str:
    """A text to continue, or how many turns a chat has."""
    return f"{len(prompt.turns)} turn{'s' * (len(prompt.turns) > 1)}" if prompt.chat else "text"


def _words(prompt: Any) -> int:
    return len(" ".join(prompt.turns).split())


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 48 else f"{line[:47]}…"
