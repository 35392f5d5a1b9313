"""edgespec demo"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from ..bundled import bundled_checkpoints
from ..console import Terminal
from ..errors import EdgespecError
from ..resources import require_disk
from ..stages import load_stage
from ..staging import require_absent, require_folder

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
    if require_device(device).startswith("NPU"):
        raise EdgespecError(
            "the demo compares modes that an NPU does not run; take --device CPU or GPU, or make a pair for the NPU: "
            "edgespec quantize PAIR -o PAIR2 --for npu"
        )
    require_absent(out)
    checkpoints = bundled_checkpoints()
    require_folder(out.absolute().parent, out.name)
    require_disk(out.absolute().parent, NEED_BYTES)
    out.mkdir()
    try:
        report = _run(terminal, out, checkpoints, device, quick)
    except BaseException:  # an interrupt too: a demo is whole or not there
        shutil.rmtree(out, ignore_errors=True)
        raise
    if not json_output:
        load_stage("bench").print_arms(terminal, report)
    terminal.say(load_stage("bench").verdict_sentence(report))
    page = (out / "report.html").resolve()
    terminal.say(f"the page: {page.as_uri()}")
    terminal.answer(report | {"report_html": str(page)})


def _run(terminal: Terminal, out: Path, checkpoints: tuple[Path, Path], device: str, quick: bool) -> dict[str, Any]:
    target, draft = map(str, checkpoints)
    terminal.say("1/3  the bundled pair to OpenVINO")
    load_stage("export").export_pair(target, draft, out / "pair", progress=terminal)
    terminal.say("2/3  its weights to int8")
    load_stage("quantize").quantize_pair(
        out / "pair", out / "pair-int8", target="int8_sym", draft="int8_sym", progress=terminal
    )
    terminal.say(f"3/3  plain decoding against speculation on {device}")
    report: dict[str, Any] = load_stage("bench").run_bench(
        out / "pair-int8",
        out / "bench",
        device=device,
        prompts="quick" if quick else "code",
        gammas=(2,) if quick else (1, 2, 3, 5),
        max_new_tokens=48 if quick else 96,
        repetitions=1 if quick else 2,
        progress=terminal,
    )
    for name in ("report.json", "report.html"):
        shutil.copyfile(out / "bench" / name, out / name)
    return report
