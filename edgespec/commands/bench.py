"""edgespec bench PAIR"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import Terminal
from ..stages import load_stage


def run(
    pair: Annotated[Path, typer.Argument(help="A pair directory.")],
    device: Annotated[str, typer.Option(help="CPU, GPU, NPU, ... (see: edgespec devices)")] = "CPU",
    draft_device: Annotated[str | None, typer.Option(help="The draft's device, where it is another.")] = None,
    arms: Annotated[
        str | None, typer.Option(help="plain,draft,lookup; unless given, all that pair and device allow.")
    ] = None,
    gamma: Annotated[str | None, typer.Option(help="Tokens the draft proposes a step, e.g. 1,2,3,5 (default).")] = None,
    settings: Annotated[
        str, typer.Option(help="auto tries plugin settings on plain decoding first; a name fixes one, e.g. default.")
    ] = "auto",
    prompts: Annotated[str, typer.Option(help="quick, code, full, or a JSONL file with a 'prompt' a line.")] = "code",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; one with an interrupted run goes on.")
    ] = None,
    repetitions: Annotated[int, typer.Option(help="How often each arm answers each prompt.")] = 2,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the order of measurement and of the intervals.")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure, paired and interleaved, how much faster a pair answers with speculation than without.

    Writes rows.jsonl, report.json and report.html. An interrupted run goes on when it is given its --out again.
    """
    terminal = Terminal(json_output)
    bench = load_stage("bench")
    if out is None:
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        out = Path(f"edgespec-bench-{pair.resolve().name}-{stamp}")
    try:
        report: dict[str, Any] = bench.run_bench(
            pair,
            out,
            device=device,
            draft_device=draft_device,
            arms=bench.parse_modes(arms),
            gammas=bench.parse_gammas(gamma),
            settings=settings,
            prompts=prompts,
            max_new_tokens=max_new_tokens,
            repetitions=repetitions,
            seed=seed,
            progress=terminal,
        )
    except KeyboardInterrupt:
        if out.is_dir():
            terminal.say(
                f"stopped; what was measured is kept, and the same command with --out {out} goes on from there"
            )
        raise
    bench.print_arms(terminal, report)
    page = (out / "report.html").resolve()
    terminal.say(bench.verdict_sentence(report))
    terminal.say(f"report: {page}")
    terminal.answer({**report, "report_html": str(page)})
