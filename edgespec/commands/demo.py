"""edgespec demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..bundled import bundled_checkpoints
from ..console import Terminal
from ..stages import load_stage
from ..staging import require_absent, require_disk

NEED_BYTES = 600_000_000
"""Disk that the three pairs and the report fill, with some to spare."""


def run(
    out: Annotated[Path, typer.Option(help="Where the pairs and the report go; it must not exist yet.")] = Path(
        "edgespec-demo"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer prompts and arms: a check, not a measurement.")] = False,
    device: Annotated[str, typer.Option(help="CPU, GPU, ... (see: edgespec devices)")] = "CPU",
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """The whole thing on the bundled pair: export, quantize, bench, verdict. Offline, in minutes."""
    from ..devices import require_device

    terminal = Terminal(json_output)
    require_device(device)
    require_absent(out)
    target, draft = bundled_checkpoints()
    require_disk(out.absolute().parent, NEED_BYTES)
    terminal.say(f"1/3  exporting the bundled pair to OpenVINO ({out / 'pair'})")
    stage_export, stage_quantize, stage_bench = (load_stage(name) for name in ("export", "quantize", "bench"))
    out.mkdir(parents=True)
    stage_export.export_pair(str(target), str(draft), out / "pair", progress=terminal)
    terminal.say(f"2/3  compressing its weights to int8 ({out / 'pair-int8'})")
    stage_quantize.quantize_pair(
        out / "pair", out / "pair-int8", target="int8_sym", draft="int8_sym", progress=terminal
    )
    terminal.say(f"3/3  measuring plain decoding against speculation on {device} ({out / 'bench'})")
    report = stage_bench.run_bench(
        out / "pair-int8",
        out / "bench",
        device=device,
        prompts="quick" if quick else "code",
        gammas=(2,) if quick else (1, 2, 3, 5),
        max_new_tokens=48 if quick else 128,
        repetitions=1 if quick else 2,
        progress=terminal,
    )
    for name in ("report.json", "report.html"):
        (out / name).write_bytes((out / "bench" / name).read_bytes())
    page = (out / "report.html").resolve()
    terminal.say("")
    if not json_output:
        stage_bench.print_arms(terminal, report)
    terminal.say(stage_bench.verdict_sentence(report))
    terminal.say(f"the page: {page.as_uri()}")
    terminal.answer(report | {"report_html": str(page)})
