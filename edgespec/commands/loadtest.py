"""edgespec loadtest URL"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import Terminal
from ..stages import load_stage
from .serve import read_key


def run(
    url: Annotated[
        str, typer.Argument(help="Of the API, with its version: http://127.0.0.1:8000/v1, or /v3 with OVMS.")
    ],
    clients: Annotated[
        str | None,
        typer.Option(help="Closed loop: so many clients that each ask again at once, e.g. 1,4,16 (default)."),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Open loop: so many requests a second at random times, e.g. 0.5,2.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long each level is offered.")] = 30.0,
    prompts: Annotated[str, typer.Option(help="A suite, or a JSONL file (see: edgespec prompts list).")] = "code",
    model: Annotated[str | None, typer.Option(help="The model's id; unless given, the server's first.")] = None,
    chat: Annotated[
        bool | None, typer.Option("--chat/--completions", help="Which route; unless given, what the model is for.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.")] = 96,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    timeout: Annotated[
        float, typer.Option(help="Seconds without a sign from the server after which a request failed.")
    ] = 300.0,
    api_key_file: Annotated[Path | None, typer.Option(help="File whose first line is the server's API key.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random times and of the intervals.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; it must not exist yet.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Put load on an OpenAI-compatible server: tokens/s, waiting times, errors, at every level asked for.

    Writes rows.jsonl, report.json and report.html.
    """
    terminal = Terminal(json_output)
    stage = load_stage("loadtest")
    suite = load_stage("bench").load_suite(prompts)
    levels = stage.parse_clients(clients or "1,4,16") if clients or not rate else []
    levels += stage.parse_rates(rate) if rate else []
    wish = stage.Ask(
        url=url,
        levels=levels,
        prompts=[(prompt.id, prompt.text) for prompt in suite.prompts],
        suite=suite.name,
        sha256=suite.sha256,
        seconds=seconds,
        model=model,
        chat=chat,
        max_tokens=max_new_tokens,
        temperature=temperature,
        timeout_s=timeout,
        api_key=read_key(api_key_file),
        seed=seed,
    )
    if out is None:
        out = Path(f"edgespec-loadtest-{datetime.now(timezone.utc).strftime('%Y%m%dT%H%M%SZ')}")
    report: dict[str, Any] = stage.run_loadtest(wish, out, terminal)
    stage.print_levels(terminal, report)
    for note in report["notes"]:
        terminal.say(f"note: {note}")
    page = (out / "report.html").resolve()
    terminal.say(f"report: {page}")
    terminal.answer({**report, "report_html": str(page)})
