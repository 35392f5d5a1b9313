"""edgespec quantize PAIR -o PAIR2"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..console import Terminal
from ..stages import load_stage


def run(
    pair: Annotated[Path, typer.Argument(help="A pair directory as edgespec export made it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The pair directory to make; must not exist.")],
    device: Annotated[str, typer.Option("--for", help="What the pair will run on: cpu, gpu or npu.")] = "cpu",
    target: Annotated[
        str | None, typer.Option(help="int4, int4_sym, int4_asym, int8, int8_sym, none. [default: int4]")
    ] = None,
    draft: Annotated[
        str | None, typer.Option(help="The same for the draft. [default: int8, for an npu int4_sym]")
    ] = None,
    group_size: Annotated[
        int | None, typer.Option(help="Weights that share a scale in int4; -1: a whole row. [default: 128]")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compress a pair's weights to int8 or int4.

    No calibration data is needed. The pair it reads stays as it is.
    """
    terminal = Terminal(json_output)
    made, rows = load_stage("quantize").quantize_pair(
        pair, output, target=target, draft=draft, group_size=group_size, device=device, progress=terminal
    )
    if not json_output:
        terminal.table(
            str(made.root),
            ["model", "before", "after", "smaller", "bits/weight", "weights (matrices)"],
            [
                [
                    row.role,
                    f"{row.bytes_before / 1e6:,.2f} MB\n{row.precision_before}",
                    f"{row.bytes_after / 1e6:,.2f} MB\n{row.precision_after}",
                    f"{row.bytes_before / row.bytes_after:.2f}x",
                    f"{row.bits_per_weight:.2f}",
                    "\n".join(f"{share:.0%} {name} ({row.matrices[name]})" for name, share in row.shares.items()),
                ]
                for row in rows
            ],
        )
    terminal.answer({"pair": str(made.root), "models": [asdict(row) for row in rows]}, f"pair ready: {made.root}")
