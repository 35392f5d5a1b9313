"""edgespec verify PAIR"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import Terminal
from ..errors import EdgespecError
from ..sampling import Sampling
from ..stages import load_stage


def run(
    pair: Annotated[Path, typer.Argument(help="A pair directory.")],
    device: Annotated[str, typer.Option(help="CPU, GPU, ... (see: edgespec devices)")] = "CPU",
    draft_device: Annotated[str | None, typer.Option(help="The draft's device, where it is another.")] = None,
    arms: Annotated[
        str | None,
        typer.Option(help="plain,draft,lookup,native-draft,... or all; unless given, one of each kind of speculation."),
    ] = None,
    gamma: Annotated[int | None, typer.Option(help="Tokens proposed a step; unless given, each arm's own.")] = None,
    temperature: Annotated[float, typer.Option(help="Above 0, sampled answers are checked too.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Keep the likeliest tokens up to this sum; 1 keeps all.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Keep this many of the likeliest tokens; 0 keeps all.")] = 0,
    samples: Annotated[int, typer.Option(help="Sampled answers an arm gives to each of three prompts.")] = 1500,
    tokens: Annotated[int, typer.Option(help="First tokens of a sampled answer that are compared, 1 to 4.")] = 2,
    prompts: Annotated[
        str, typer.Option(help="quick, code, ..., or a JSONL file (see: edgespec prompts list).")
    ] = "code",
    exact: Annotated[
        bool,
        typer.Option(
            "--exact/--default-precision",
            help="Round nothing, so that words must be equal; or run as OpenVINO does, beside a control.",
        ),
    ] = True,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of a greedy answer at most.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the samples and of the null distribution.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for verify.json; it must not exist yet.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> int:
    """Does speculation change what the model says? Exit code 1 when it does.

    Greedy answers are compared with plain decoding's, token for token, and every difference comes with how near a tie
    it was. With --temperature, the first tokens of many sampled answers are compared with the target's exact
    distribution: total variation, beside what chance alone makes of it.
    """
    terminal = Terminal(json_output)
    for option, given in (("--top-p", top_p != 1), ("--top-k", top_k != 0)):
        if temperature == 0 and given:
            raise EdgespecError(f"{option} changes sampled answers only; give a --temperature above 0, or leave it out")
    sampling = Sampling(temperature, top_k, top_p)
    bench = load_stage("bench")
    result: dict[str, Any] = bench.run_verify(
        pair,
        device=device,
        draft_device=draft_device,
        arms=[name.strip() for name in arms.split(",")] if arms is not None else None,
        gamma=gamma,
        draws=None if sampling.greedy else bench.Draws(sampling, samples, tokens),
        prompts=prompts,
        exact=exact,
        max_new_tokens=max_new_tokens,
        seed=seed,
        out=out,
        progress=terminal,
    )
    bench.print_verification(terminal, result)
    if out is not None:
        terminal.say(f"result: {(out / 'verify.json').resolve()}")
    terminal.answer(result)
    return 0 if result["passed"] else 1
