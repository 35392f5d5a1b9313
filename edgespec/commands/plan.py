"""edgespec plan TARGET"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from ..amounts import parse_bytes, parse_count
from ..cache import cache_folder
from ..console import Terminal
from ..errors import EdgespecError
from ..stages import load_stage


def run(
    target: Annotated[
        str, typer.Argument(help="A built-in shape (llama-3.1-8b), a config.json or its folder, or a hub id.")
    ],
    drafts: Annotated[
        str | None,
        typer.Option(help="Shapes, such as 6x512,4x1024-untied,qwen3-0.6b. [default: a grid of depth and width]"),
    ] = None,
    draft_parameters: Annotated[
        str | None, typer.Option(help="Of the grid: parameters at most, such as 50M. [default: 3 % of the target's]")
    ] = None,
    device: Annotated[str, typer.Option(help="An OpenVINO device.")] = "CPU",
    draft_device: Annotated[str | None, typer.Option(help="Another one for the draft.")] = None,
    precision: Annotated[str, typer.Option(help="The target's weights, as edgespec quantize names formats.")] = "int4",
    draft_precision: Annotated[str, typer.Option(help="The draft's.")] = "int8",
    settings: Annotated[
        str, typer.Option(help="Plugin settings: auto tries default, f32 and f32-dq128; or one of them.")
    ] = "auto",
    acceptance: Annotated[
        Path | None,
        typer.Option(help="JSON of edgespec train evaluate, or a bench's report.json, to place on the map."),
    ] = None,
    memory: Annotated[str | None, typer.Option(help="Memory that the pair may take, such as 16GB.")] = None,
    hardware: Annotated[
        str | None, typer.Option(help="What would train: h100, 8xgaudi2, ..., or sustained TFLOP/s as a number.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="To measure in; building twins comes on top.")] = 10.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of plan.html, plan.json, measured.jsonl. [default: in the cache]")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure anew what was measured before.")] = False,
    cache_limit: Annotated[str, typer.Option(help="What the cache of twins may keep.")] = "24GB",
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """What would a draft gain on this machine, before anyone trains one?

    Models of exactly these shapes are built with random weights (twins) and measured here.
    """
    from .. import machine
    from ..devices import require_device, require_mode
    from ..settings import PLAIN_CANDIDATES

    terminal = Terminal(json_output)
    stage = load_stage("plan")
    for where in (device, draft_device):
        if where is not None:
            require_mode(require_device(where), "draft")
            if where.upper().startswith("NPU"):
                raise EdgespecError(
                    "an NPU runs models of fixed shape only, which plan cannot time; plan for CPU or GPU, and bench "
                    "a pair on the NPU"
                )
    if settings != "auto" and settings not in PLAIN_CANDIDATES:
        raise EdgespecError(f"there are no settings '{settings}'; choose auto, {', '.join(PLAIN_CANDIDATES)}")
    tried = PLAIN_CANDIDATES if settings == "auto" else {settings: PLAIN_CANDIDATES[settings]}
    memory_bytes = None if memory is None else parse_bytes(memory, "--memory")
    trainer = None if hardware is None else stage.find_hardware(hardware)
    profiles = [] if acceptance is None else stage.read_acceptance(acceptance)
    kind = "gpu" if device.upper().startswith("GPU") else "cpu"

    quantize = load_stage("quantize")
    for wanted in (precision, draft_precision):
        if wanted not in stage.UNCOMPRESSED:
            quantize.check_request(quantize.Request(device=kind, target=wanted))

    spec = stage.make_target(target, precision, kind)
    if drafts is None:
        budget = None if draft_parameters is None else parse_count(draft_parameters, "--draft-parameters")
        shapes = stage.propose(spec, draft_precision, budget)
        terminal.say(f"Drafts of a grid: {', '.join(one.name for one in shapes)}")
    elif draft_parameters is not None:
        raise EdgespecError("--draft-parameters bounds the grid, and --drafts names shapes instead; drop one of them")
    else:
        shapes = stage.make_drafts([name.strip() for name in drafts.split(",") if name.strip()], spec, draft_precision)
    if not shapes:
        raise EdgespecError("--drafts names no shape; give some, such as 6x512,4x1024, or leave it out for a grid")

    store = stage.Store(cache_folder() / "twins", parse_bytes(cache_limit, "--cache-limit"))
    request = stage.Request(spec, shapes, device, draft_device, tried, minutes)
    folder = out or cache_folder() / "plans" / f"{spec.folder_name}-{device}-{draft_device or device}"
    identity = {
        "target": spec.folder_name,
        "device": device,
        "draft device": draft_device or device,
        "machine": machine.fingerprint(),
    }
    rows = stage.Rows(folder, identity, fresh=fresh)
    if len(rows):
        terminal.say(f"Going on with what was measured before ({len(rows)} rows in '{folder}'); --fresh measures anew.")
    measured = stage.measure(
        request,
        store,
        stage.Makers(export=load_stage("export").export_pair, quantize=quantize.quantize_pair),
        stage.RealMachine(device, draft_device),
        rows,
        progress=terminal,
    )
    document = stage.answer(
        measured,
        device=device,
        draft_device=draft_device,
        machine=machine.describe(),
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        memory_bytes=memory_bytes,
        hardware=trainer,
        profiles=profiles,
        cache={"folder": str(store.folder), "bytes": store.bytes, "limit_bytes": store.limit_bytes},
    )
    page = stage.write_results(folder, document)
    if not json_output:
        _show(terminal, stage, document)
        terminal.say(
            f"Twins are kept in '{store.folder}': {store.bytes / 1e9:.1f} of {store.limit_bytes / 1e9:.0f} GB."
        )
    terminal.answer({**document, "page": str(page)}, f"page: {page}")


def _show(terminal: Terminal, stage: Any, document: dict[str, Any]) -> None:
    for sentence in stage.sentences(document):
        terminal.say(sentence)
    terminal.table(
        f"Twins of {document['target']['shape']} ({document['target']['precision']}) with drafts, "
        f"{document['device']}, "
        f"settings {document['settings']}",
        ["draft twin", "M", "c", "v(4)", "break-even alpha", "best gamma", "gain, text", "code", "pair GB"],
        [
            [
                draft["shape"],
                f"{draft['parameters'] / 1e6:,.1f}",
                f"{draft['c']:.3f}",
                f"{draft['v']['4']:.2f}",
                "never" if draft["breakeven_acceptance"] is None else f"{draft['breakeven_acceptance']:.2f}",
                str(draft["best_gamma"]),
                f"{draft['published']['gain']['text']:.2f}x",
                f"{draft['published']['gain']['code']:.2f}x",
                f"{draft['pair_memory_bytes'] / 1e9:.1f}",
            ]
            for draft in document["drafts"]
        ],
    )
    terminal.table(
        "Predicted and measured, real answers of twins",
        ["draft twin", "alpha", "gamma", "predicted", "measured", "error", "answers", ""],
        [
            [
                point["draft"],
                f"{point['alpha']:g}",
                str(point["gamma"]),
                f"{point['predicted_speedup']:.2f}x",
                f"{point['measured_speedup']:.2f}x",
                f"{point['error']:+.1%}",
                str(point["answers"]),
                "held back" if point["held_back"] else "fitted",
            ]
            for point in document["validation"]
        ],
    )
