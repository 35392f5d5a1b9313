"""edgespec bench PAIR"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import Terminal
from ..errors import EdgespecError
from ..stages import load_stage


def run(
    pair: Annotated[Path, typer.Argument(help="A pair directory.")],
    device: Annotated[str, typer.Option(help="CPU, GPU, NPU, ... (see: edgespec devices)")] = "CPU",
    draft_device: Annotated[
        str | None, typer.Option(help="The draft's device, where it is another; several to compare: CPU,GPU.")
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(help="plain,draft,lookup,...; unless given, all that pair and device allow. ? lists every arm."),
    ] = None,
    gamma: Annotated[str | None, typer.Option(help="Tokens the draft proposes a step, e.g. 1,2,3,5 (default).")] = None,
    threshold: Annotated[
        str | None, typer.Option(help="For the arm dynamic: confidence down to which the draft proposes, e.g. 0.3,0.5.")
    ] = None,
    settings: Annotated[
        str, typer.Option(help="auto tries plugin settings on plain decoding first; a name fixes one, e.g. default.")
    ] = "auto",
    prompts: Annotated[
        str, typer.Option(help="A suite (see: edgespec prompts list) or a JSONL file with prompt or turns a line.")
    ] = "code",
    context: Annotated[
        str | None, typer.Option(help="Put other text in front until a prompt has so many tokens, e.g. 1024,4096.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="0 is greedy; above it, the arms that keep the target's distribution.")
    ] = 0.0,
    top_k: Annotated[int, typer.Option(help="Sample from the likeliest k; 0: from all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest that make up this share.")] = 1.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; one with an interrupted run goes on.")
    ] = None,
    repetitions: Annotated[int, typer.Option(help="How often each arm answers each prompt at least.")] = 2,
    max_repetitions: Annotated[
        int | None, typer.Option(help="How often at most, until --precision is reached; unless given, 5.")
    ] = None,
    precision: Annotated[float, typer.Option(help="Half-width of every speed-up's 95 % interval to reach.")] = 0.03,
    budget_minutes: Annotated[float, typer.Option(help="No further repetition is begun past this time.")] = 20.0,
    sameness: Annotated[
        bool, typer.Option(help="Also check every engine in exact f32, and plain in a batch as a control.")
    ] = True,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.")] = 128,
    answer_timeout: Annotated[float, typer.Option(help="Seconds after which an answer is given up.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Seed of the order of measurement and of the intervals.")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure, paired and interleaved, how much faster a pair answers with speculation than without.

    Writes rows.jsonl, rows.csv and report.json, .html, .md, .csv. An interrupted run goes on when it is given its --out
    again. Another run's figures beside it: edgespec compare.
    """
    terminal = Terminal(json_output)
    bench = load_stage("bench")
    if arms == "?":
        print(bench.kinds_listed())
        return
    if answer_timeout <= 0 or budget_minutes <= 0:
        raise EdgespecError("--answer-timeout and --budget-minutes must be above 0")
    if out is None:
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        out = Path(f"edgespec-bench-{pair.resolve().name}-{stamp}")
    try:
        report: dict[str, Any] = bench.run_bench(
            pair,
            out,
            device=device,
            draft_device=[name.strip() for name in draft_device.split(",")] if draft_device else None,
            arms=bench.parse_modes(arms),
            gammas=bench.parse_gammas(gamma),
            thresholds=bench.parse_thresholds(threshold),
            settings=settings,
            prompts=prompts,
            contexts=bench.parse_contexts(context),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            max_new_tokens=max_new_tokens,
            repetitions=repetitions,
            max_repetitions=max(repetitions, 5) if max_repetitions is None else max_repetitions,
            precision=precision,
            budget_s=budget_minutes * 60,
            sameness=sameness,
            answer_timeout_s=answer_timeout,
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
