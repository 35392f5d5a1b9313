"""edgespec package PAIR --ovms DIR"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import Terminal
from ..errors import EdgespecError
from ..stages import load_stage


def run(
    pair: Annotated[Path, typer.Argument(help="A pair directory.")],
    ovms: Annotated[Path | None, typer.Option(help="Where the model repository goes; it must not exist yet.")] = None,
    name: Annotated[str | None, typer.Option(help="The served model's name; unless given, the directory's.")] = None,
    device: Annotated[str, typer.Option(help="Where the target runs there: CPU, GPU, NPU.")] = "CPU",
    draft_device: Annotated[str | None, typer.Option(help="Where the draft runs, if elsewhere.")] = None,
    gamma: Annotated[
        int | None, typer.Option(help="Tokens proposed a step; unless given, the tuned profile's.")
    ] = None,
    cache_gb: Annotated[
        int | None,
        typer.Option(help="Gigabytes of the target's KV cache; the draft's is on top. Not on an NPU. [default: 4]"),
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="Release of OVMS, e.g. 2026.3; unless given, the newest known.")
    ] = None,
    kserve: Annotated[
        bool, typer.Option("--kserve", help="Also write KServe's ServingRuntime and InferenceService.")
    ] = False,
    storage_uri: Annotated[
        str | None, typer.Option(help="Where KServe will find the repository; unless given, pvc://models/NAME.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """A pair as a model repository that OpenVINO Model Server serves as it is, for Kubernetes too."""
    terminal = Terminal(json_output)
    if ovms is None:
        raise EdgespecError("say where the repository goes: edgespec package PAIR --ovms DIR")
    if storage_uri is not None and not kserve:
        raise EdgespecError("--storage-uri is for --kserve; add that, or leave it out")
    stage = load_stage("package")
    served = name or pair.resolve().name
    result: dict[str, Any] = stage.package_for_ovms(
        pair,
        ovms,
        name=served,
        device=device.upper(),
        draft_device=draft_device.upper() if draft_device else None,
        gamma=gamma,
        cache_gb=cache_gb,
        release=release or stage.RELEASES[-1],
        storage_uri=(storage_uri or f"pvc://models/{served}") if kserve else None,
        progress=terminal,
    )
    for note in result["notes"]:
        terminal.say(f"note: {note}")
    more = " ".join(result["arguments"])
    terminal.say(f"the repository: {result['repository']}; serve it with:")
    terminal.say(f"  ovms --rest_port 8000 --config_path {ovms / 'config.json'}{' ' + more if more else ''}")
    if kserve:
        terminal.say(f"or upload it and run: kubectl apply -f {ovms / 'kserve'}")
    terminal.answer(result)
